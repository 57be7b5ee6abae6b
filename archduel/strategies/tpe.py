"""Tree-structured Parzen estimators, by Optuna (``pip install 'archduel[optuna]'``).

Bergstra, Bardenet, Bengio, Kegl: "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.

Every decision of the space is a categorical parameter; a decision whose options depend on earlier answers is a parameter of its
own for each set of options. A draw that the constraint forbids is told as pruned and drawn again.

Several objectives go to Optuna as they are: Ozaki et al., "Multiobjective Tree-Structured Parzen Estimator", JAIR 2022.

The sampler is seeded anew for every trial by (seed, number of the trial), so that the trials alone are the state.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from archduel.errors import SettingError
from archduel.strategies.rounds import AskTell, first_distinct

__all__ = ["TPE"]


def _name(decision: Decision) -> str:
    return f"{decision.name} of {','.join(map(str, decision.options))}"


class TPE(AskTell):
    """Asks what Optuna's sampler suggests. Repeats are allowed and charged once.

    Args:
        rng: the randomness; one seed is taken from it.
        objectives: what is to be small; None = the score alone is to be large.
        constraint: which architectures are allowed.
        startup: random trials first.
        patience: repeats in a row after which the search ends.

    Raises:
        SettingError: if Optuna is not installed.
    """

    def __init__(
        self,
        space: Space,
        *,
        rng: np.random.Generator,
        objectives: Objectives | None = None,
        constraint: Constraint | None = None,
        startup: int = 10,
        patience: int = 200,
    ) -> None:
        try:
            import optuna
        except ImportError as error:
            raise SettingError("strategy 'tpe' needs Optuna; install it with `pip install 'archduel[optuna]'`") from error
        self._optuna = optuna
        super().__init__(space, rng, constraint)
        self.startup, self.patience = startup, patience
        self.seed = int(rng.integers(2**31))
        self.outcomes = None if objectives is None else Outcomes(objectives)
        self.trials: list[list[Any]] = []  # choices and values to maximise; None = pruned
        self.repeats = self.drawn = 0
        self._study = self._fresh_study()

    def _fresh_study(self) -> Any:
        verbosity = self._optuna.logging.get_verbosity()
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        try:
            return self._optuna.create_study(directions=["maximize"] * (1 if self.outcomes is None else len(self.outcomes.objectives)))
        finally:
            self._optuna.logging.set_verbosity(verbosity)

    def ask(self, n: int) -> list[Query]:
        """Returns ``n`` suggestions; empty when they bring nothing new."""
        if self.repeats >= self.patience:
            return []
        return [Query(self._suggestion()) for _ in range(n)]

    def _suggestion(self) -> Arch:
        for _ in range(20):
            arch = self._suggest()
            if self.constraint is None or self.constraint(arch):
                return arch
            self._add(arch, None)
        return sample(self.space, self.rng, self.constraint)

    def _suggest(self) -> Arch:
        self.drawn += 1
        seed = (self.seed + 1_000_003 * self.drawn) % 2**31
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.startup)
        trial = self._study.ask()
        path: tuple[int, ...] = ()
        while (decision := self.space.decision(path)) is not None:
            path = (*path, int(trial.suggest_categorical(_name(decision), decision.options)))
        # only what is told back counts: an open trial would be part of a state that nobody can save
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return Arch(self.space.name, path)

    def _add(self, arch: Arch, values: list[float] | None) -> None:
        self.trials.append([list(arch.choices), values])
        asked = list(decisions(self.space, arch.choices))
        state = self._optuna.trial.TrialState
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params={_name(d): choice for d, choice in zip(asked, arch.choices)},
                distributions={_name(d): self._optuna.distributions.CategoricalDistribution(d.options) for d in asked},
                values=values,
                state=state.PRUNED if values is None else state.COMPLETE,
            )
        )

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Hands the scores to the sampler; a failed evaluation scores 0, among several objectives it counts as pruned."""
        self.repeats = self.repeated(queries, self.repeats)
        scored = self.ledger.record(queries, estimates)
        if self.outcomes is None:
            for arch, score in scored:
                self._add(arch, [score if np.isfinite(score) else 0.0])
            return
        for arch, losses in self.outcomes.record(queries, estimates):
            self._add(arch, [-loss for loss in losses] if np.isfinite(losses).all() else None)

    def best(self) -> Arch:
        """Returns the architecture with the highest score, or the knee of the front; raises StateError before any tell."""
        return super().best() if self.outcomes is None else self.outcomes.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns the ``n`` best architectures, best first, or ``n`` members of the front, its knee first."""
        return super().finalists(n) if self.outcomes is None else first_distinct(self.space, self.outcomes.members(n), n)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return super().state_dict() | {
            "trials": [list(trial) for trial in self.trials],
            "counts": [self.seed, self.repeats, self.drawn],
            **({} if self.outcomes is None else {"outcomes": self.outcomes.state_dict()}),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        super().load_state_dict(state)
        self.seed, self.repeats, self.drawn = state["counts"]
        if self.outcomes is not None:
            self.outcomes.load_state_dict(state["outcomes"])
        self._study, self.trials = self._fresh_study(), []
        for choices, values in state["trials"]:
            older = isinstance(values, (int, float))  # one score
            self._add(Arch(self.space.name, tuple(choices)), [float(values)] if older else values)
