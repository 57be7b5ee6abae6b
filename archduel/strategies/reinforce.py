"""REINFORCE on true scores: the policy-gradient baseline.

Williams: "Simple statistical gradient-following algorithms for connectionist reinforcement learning", 1992, with the settings
of the NAS-Bench-201 baseline (Dong and Yang, ICLR 2020): independent logits, one architecture an update, moving average as
baseline.

Deviations:
1. Architectures that the constraint forbids are drawn again and teach nothing.
2. A policy that brought nothing new ``patience`` times in a row ends the search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import torch

from archduel.core import Arch, Constraint, Estimate, Policy, Query, Space, State, sample
from archduel.errors import check_at_least, check_below_one, check_positive
from archduel.strategies.rounds import AskTell

__all__ = ["Reinforce", "drawn"]


def drawn(
    policy: Policy,
    space: Space,
    generator: torch.Generator,
    rng: np.random.Generator,
    constraint: Constraint | None,
    *,
    tries: int = 200,
) -> Arch:
    """Returns an architecture of ``policy`` that the constraint allows, a uniform one if ``tries`` draws are forbidden."""
    for _ in range(tries):
        with torch.no_grad():
            arch = policy.draw(1, generator).archs[0]
        if constraint is None or constraint(arch):
            return arch
    return sample(space, rng, constraint)


class Reinforce(AskTell):
    """Draws from a policy and makes what scored above average more probable. Repeats are allowed and charged once.

    Args:
        policy: the distribution that is trained.
        rng: the randomness where the constraint forbids all draws.
        generator: the randomness of the draws.
        constraint: which architectures are allowed.
        lr: Adam's learning rate.
        entropy: weight of an entropy bonus.
        momentum: of the moving average of scores that is subtracted.
        patience: repeats in a row after which the search ends.
    """

    partners: ClassVar[Mapping[str, str | Mapping[str, Any]]] = {"policy": "logits"}

    def __init__(
        self,
        space: Space,
        policy: Policy,
        *,
        rng: np.random.Generator,
        generator: torch.Generator,
        constraint: Constraint | None = None,
        lr: float = 0.01,
        entropy: float = 0.0,
        momentum: float = 0.9,
        patience: int = 2_000,
    ) -> None:
        check_positive(lr=lr)
        check_below_one(momentum=momentum)
        check_at_least(1, patience=patience)
        super().__init__(space, rng, constraint)
        self.policy, self.generator = policy, generator
        self.entropy, self.momentum, self.patience = entropy, momentum, patience
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(policy.parameters(), lr=lr)
        self.average = 0.0
        self.updates = 0
        self.repeats = 0

    def ask(self, n: int) -> list[Query]:
        """Returns ``n`` draws of the policy; empty when it brings nothing new."""
        if self.repeats >= self.patience:
            return []
        return [Query(drawn(self.policy, self.space, self.generator, self.rng, self.constraint)) for _ in range(n)]

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Updates the policy once for each answer; a failed evaluation scores 0."""
        self.repeats = self.repeated(queries, self.repeats)
        for arch, score in self.ledger.record(queries, estimates):
            self._update(arch, max(score, 0.0))

    def _update(self, arch: Arch, score: float) -> None:
        advantage = score - self.average / (1 - self.momentum**self.updates) if self.updates else 0.0
        self.average = self.momentum * self.average + (1 - self.momentum) * score
        self.updates += 1
        if advantage == 0 and self.entropy == 0:
            return
        self._ascend(advantage, arch)

    def _ascend(self, advantage: float, arch: Arch) -> None:
        """Makes ``arch`` more probable where the advantage is positive, less where it is negative."""
        loss = -advantage * self.policy.log_prob([arch]).sum()
        if self.entropy:
            loss = loss - self.entropy * self.policy.draw(1, self.generator).entropy.mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def state_dict(self) -> State:
        """Returns all that changes."""
        state = {
            "policy": dict(self.policy.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "progress": [self.average, self.updates, self.repeats],
            "generator": self.generator.get_state(),
        }
        return deepcopy(super().state_dict() | state)

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        state = deepcopy(state)
        super().load_state_dict(state)
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.updates, self.repeats = state["progress"]
        self.generator.set_state(state["generator"])
