"""The rhythm of searches that learn from labels: a first design, then rounds of learn, propose, evaluate."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from archduel.core import Arch, Constraint, Estimate, Query, Ranker, Space, State, parse
from archduel.errors import SettingError
from archduel.strategies.ledger import Ledger
from archduel.strategies.pool import Distinct, first_distinct

__all__ = ["Guided", "Rounds"]


class Rounds:
    """Asks ``initial`` distinct random architectures, then whatever was proposed; never one fingerprint twice.

    Where too few of the first evaluations succeed to learn anything, more random ones are asked.
    """

    def __init__(self, space: Space, rng: np.random.Generator, constraint: Constraint | None, initial: int) -> None:
        if initial < 2:
            raise SettingError(f"at least 2 first labels are needed to learn an order, got {initial}")
        self.initial = initial
        self.ledger = Ledger()
        self.pool = Distinct(space, rng, constraint)
        self.queue: deque[Arch] = deque()
        self.drawn = self.asked = self.told = 0
        self.finished = False

    def ask(self, n: int) -> list[Query]:
        """Returns at most ``n`` queries; empty while a round has to be learned from, and at the end."""
        while len(self.queue) < n and not self.finished and self._needs_random():
            drawn = self.pool.draw()
            if drawn is None:
                self.drawn, self.finished = self.initial, self.asked == 0
                break
            self.drawn += 1
            self.queue.append(drawn)
        archs = [self.queue.popleft() for _ in range(min(n, len(self.queue)))]
        self.asked += len(archs)
        return [Query(arch) for arch in archs]

    def _needs_random(self) -> bool:
        return self.drawn < self.initial or (self.told == self.asked + len(self.queue) and not self._learnable())

    def _learnable(self) -> bool:
        return len(set(self.ledger.labelled()[1])) >= 2

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers the scores."""
        self.ledger.record(queries, estimates)
        self.told += len(queries)

    def ready(self) -> bool:
        """Whether a round is complete: everything asked was told, and there is an order to learn from."""
        complete = self.drawn >= self.initial and not self.queue and self.told == self.asked
        return complete and not self.finished and self._learnable()

    def propose(self, archs: Iterable[Arch], n: int | None = None) -> int:
        """Queues the first ``n`` architectures that are new and returns how many.

        Where none is new, a random one is queued; where there is none either, the search is finished.
        """
        for arch in archs:
            if n is not None and len(self.queue) >= n:
                break
            if self.pool.add(arch):
                self.queue.append(arch)
        if not self.queue and (drawn := self.pool.draw()) is not None:
            self.queue.append(drawn)
        self.finished = not self.queue
        return len(self.queue)

    def state_dict(self) -> State:
        """Returns all that changes but the random generator."""
        return {
            "ledger": self.ledger.state_dict(),
            "seen": self.pool.state_dict(),
            "queue": [str(arch) for arch in self.queue],
            "counts": [self.drawn, self.asked, self.told, int(self.finished)],
        }

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        self.ledger.load_state_dict(state["ledger"])
        self.pool.load_state_dict(state["seen"])
        self.queue = deque(parse(text) for text in state["queue"])
        self.drawn, self.asked, self.told, finished = state["counts"]
        self.finished = bool(finished)


class Guided:
    """What searches share whose rounds a ranker guides; a paper is in the ``step`` that they add.

    Args:
        space: where to search.
        ranker: learns from the labels.
        rng: the randomness.
        constraint: which architectures are allowed.
        initial: random architectures first.
    """

    def __init__(
        self, space: Space, ranker: Ranker, rng: np.random.Generator, constraint: Constraint | None, initial: int
    ) -> None:
        self.space, self.ranker, self.rng, self.constraint = space, ranker, rng, constraint
        self.rounds = Rounds(space, rng, constraint, initial)

    def ask(self, n: int) -> list[Query]:
        """Returns at most ``n`` new architectures; empty while there is something to learn first."""
        return self.rounds.ask(n)

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers the scores."""
        self.rounds.tell(queries, estimates)

    def best(self) -> Arch:
        """Returns the architecture with the highest score; raises StateError before any tell."""
        return self.rounds.ledger.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns the ``n`` best labelled architectures that differ in fingerprint, best first."""
        return first_distinct(self.space, self.rounds.ledger.ranked(), n)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return {
            "rounds": self.rounds.state_dict(),
            "ranker": self.ranker.state_dict(),
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        self.rounds.load_state_dict(state["rounds"])
        self.ranker.load_state_dict(state["ranker"])
        self.rng.bit_generator.state = state["rng"]
