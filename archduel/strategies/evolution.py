"""Regularized evolution.

Real, Aggarwal, Huang, Le: "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019, Algorithm 1.

    P  population      S  tournament

Deviations from the paper:
1. P = 30 and S = 10 (paper: 100 and 25, for 20,000 trained networks); searches here have 50 to 500 evaluations.
2. A mutation changes one decision of any kind (paper: one operation or one hidden state, chosen by a coin).
3. The first P architectures are distinct by fingerprint; children may repeat, as in the paper, and are charged once.
4. A population that brought nothing new ``patience`` times in a row ends the search.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from archduel.core import Arch, Constraint, Estimate, Query, Space, State, mutate, parse
from archduel.errors import check_at_least
from archduel.strategies.rounds import AskTell, Distinct

__all__ = ["RegularizedEvolution"]


class RegularizedEvolution(AskTell):
    """Mutates the best of a random few; the oldest dies, whatever its score.

    Args:
        constraint: which architectures are allowed.
        population: how many live.
        tournament: how many compete to become a parent, drawn with replacement.
        patience: repeated children in a row after which the search ends.
    """

    def __init__(
        self,
        space: Space,
        *,
        rng: np.random.Generator,
        constraint: Constraint | None = None,
        population: int = 30,
        tournament: int = 10,
        patience: int = 10_000,
    ) -> None:
        check_at_least(1, population=population, tournament=tournament, patience=patience)
        super().__init__(space, rng, constraint)
        self.population, self.tournament, self.patience = population, tournament, patience
        self.pool = Distinct(space, rng, constraint)
        self.founders = self.told = self.repeats = 0
        self.alive: deque[tuple[Arch, float]] = deque(maxlen=population)

    @property
    def random_first(self) -> int:
        """How many of its first questions are random architectures: the founders."""
        return self.population

    def ask(self, n: int) -> list[Query]:
        """Returns founders first, then children of tournament winners; empty when evolution stands still."""
        if self.repeats >= self.patience:
            return []
        return [Query(arch) for _ in range(n) if (arch := self._next()) is not None]

    def _next(self) -> Arch | None:
        if self.founders < self.population:
            founder = self.pool.draw()
            # a space smaller than the population goes straight on to children
            self.founders = self.population if founder is None else self.founders + 1
            if founder is not None:
                return founder
        if not self.alive:
            return None
        return mutate(self.space, self._parent(), self.rng, self.constraint)

    def _parent(self) -> Arch:
        rivals = [self.alive[i] for i in self.rng.integers(len(self.alive), size=self.tournament).tolist()]
        return max(rivals, key=lambda member: member[1])[0]

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Adds the answered ones to the population; the oldest leave it."""
        self.repeats = self.repeated(queries, self.repeats)
        self.told += len(queries)
        self.alive.extend(self.ledger.record(queries, estimates))

    def state_dict(self) -> State:
        """Returns all that changes."""
        return super().state_dict() | {
            "seen": self.pool.state_dict(),
            "counts": [self.founders, self.told, self.repeats],
            "alive": [[str(arch), score] for arch, score in self.alive],
        }

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        super().load_state_dict(state)
        self.pool.load_state_dict(state["seen"])
        self.founders, self.told, self.repeats = state["counts"]
        self.alive = deque(((parse(text), score) for text, score in state["alive"]), maxlen=self.population)
