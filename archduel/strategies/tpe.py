"""Tree-structured Parzen estimators, by Optuna (``pip install 'archduel[optuna]'``).

Bergstra, Bardenet, Bengio, Kegl: "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.

Several objectives go to Optuna as they are: Ozaki et al., "Multiobjective Tree-Structured Parzen Estimator", JAIR 2022.

Beside ``optuna[sampler=tpe]``: the sampler is seeded anew for every trial by (seed, number of the trial) and sees no open trials, so that the told
trials alone are the state, which is loaded without doing them again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archduel.core import Arch, Constraint, Objectives, Space, State
from archduel.strategies.optuna_study import OptunaStudy

__all__ = ["TPE"]


class TPE(OptunaStudy):
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
        super().__init__(space, rng=rng, objectives=objectives, constraint=constraint, sampler="tpe", startup=startup, population=None, patience=patience)

    def _begin(self) -> None:
        self._study, self.trials = self._fresh_study(), list[list[Any]]()  # choices and values to maximise; None = pruned

    def _suggest(self) -> tuple[Arch, Any]:
        self.drawn += 1
        self._study.sampler = self._fresh_sampler((self.seed + 1_000_003 * self.drawn) % 2**31)
        trial = self._study.ask()
        arch = self._draw(trial)
        # only what is told back counts: an open trial would be part of a state that nobody can save
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return arch, None

    def _rest(self) -> np.random.Generator:
        return self.rng

    def _asked(self, arch: Arch, trial: Any) -> None:
        """Notes nothing."""

    def _forbidden(self, arch: Arch, trial: Any) -> None:
        self._add(arch, None)

    def _add(self, arch: Arch, values: list[float] | None) -> None:
        self.trials.append([list(arch.choices), values])
        self._add_trial(arch, values)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return super().state_dict() | {"trials": [list(trial) for trial in self.trials]}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        super().load_state_dict(state)
        for choices, values in state["trials"]:
            older = isinstance(values, (int, float))  # one score
            self._add(Arch(self.space.name, tuple(choices)), [float(values)] if older else values)
