"""Random search: the baseline that every search has to beat at equal cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archduel.core import Constraint, Estimate, Query, Space, State
from archduel.strategies.rounds import AskTell, Distinct

__all__ = ["RandomSearch"]


class RandomSearch(AskTell):
    """Asks distinct random architectures until there are none left.

    Two architectures with one fingerprint compute the same, so only the first of them is asked.

    Args:
        constraint: which architectures are allowed.
    """

    def __init__(self, space: Space, *, rng: np.random.Generator, constraint: Constraint | None = None) -> None:
        super().__init__(space, rng, constraint)
        self.pool = Distinct(space, rng, constraint)

    def ask(self, n: int) -> list[Query]:
        """Returns ``n`` architectures that were not asked before, fewer when the space is exhausted."""
        drawn = (self.pool.draw() for _ in range(n))
        return [Query(arch) for arch in drawn if arch is not None]

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers the scores."""
        self.ledger.record(queries, estimates)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return super().state_dict() | {"seen": self.pool.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        super().load_state_dict(state)
        self.pool.load_state_dict(state["seen"])
