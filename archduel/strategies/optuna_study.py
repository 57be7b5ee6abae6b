"""A search inside a study of Optuna: what its samplers share as strategies, whichever it is and whatever it remembers.

Samplers that look at each parameter alone (TPE, random) get a categorical parameter a decision; one whose options depend on earlier answers is a parameter
of its own for each set of options. All others need the same parameters in every trial: a decision is the place of an option in its list, and those that an
architecture does not come to are answered as well and not looked at. CMA-ES knows numbers alone, so that there the place is a number, which helps
where options are in order and says little where they are not. A draw that the constraint forbids is told to the study and drawn again.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from archduel.core import (
    Arch,
    Constraint,
    Decision,
    Estimate,
    Objectives,
    Outcomes,
    Query,
    Space,
    State,
    decisions,
    sample,
)
from archduel.errors import SettingError, check_at_least, unknown
from archduel.strategies.rounds import AskTell, first_distinct

__all__ = ["POPULATION", "SAMPLERS", "OptunaStudy", "in_study"]

SAMPLERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tpe": ("TPESampler", {}),
    "gp": ("GPSampler", {"warn_independent_sampling": False}),
    "cmaes": ("CmaEsSampler", {"warn_independent_sampling": False, "with_margin": True}),
    "nsga2": ("NSGAIISampler", {}),
    "nsga3": ("NSGAIIISampler", {}),
    "qmc": ("QMCSampler", {"scramble": True, "warn_independent_sampling": False, "warn_asynchronous_seeding": False}),
    "random": ("RandomSampler", {}),
}
"""Name -> Optuna's class, and what it is given. Margins keep CMA-ES from settling on one option of a discrete parameter (Hamano et al., GECCO 2022)."""
STARTUP, POPULATION = {"tpe", "gp", "cmaes"}, {"nsga2", "nsga3"}
"""Samplers that begin with random trials, and those that have generations."""
TREES, NUMBERS, ALONE = {"tpe", "random"}, {"cmaes"}, {"cmaes"}
"""Samplers that look at each parameter alone, those that know numbers alone, and those that know one objective alone."""
PROBES = 300
"""Random architectures in which the decisions of a space are looked for: one that comes up in a fiftieth of them is missed once in 400 spaces."""
REDRAWN = 20
"""Forbidden draws in a row before a random architecture is asked."""


def in_study(decision: Decision) -> str:
    """Returns the name of the parameter that a decision is."""
    return f"{decision.name} of {','.join(map(str, decision.options))}"


def _places(space: Space) -> dict[str, int]:
    """Returns the decisions of a space by name and the most options that each has, as far as random architectures show them."""
    rng, most = np.random.default_rng(0), dict[str, int]()
    for _ in range(PROBES):
        for decision in decisions(space, sample(space, rng).choices):
            most[decision.name] = max(most.get(decision.name, 0), len(decision.options))
    return dict(sorted(most.items()))


