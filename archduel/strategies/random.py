"""Random search: the baseline that every search has to beat at equal cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archduel.core import Arch, Constraint, Estimate, Query, Space, State, StepReport
from archduel.strategies.rounds import Distinct, Ledger, first_distinct

__all__ = ["RandomSearch"]


class RandomSearch:
    """Asks distinct random architectures until there are none left.

    Two architectures with one fingerprint compute the same, so only the first of them is asked.

    Args:
        constraint: which architectures are allowed.
    """

    def __init__(self, space: Space, *, rng: np.random.Generator, constraint: Constraint | None = None) -> None:
        self.space = space
        self.rng = rng
        self.constraint = constraint
        self.ledger = Ledger()
        self.pool = Distinct(space, rng, constraint)

    def ask(self, n: int) -> list[Query]:
        """Returns ``n`` architectures that were not asked before, fewer when the space is exhausted."""
        drawn = (self.pool.draw() for _ in range(n))
        return [Query(arch) for arch in drawn if arch is not None]

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers the scores."""
        self.ledger.record(queries, estimates)

    def step(self) -> StepReport | None:
        """Returns None: there is nothing to learn."""
        return None

    def best(self) -> Arch:
        """Returns the architecture with the highest score; raises StateError before any tell."""
        return self.ledger.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns the ``n`` best architectures, best first."""
        return first_distinct(self.space, self.ledger.ranked(), n)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return {
            "ledger": self.ledger.state_dict(),
            "seen": self.pool.state_dict(),
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        self.ledger.load_state_dict(state["ledger"])
        self.pool.load_state_dict(state["seen"])
        self.rng.bit_generator.state = state["rng"]
