"""The rhythm of searches that learn from labels: a first design, then rounds of learn, propose, evaluate."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any, ClassVar

import numpy as np

from archduel.core import (
    Allowance,
    Arch,
    Constraint,
    Estimate,
    Prices,
    Query,
    Ranker,
    Space,
    State,
    StepReport,
    parse,
    sample_distinct,
)
from archduel.core.spending import Kind
from archduel.errors import InfeasibleError, SettingError, StateError

__all__ = ["AskTell", "Distinct", "Guided", "LabelsFirst", "Ledger", "Rounds", "first_design", "first_distinct"]

# -- What a strategy has asked and been told: the memory that every strategy keeps --------------------------------------


class Ledger:
    """Architectures and their scores in the order of telling; failed evaluations count as the worst score."""

    def __init__(self) -> None:
        self._scores: dict[Arch, float] = {}

    def __len__(self) -> int:
        return len(self._scores)

    def __contains__(self, arch: Arch) -> bool:
        return arch in self._scores

    def record(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> list[tuple[Arch, float]]:
        """Takes answers and returns them as (architecture, score); a failed one scores minus infinity.

        Raises:
            StateError: if there is not one estimate a query.
        """
        if len(queries) != len(estimates):
            raise StateError(f"{len(queries)} queries were told with {len(estimates)} estimates; give one estimate a query")
        told = [(q.arch, -math.inf if e.failed else e.score) for q, e in zip(queries, estimates)]
        self._scores.update(told)
        return told

    def score(self, arch: Arch) -> float:
        """Returns what was last told about ``arch``; raises KeyError if nothing was."""
        return self._scores[arch]

    def labelled(self) -> tuple[list[Arch], list[float]]:
        """Returns the architectures that have a score, and the scores, oldest first."""
        known = [(arch, score) for arch, score in self._scores.items() if score > -math.inf]
        return [arch for arch, _ in known], [score for _, score in known]

    def best(self) -> Arch:
        """Returns the architecture with the highest score, the earliest among equals.

        Raises:
            StateError: if nothing was told yet.
        """
        if not self._scores:
            raise StateError("nothing was told yet, so there is no best architecture; ask, evaluate and tell first")
        return max(self._scores, key=self._scores.__getitem__)

    def ranked(self) -> list[Arch]:
        """Returns all architectures that have a score, best first, the earliest first among equals."""
        archs, _ = self.labelled()
        return sorted(archs, key=lambda arch: -self._scores[arch])

    def state_dict(self) -> State:
        """Returns everything told, as text and numbers."""
        return {"archs": [str(arch) for arch in self._scores], "scores": list(self._scores.values())}

    def load_state_dict(self, state: State) -> None:
        """Takes what another was told."""
        self._scores = {parse(text): float(score) for text, score in zip(state["archs"], state["scores"])}


# -- Drawing architectures that were not seen yet, by what they compute and not by how they are written -----------------


class Distinct:
    """Draws random architectures, each fingerprint once, until the space is exhausted.

    After ``tries`` repeats in a row the rest of the space is taken to be small: it is enumerated and drawn from without
    repeats. Only a space in which nearly everything was drawn already gets there.
    """

    def __init__(self, space: Space, rng: np.random.Generator, constraint: Constraint | None, *, tries: int = 300) -> None:
        self.space = space
        self.rng = rng
        self.constraint = constraint
        self.tries = tries
        self.seen: set[str] = set()

    def add(self, arch: Arch) -> bool:
        """Marks ``arch`` as seen and returns whether it is new."""
        known = len(self.seen)
        self.seen.add(self.space.fingerprint(arch))
        return len(self.seen) > known

    def draw(self) -> Arch | None:
        """Returns an architecture with a new fingerprint, or None when there is none left.

        Raises:
            InfeasibleError: if no architecture satisfies the constraint.
        """
        try:
            (arch,) = sample_distinct(
                self.space, 1, self.rng, constraint=self.constraint, exclude=self.seen, tries=self.tries
            )
        except InfeasibleError:
            if not self.seen:  # nothing ever satisfied the constraint
                raise
            return None
        self.add(arch)
        return arch

    def state_dict(self) -> list[str]:
        """Returns the fingerprints seen, sorted."""
        return sorted(self.seen)

    def load_state_dict(self, state: Iterable[str]) -> None:
        """Takes the fingerprints another has seen."""
        self.seen = set(state)


def first_distinct(space: Space, archs: Iterable[Arch], n: int) -> list[Arch]:
    """Returns the first ``n`` architectures that differ in fingerprint, in order."""
    found: dict[str, Arch] = {}
    for arch in archs:
        if len(found) == n:
            break
        found.setdefault(space.fingerprint(arch), arch)
    return list(found.values())


class AskTell:
    """What searches share that ask and are told, and learn nothing between; a paper is in its ``ask`` and ``tell``.

    Args:
        constraint: which architectures are allowed.
    """

    def __init__(self, space: Space, rng: np.random.Generator, constraint: Constraint | None) -> None:
        self.space, self.rng, self.constraint = space, rng, constraint
        self.ledger = Ledger()

    def repeated(self, queries: Sequence[Query], before: int) -> int:
        """Returns how many answers in a row bring nothing new, after ``before`` such ones; ask before they are recorded."""
        for query in queries:
            before = before + 1 if query.arch in self.ledger else 0
        return before

    def step(self) -> StepReport | None:
        """Returns None: it learns when told."""
        return None

    def best(self) -> Arch:
        """Returns the architecture with the highest score; raises StateError before any tell."""
        return self.ledger.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns the ``n`` best architectures, best first."""
        return first_distinct(self.space, self.ledger.ranked(), n)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return {"ledger": self.ledger.state_dict(), "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        self.ledger.load_state_dict(state["ledger"])
        self.rng.bit_generator.state = state["rng"]


class Rounds:
    """Asks ``initial`` distinct random architectures, then whatever was proposed; never one fingerprint twice.

    Where too few of the first evaluations succeed to learn anything, more random ones are asked.
    """

    def __init__(self, space: Space, rng: np.random.Generator, constraint: Constraint | None, initial: int) -> None:
        if initial < 2:
            raise SettingError(f"initial is {initial}, expected at least 2: one label alone has no order to learn")
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

    def again(self, arch: Arch) -> None:
        """Queues an architecture although one of its fingerprint was asked."""
        self.queue.append(arch)

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


def first_design(strategy: type, allowance: Allowance) -> dict[str, Any]:
    """Returns a setting ``initial`` that leaves something to learn with in a small budget; tables keep the paper's number."""
    if allowance.iterations is None:
        return {}
    usual = int(signature(strategy).parameters["initial"].default)
    return {"initial": min(usual, max(2, allowance.evaluations // 2))}


class Guided:
    """What searches share whose rounds a ranker guides; a paper is in the ``step`` that they add.

    Args:
        ranker: learns from the labels.
        constraint: which architectures are allowed.
        initial: random architectures first.
    """

    def __init__(
        self, space: Space, ranker: Ranker, rng: np.random.Generator, constraint: Constraint | None, initial: int
    ) -> None:
        self.space, self.ranker, self.rng, self.constraint = space, ranker, rng, constraint
        self.rounds = Rounds(space, rng, constraint, initial)

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
        """Returns a smaller first design for a small budget, see :func:`first_design`."""
        return first_design(cls, allowance)

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


class LabelsFirst(Guided):
    """A guided search whose first design is all that it learns from: its setting is called ``labels``."""

    kind: ClassVar[Kind] = "labels-first"

    @property
    def labels(self) -> int:
        """How many random architectures are labelled first; may be lowered while they are asked for."""
        return self.rounds.initial

    @labels.setter
    def labels(self, number: int) -> None:
        self.rounds.initial = number