class OptunaStudy(AskTell):
    """Asks what a sampler of Optuna suggests; what is asked of it and how it is remembered, a strategy says itself.

    Args:
        rng: the randomness; one seed is taken from it.
        objectives: what is to be small; None = the score alone is to be large.
        constraint: which architectures are allowed.
        sampler: one of :data:`SAMPLERS`.
        startup: random trials first, where the sampler begins with some; None = Optuna's own number.
        population: trials a generation, where it has generations; None = Optuna's own number.
        patience: repeats in a row after which the search ends.

    Raises:
        SettingError: if Optuna is not installed, for a sampler that there is not, or one that cannot weigh several objectives.
    """

    _study: Any  # of Optuna, with whatever sampler; made by `_begin`

    def __init__(
        self,
        space: Space,
        *,
        rng: np.random.Generator,
        objectives: Objectives | None,
        constraint: Constraint | None,
        sampler: str,
        startup: int | None,
        population: int | None,
        patience: int,
    ) -> None:
        try:
            import optuna
        except ImportError as error:
            raise SettingError("this strategy needs Optuna; install it with `pip install 'archduel[optuna]'`") from error
        if sampler not in SAMPLERS:
            raise SettingError(str(unknown("sampler of Optuna", sampler, SAMPLERS)))
        if objectives is not None and sampler in ALONE:
            raise SettingError(f"sampler {sampler!r} knows one objective; for several take {', '.join(sorted(SAMPLERS.keys() - ALONE))}")
        check_at_least(1, patience=patience, **({} if startup is None else {"startup": startup}))
        check_at_least(2, **({} if population is None else {"population": population}))
        self._optuna = optuna
        super().__init__(space, rng, constraint)
        self.sampler, self.startup, self.population, self.patience = sampler, startup, population, patience
        self.seed = int(rng.integers(2**31))
        self.places = {} if sampler in TREES else _places(space)
        self.outcomes = None if objectives is None else Outcomes(objectives)
        self.repeats = self.drawn = 0
        self._begin()

    # -- what a strategy says itself ---------------------------------------------------------------------------------------

    @abstractmethod
    def _begin(self) -> None:
        """Begins a study in which nothing was asked or told."""

    @abstractmethod
    def _suggest(self) -> tuple[Arch, Any]:
        """Returns what the sampler suggests, and its trial if that stays open."""

    @abstractmethod
    def _rest(self) -> np.random.Generator:
        """Returns what draws where the sampler suggests nothing that is allowed: the same after loading."""

    @abstractmethod
    def _asked(self, arch: Arch, trial: Any) -> None:
        """Is told what was asked; without a trial it was drawn at random."""

    @abstractmethod
    def _forbidden(self, arch: Arch, trial: Any) -> None:
        """Is told what the constraint does not allow."""

    @abstractmethod
    def _add(self, arch: Arch, values: list[float] | None) -> None:
        """Tells the study what an architecture came to; None = nothing that could be compared."""

    # -- the study ---------------------------------------------------------------------------------------------------------

    def _fresh_study(self) -> Any:
        verbosity = self._optuna.logging.get_verbosity()
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        try:
            return self._optuna.create_study(directions=["maximize"] * (1 if self.outcomes is None else len(self.outcomes.objectives)))
        finally:
            self._optuna.logging.set_verbosity(verbosity)

    def _fresh_sampler(self, seed: int) -> Any:
        name, settings = SAMPLERS[self.sampler]
        more = {"n_startup_trials": self.startup} if self.startup is not None and self.sampler in STARTUP else {}
        more |= {"population_size": self.population} if self.population is not None and self.sampler in POPULATION else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            return getattr(self._optuna.samplers, name)(seed=seed, **settings, **more)

    def _distribution(self, options: int) -> Any:
        """Returns what a decision is to a sampler that needs the same parameters in every trial."""
        make = self._optuna.distributions
        return make.IntDistribution(0, options - 1) if self.sampler in NUMBERS else make.CategoricalDistribution(range(options))

    def _parameters(self, arch: Arch) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the parameters that an architecture is, and their distributions."""
        asked = list(zip(decisions(self.space, arch.choices), arch.choices))
        # the smallest place that means the option: some options have several places where others have one more option
        places = {d.name: -(-d.options.index(choice) * self.places[d.name] // len(d.options)) for d, choice in asked if d.name in self.places}
        loose = {in_study(d): choice for d, choice in asked if d.name not in self.places}
        whole = {name: self._distribution(options) for name, options in self.places.items()}
        alone = {in_study(d): self._optuna.distributions.CategoricalDistribution(d.options) for d, _ in asked if d.name not in self.places}
        return {**dict.fromkeys(self.places, 0), **places, **loose}, {**whole, **alone}

    def _place(self, trial: Any, name: str, options: int) -> int:
        numbers = self.sampler in NUMBERS
        return int(trial.suggest_int(name, 0, options - 1) if numbers else trial.suggest_categorical(name, range(options)))

    def _draw(self, trial: Any) -> Arch:
        places = {name: self._place(trial, name, options) for name, options in self.places.items()}
        path: tuple[int, ...] = ()
        while (decision := self.space.decision(path)) is not None:
            options = decision.options
            if decision.name in places:
                path = (*path, options[places[decision.name] * len(options) // self.places[decision.name]])
            else:
                path = (*path, int(trial.suggest_categorical(in_study(decision), options)))
        return Arch(self.space.name, path)

    # -- ask and tell ------------------------------------------------------------------------------------------------------

    def ask(self, n: int) -> list[Query]:
        """Returns ``n`` suggestions; empty when they bring nothing new."""
        if self.repeats >= self.patience:
            return []
        return [Query(self._suggestion()) for _ in range(n)]

    def _suggestion(self) -> Arch:
        for _ in range(REDRAWN):
            arch, trial = self._suggest()
            if self.constraint is None or self.constraint(arch):
                self._asked(arch, trial)
                return arch
            self._forbidden(arch, trial)
        arch = sample(self.space, self._rest(), self.constraint)
        self._asked(arch, None)
        return arch

    def _add_trial(self, arch: Arch, values: list[float] | None) -> None:
        """Adds a trial that the sampler did not suggest."""
        state = self._optuna.trial.TrialState
        parameters, distributions = self._parameters(arch)
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params=parameters, distributions=distributions, values=values, state=state.PRUNED if values is None else state.COMPLETE
            )
        )

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Hands the scores to the sampler; a failed evaluation counts as the worst score, 0 at most, among several objectives as none."""
        self.repeats = self.repeated(queries, self.repeats)
        scored = self.ledger.record(queries, estimates)
        if self.outcomes is None:
            worst = min([0.0, *self.ledger.labelled()[1]])
            for arch, score in scored:
                self._add(arch, [score if np.isfinite(score) else worst])
            return
        for arch, losses in self.outcomes.record(queries, estimates):
            self._add(arch, [-loss for loss in losses] if np.isfinite(losses).all() else None)

    def best(self) -> Arch:
        """Returns the architecture with the highest score, or the knee of the front; raises StateError before any tell."""
        return super().best() if self.outcomes is None else self.outcomes.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns the ``n`` best architectures, best first, or ``n`` members of the front, its knee first."""
        return super().finalists(n) if self.outcomes is None else first_distinct(self.space, self.outcomes.members(n), n)

    # -- the state ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Returns what was told and how far it is; a strategy adds what its study was told."""
        return super().state_dict() | {
            "counts": [self.seed, self.repeats, self.drawn],
            **({} if self.outcomes is None else {"outcomes": self.outcomes.state_dict()}),
        }

    def load_state_dict(self, state: State) -> None:
        """Goes to where the saved one was, with a study in which nothing was told yet."""
        super().load_state_dict(state)
        self.seed, self.repeats, self.drawn = state["counts"]
        if self.outcomes is not None:
            self.outcomes.load_state_dict(state["outcomes"])
        self._begin()
