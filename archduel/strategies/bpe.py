"""BPE's reinforcement learning.

Zheng, Ji, Tang, Wang, et al.: "Rethinking Performance Estimation in Neural Architecture Search", CVPR 2020; released run_rl.py.

One vector of logits for each of the 28 genes of a super-cell (any space: each named decision), zero at the start; one sample a
step; plain gradient ascent; the baseline is a bias-corrected moving average that is updated before it is used.

Deviations from the released code:
1. The reward is what the estimator says, a validation accuracy (released: the best test accuracy of all epochs).
2. The constraint may forbid samples; they are drawn again.
3. Samples with a reward of at most 0.001 teach nothing (released: they are trained and drawn again); they are charged.
4. A policy that brought nothing new ``patience`` times in a row ends the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archduel.core import (
    Allowance,
    Arch,
    Constraint,
    Estimate,
    Policy,
    Prices,
    Query,
    Space,
    State,
    decisions,
)
from archduel.errors import StateError, check_at_least
from archduel.strategies.evolution import RegularizedEvolution
from archduel.strategies.reinforce import Reinforce

__all__ = ["BPEEvolution", "BPEReinforce", "Logits"]

# -- BPE's evolution ----------------------------------------------------------------------------------------------------
#
# Zheng, Ji, Tang, Wang, et al.: "Rethinking Performance Estimation in Neural Architecture Search", CVPR 2020; released
# run_evolution.py: regularized evolution of super-cells, population 50, tournament 10, 100 evaluations in all. Afterwards the best
# super-cell is pruned at random ten times and the ten are trained again (``archduel.spaces.darts.supercell.masked``).
#
# Deviations from the released code:
# 1. The score is what the estimator says, a validation accuracy (released: test accuracy).
# 2. The founders are distinct by fingerprint.


class BPEEvolution(RegularizedEvolution):
    """Regularized evolution with BPE's numbers.

    Args:
        space: where to search (BPE: super-cells).
        constraint: which architectures are allowed.
        population: how many live.
        tournament: how many compete to become a parent, drawn with replacement.
        steps: evaluations in all; 0 = as many as the budget allows.
    """

    def __init__(
        self,
        space: Space,
        *,
        rng: np.random.Generator,
        constraint: Constraint | None = None,
        population: int = 50,
        tournament: int = 10,
        steps: int = 100,
        patience: int = 2_000,
    ) -> None:
        super().__init__(
            space, rng=rng, constraint=constraint, population=population, tournament=tournament, patience=patience
        )
        self.steps = steps

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
        """Returns no limit of its own in a table, where the budget says it."""
        return {"steps": 0} if allowance.iterations is None else {}

    def ask(self, n: int) -> list[Query]:
        """Returns founders, then children, ``steps`` in all."""
        return super().ask(min(n, self.steps - self.told) if self.steps else n)


class Logits(Policy, Protocol):
    """A policy whose decisions are independent."""

    def probabilities(self) -> dict[str, Tensor]:
        """Returns the distribution of every named decision."""


class BPEReinforce(Reinforce):
    """One sample a step, plain gradient ascent with a moving baseline.

    Args:
        policy: independent logits.
        rng: the randomness where the constraint forbids all draws.
        generator: the randomness of the draws.
        constraint: which architectures are allowed.
        steps: samples in all; 0 = as many as the budget allows.
        lr: step size of gradient ascent.
        momentum: of the moving average.
        patience: repeats in a row after which the search ends.
    """

    policy: Logits

    def __init__(
        self,
        space: Space,
        policy: Logits,
        *,
        rng: np.random.Generator,
        generator: torch.Generator,
        constraint: Constraint | None = None,
        steps: int = 100,
        lr: float = 0.1,
        momentum: float = 0.9,
        patience: int = 2_000,
    ) -> None:
        check_at_least(0, steps=steps)
        super().__init__(
            space, policy, rng=rng, generator=generator, constraint=constraint, lr=lr, momentum=momentum, patience=patience
        )
        self.optimizer = torch.optim.SGD(policy.parameters(), lr=lr)
        self.steps = steps
        self.asked = self.told = 0
        self.peak = -np.inf
        self._weights: list[float] = []

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
        """Returns no limit of its own in a table, where the budget says it."""
        return {"steps": 0} if allowance.iterations is None else {}

    def ask(self, n: int) -> list[Query]:
        """Returns samples of the policy; empty after ``steps``."""
        queries = super().ask(min(n, self.steps - self.asked) if self.steps else n)
        self.asked += len(queries)
        return queries

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Takes one gradient step an answer and keeps the distribution that the best one led to (the first is ignored)."""
        self.repeats = self.repeated(queries, self.repeats)
        for arch, score in self.ledger.record(queries, estimates):
            self.told += 1
            if score > 0.001:
                self._climb(arch, score)
            if score > self.peak and self.told > 1:
                self.peak = score
                table = self.policy.probabilities()  # after the sample's own step, as in run_rl.py
                self._weights = [float(table[d.name].max()) for d in decisions(self.space, arch.choices) if d.name in table]

    def _climb(self, arch: Arch, score: float) -> None:
        self.updates += 1
        self.average = self.momentum * self.average + (1 - self.momentum) * score
        self._ascend(score - self.average / (1 - self.momentum**self.updates), arch)

    def weights(self) -> NDArray[np.float64]:
        """Returns (decisions,) the largest probability of each decision after the step that the best sample taught.

        BPE prunes a super-cell by them: each node keeps the two edges of largest weight.

        Raises:
            StateError: before two samples were told.
        """
        if not self._weights:
            raise StateError("edge weights are known after the second sample; ask and tell first")
        return np.array(self._weights)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return super().state_dict() | {
            "counts": [self.asked, self.told, self.updates, self.repeats],
            "progress": [self.average, self.peak],
            "weights": list(self._weights),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        self.asked, self.told, updates, repeats = state["counts"]
        average, self.peak = state["progress"]
        self._weights = list(state["weights"])
        super().load_state_dict({**state, "progress": [average, updates, repeats]})
