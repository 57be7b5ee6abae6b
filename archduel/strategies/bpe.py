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

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Protocol

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
    StepReport,
    decisions,
)
from archduel.errors import StateError, check_at_least, check_below_one, check_positive
from archduel.strategies.evolution import RegularizedEvolution
from archduel.strategies.reinforce import drawn
from archduel.strategies.rounds import Ledger, first_distinct

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


class BPEReinforce:
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

    partners: ClassVar[Mapping[str, str | Mapping[str, Any]]] = {"policy": "logits"}

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
        check_positive(lr=lr)
        check_below_one(momentum=momentum)
        check_at_least(0, steps=steps)
        check_at_least(1, patience=patience)
        self.space, self.policy, self.constraint = space, policy, constraint
        self.rng, self.generator = rng, generator
        self.steps, self.momentum, self.patience = steps, momentum, patience
        self.optimizer = torch.optim.SGD(policy.parameters(), lr=lr)
        self.ledger = Ledger()
        self.asked = self.told = self.updates = self.repeats = 0
        self.average = 0.0
        self.peak = -np.inf
        self._weights: list[float] = []

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
        """Returns no limit of its own in a table, where the budget says it."""
        return {"steps": 0} if allowance.iterations is None else {}

    def ask(self, n: int) -> list[Query]:
        """Returns samples of the policy; empty after ``steps``."""
        if self.repeats >= self.patience:
            return []
        n = min(n, self.steps - self.asked) if self.steps else n
        archs = [drawn(self.policy, self.space, self.generator, self.rng, self.constraint) for _ in range(n)]
        self.asked += len(archs)
        return [Query(arch) for arch in archs]

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Takes one gradient step an answer and keeps the distribution that met the best one (the first is ignored)."""
        for query in queries:
            self.repeats = self.repeats + 1 if query.arch in self.ledger else 0
        for arch, score in self.ledger.record(queries, estimates):
            self.told += 1
            if score > self.peak and self.told > 1:
                self.peak = score
                table = self.policy.probabilities()
                self._weights = [float(table[d.name].max()) for d in decisions(self.space, arch.choices) if d.name in table]
            if score > 0.001:
                self._climb(arch, score)

    def _climb(self, arch: Arch, score: float) -> None:
        self.updates += 1
        self.average = self.momentum * self.average + (1 - self.momentum) * score
        advantage = score - self.average / (1 - self.momentum**self.updates)
        self.optimizer.zero_grad()
        (-advantage * self.policy.log_prob([arch]).sum()).backward()
        self.optimizer.step()

    def step(self) -> StepReport | None:
        """Returns None: it learns when told."""
        return None

    def weights(self) -> NDArray[np.float64]:
        """Returns (decisions,) the largest probability of each decision when the best sample was drawn.

        BPE prunes a super-cell by them: each node keeps the two edges of largest weight.

        Raises:
            StateError: before two samples were told.
        """
        if not self._weights:
            raise StateError("edge weights are known after the second sample; ask and tell first")
        return np.array(self._weights)

    def best(self) -> Arch:
        """Returns the architecture with the highest score; raises StateError before any tell."""
        return self.ledger.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns the ``n`` best architectures, best first."""
        return first_distinct(self.space, self.ledger.ranked(), n)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return deepcopy(
            {
                "policy": dict(self.policy.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "ledger": self.ledger.state_dict(),
                "counts": [self.asked, self.told, self.updates, self.repeats],
                "progress": [self.average, self.peak],
                "weights": self._weights,
                "rng": self.rng.bit_generator.state,
                "generator": self.generator.get_state(),
            }
        )

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        state = deepcopy(state)
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ledger.load_state_dict(state["ledger"])
        self.asked, self.told, self.updates, self.repeats = state["counts"]
        self.average, self.peak = state["progress"]
        self._weights = list(state["weights"])
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"])
