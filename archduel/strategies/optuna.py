"""Any sampler of Optuna as a strategy (``pip install 'archduel[optuna]'``): Gaussian process, CMA-ES, NSGA-II, TPE, quasi-random, random.

Akiba, Sano, Yanase, Ohta, Koyama: "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019.

A sampler may keep what it likes between trials (CMA-ES its distribution, NSGA-II its generations), so that the state is what was asked and told, in
order: a loaded strategy has the sampler do all of it again, and checks that it asks the same.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from archduel.core import Allowance, Arch, Constraint, Objectives, Prices, Space, State
from archduel.errors import StateError
from archduel.strategies.optuna_study import POPULATION, OptunaStudy

__all__ = ["OptunaSampler"]

PEOPLE = 50
"""Optuna's own size of a generation."""


class OptunaSampler(OptunaStudy):
    """Asks what a sampler of Optuna suggests. Repeats are allowed and charged once.

    Args:
        rng: the randomness; one seed is taken from it.
        objectives: what is to be small; None = the score alone is to be large.
        constraint: which architectures are allowed.
        sampler: ``tpe``, ``gp``, ``cmaes`` (needs the package cmaes), ``nsga2``, ``nsga3``, ``qmc`` or ``random``.
        startup: random trials first, of ``tpe``, ``gp`` and ``cmaes``; None = Optuna's own number.
        population: trials a generation, of ``nsga2`` and ``nsga3``; None = Optuna's own number.
        patience: repeats in a row after which the search ends.

    Raises:
        SettingError: if Optuna is not installed, for a sampler that there is not, or one that cannot weigh several objectives.
    """

    def __init__(
        self,
        space: Space,
        *,
        rng: np.random.Generator,
        objectives: Objectives | None = None,
        constraint: Constraint | None = None,
        sampler: str = "tpe",
        startup: int | None = None,
        population: int | None = None,
        patience: int = 200,
    ) -> None:
        super().__init__(
            space, rng=rng, objectives=objectives, constraint=constraint, sampler=sampler, startup=startup, population=population, patience=patience
        )

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
        """Returns smaller generations for a small budget; tables keep Optuna's own number."""
        if allowance.iterations is None or allowance.given.get("sampler") not in POPULATION:
            return {}
        return {"population": min(PEOPLE, max(4, allowance.evaluations // 5))}

    def _begin(self) -> None:
        self._study, self._open, self.events = self._fresh_study(), dict[Arch, deque[Any]](), list[list[Any]]()
        self._study.sampler = self._fresh_sampler(self.seed)

    def _suggest(self) -> tuple[Arch, Any]:
        """Returns what the sampler suggests, and its open trial."""
        self.drawn += 1
        trial = self._study.ask()
        return self._draw(trial), trial

    def _rest(self) -> np.random.Generator:
        """Returns what draws where the sampler suggests nothing that is allowed: the same after loading."""
        return np.random.default_rng([self.seed, self.drawn])

    def _asked(self, arch: Arch, trial: Any) -> None:
        if trial is not None:
            self._open.setdefault(arch, deque()).append(trial)
        self.events.append([list(arch.choices)])

    def _forbidden(self, arch: Arch, trial: Any) -> None:
        self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)

    def _add(self, arch: Arch, values: list[float] | None) -> None:
        """Tells the study what an architecture came to; None = nothing that could be compared."""
        self.events.append([list(arch.choices), values])
        waiting = self._open.get(arch)
        if waiting:
            state = self._optuna.trial.TrialState
            self._study.tell(waiting.popleft(), values, state=state.FAIL if values is None else state.COMPLETE)
        else:
            self._add_trial(arch, values)

    def state_dict(self) -> State:
        """Returns all that changes: what was asked and told, in order."""
        return super().state_dict() | {"events": [list(event) for event in self.events]}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would; the sampler does again all that it did.

        Raises:
            StateError: if the sampler suggests something else than it did when the state was saved.
        """
        super().load_state_dict(state)
        drawn, self.drawn = self.drawn, 0
        for choices, *values in state["events"]:
            arch = Arch(self.space.name, tuple(choices))
            if values:
                self._add(arch, values[0])
            elif (now := self._suggestion()) != arch:
                raise StateError(f"Optuna {self._optuna.__version__} suggests {now} where the saved search asked {arch}; install the version that it ran with")
        self.drawn = drawn
