"""Local search: evaluate the neighbours, move to the best, start again where there is none.

White, Nolen, Savani: "Local Search is State of the Art for NAS Benchmarks", UAI 2021, Algorithm 1.

Deviations from the paper:
1. ``initial`` random architectures are evaluated first and the best is the start, as in the authors' experiments.
2. The neighbours are those of one changed decision, asked in random order; with ``greedy`` the search moves as soon as one is
   better (the paper looks at all of them first).
3. At a local optimum the search starts again from a new random architecture. It ends when the space is exhausted.
4. Nothing is asked twice: what is known already is compared without asking.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from archduel.core import (
    Allowance,
    Arch,
    Constraint,
    Estimate,
    Prices,
    Query,
    Space,
    State,
    neighbours,
    parse,
)
from archduel.errors import check_at_least
from archduel.strategies.rounds import AskTell, Distinct, first_design

__all__ = ["LocalSearch"]


class LocalSearch(AskTell):
    """Climbs to a local optimum, again and again.

    Args:
        constraint: which architectures are allowed.
        initial: random architectures before the first climb.
        greedy: whether to move as soon as a neighbour is better.
    """

    def __init__(
        self,
        space: Space,
        *,
        rng: np.random.Generator,
        constraint: Constraint | None = None,
        initial: int = 10,
        greedy: bool = True,
    ) -> None:
        check_at_least(1, initial=initial)
        super().__init__(space, rng, constraint)
        self.initial, self.greedy = initial, greedy
        self.pool = Distinct(space, rng, constraint)
        self.starts = 0
        self.waiting: set[Arch] = set()
        self.asked: set[Arch] = set()
        self.climber: Arch | None = None
        self.queue: deque[Arch] = deque()

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
        """Returns a smaller first design for a small budget, see :func:`first_design`."""
        return first_design(cls, allowance)

    def ask(self, n: int) -> list[Query]:
        """Returns starts, then neighbours of the climber, that were not asked before; empty when nothing is left."""
        archs: list[Arch] = []
        while len(archs) < n and (arch := self._next()) is not None:
            archs.append(arch)
            self.asked.add(arch)
            self.waiting.add(arch)
        return [Query(arch) for arch in archs]

    def _next(self) -> Arch | None:
        if self.starts < self.initial:
            return self._start()
        if not self.queue and not self.waiting:
            self._turn()
        if not self.queue and not self.waiting:
            return self._start()
        return self.queue.popleft() if self.queue else None

    def _start(self) -> Arch | None:
        self.climber = None
        self.starts += 1
        arch = self.pool.draw()
        while arch is not None and arch in self.asked:
            arch = self.pool.draw()
        return arch

    def _turn(self) -> None:
        """Climbs as far as known scores lead and queues the unknown neighbours; nothing is queued at a local optimum."""
        if self.climber is None:
            # the starts compete at first; later only the last one climbs
            known = list(self.ledger.labelled()[0])
            self.climber = (self.ledger.best() if self.starts <= self.initial else known[-1]) if known else None
        while self.climber is not None:
            around = neighbours(self.space, self.climber, self.constraint)
            unknown = [arch for arch in around if arch not in self.asked]
            if unknown:
                self.queue = deque(unknown[i] for i in self.rng.permutation(len(unknown)).tolist())
                return
            better = max((arch for arch in around if arch in self.ledger), key=self.ledger.score, default=self.climber)
            self.climber = better if self.ledger.score(better) > self.ledger.score(self.climber) else None

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers the scores and moves to a better neighbour."""
        for arch, score in self.ledger.record(queries, estimates):
            self.waiting.discard(arch)
            if self.greedy and self.climber is not None and score > self.ledger.score(self.climber):
                self.climber = arch
                self.queue.clear()

    def state_dict(self) -> State:
        """Returns all that changes."""
        return super().state_dict() | {
            "seen": self.pool.state_dict(),
            "starts": self.starts,
            "waiting": sorted(map(str, self.waiting)),
            "asked": sorted(map(str, self.asked)),
            "climber": None if self.climber is None else str(self.climber),
            "queue": [str(arch) for arch in self.queue],
        }

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        super().load_state_dict(state)
        self.pool.load_state_dict(state["seen"])
        self.starts = state["starts"]
        self.waiting = set(map(parse, state["waiting"]))
        self.asked = set(map(parse, state["asked"]))
        self.climber = None if state["climber"] is None else parse(state["climber"])
        self.queue = deque(map(parse, state["queue"]))
