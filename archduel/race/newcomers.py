"""Who enters a race: architectures that a strategy asks for, random ones, and standard networks, each at a size of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archduel.core import (
    Arch,
    Constraint,
    Cost,
    Counts,
    Estimate,
    Finalists,
    Query,
    Scale,
    Space,
    Strategy,
    mutate,
    parse,
    sample,
)
from archduel.errors import InfeasibleError, RunError, StateError

__all__ = ["Asker", "Entry", "one_answer_apart", "read_scale", "was_asked", "write_scale"]

MOST_STEPS = 2_000  # a strategy that neither asks nor ends after so many steps is not waited for


def write_scale(scale: Scale) -> dict[str, int]:
    """Returns a scale as JSON values."""
    return {name: getattr(scale, name) for name in ("channels", "depth", "image_size", "in_channels", "n_classes")}


def read_scale(values: Mapping[str, int]) -> Scale:
    """Returns the scale of :func:`write_scale`."""
    return Scale(**values)


@dataclass(frozen=True)
class Entry:
    """A network that enters.

    Attributes:
        role: ``start`` (the space's own first network), ``search``, ``random``, ``standard``, ``tuned`` (plain fine-tuning) or ``earlier``
            (what an earlier race handed over).
        arch: the architecture.
        scale: its size.
        counts: what it costs.
        asked: whether the strategy asked for it.
        side: number of the source that it comes from.
        costs: what else is to be small, by name; empty in a race for accuracy alone.
    """

    role: str
    arch: Arch
    scale: Scale
    counts: Counts
    asked: bool = False
    side: int = 0
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Asker:
    """A strategy as a source of newcomers, with a record of every exchange so that a continued race repeats them.

    Attributes:
        strategy: asks and is told.
        space: where it searches.
        constraint: which architectures are allowed, for the random ones that take its place when it has no more.
        known: architectures that have entered, with their first score (nan until there is one).
        costs: likewise, with what else is to be small.
    """

    strategy: Strategy
    space: Space
    constraint: Constraint | None = None
    known: dict[Arch, float] = field(default_factory=dict)
    costs: dict[Arch, Mapping[str, float]] = field(default_factory=dict)

    def next(self, patient: Callable[[], bool]) -> tuple[Arch | None, list[list[Any]]]:
        """Returns an architecture that has not entered yet, or None, and what was exchanged to get it.

        Args:
            patient: whether there is time for another step of the strategy.
        """
        exchange: list[list[Any]] = []
        for _ in range(MOST_STEPS):
            queries = self.strategy.ask(1)
            if queries:
                arch = queries[0].arch
                exchange.append(["ask", str(arch)])
                if arch not in self.known:
                    return arch, exchange
                self.strategy.tell(queries, [self._estimate(arch, self.known[arch])])
                exchange.append(["again", self.known[arch]])
                continue
            if not patient():
                exchange.append(["idle", None])
                break
            if not self._step():
                exchange.append(["step", None])
                break
            exchange.append(["step", 1])
        return self._finalist(), exchange

    def _step(self) -> bool:
        """Lets the strategy learn; whether it could. With a handful of scores, or equal ones, a ranker has no order to learn."""
        try:
            return self.strategy.step() is not None
        except (StateError, ValueError):
            return False

    def _finalist(self) -> Arch | None:
        """Returns what the strategy thinks best of all that has not entered, where it can say."""
        try:
            if isinstance(self.strategy, Finalists):
                finalists: Iterable[Arch] = self.strategy.finalists(len(self.known) + 1)
                return next((arch for arch in finalists if arch not in self.known), None)
        except (StateError, ValueError):
            pass
        return None

    def random(self, rng: np.random.Generator, tries: int = 200) -> Arch | None:
        """Returns a random architecture that is functionally new; None if there is none among ``tries``."""
        marks = {self.space.fingerprint(arch) for arch in self.known if arch.space == self.space.name}
        for _ in range(tries):
            try:
                arch = sample(self.space, rng, self.constraint)
            except InfeasibleError:
                return None
            if self.space.fingerprint(arch) not in marks:
                return arch
        return None

    def neighbour(self, arch: Arch, rng: np.random.Generator, tries: int = 50) -> Arch | None:
        """Returns an architecture that differs from ``arch`` in one answer and is functionally new; None if none is found."""
        marks = {self.space.fingerprint(known) for known in self.known if known.space == self.space.name}
        for _ in range(tries):
            try:
                child = mutate(self.space, arch, rng, self.constraint)
            except InfeasibleError:
                return None
            if self.space.fingerprint(child) not in marks:
                return child
        return None

    def tell(self, arch: Arch, score: float, cost: Cost, *, asked: bool) -> None:
        """Remembers the first score of ``arch``; the strategy is told if it asked for it."""
        self.known[arch] = score
        if asked:
            self.strategy.tell([Query(arch)], [self._estimate(arch, score, cost)])

    def _estimate(self, arch: Arch, score: float, cost: Cost | None = None) -> Estimate:
        return Estimate(score, cost or Cost(), self.costs.get(arch, {}))

    def repeat(self, exchange: Iterable[list[Any]]) -> None:
        """Does again what an earlier attempt exchanged.

        Raises:
            RunError: if the strategy asks for something else than it did then.
        """
        queries: list[Query] = []
        for what, value in exchange:
            if what in ("step", "idle"):
                self.strategy.ask(1)
                if what == "step":
                    self._step()
            elif what == "again":
                self.strategy.tell(queries, [self._estimate(queries[0].arch, float(value))])
            else:
                queries = self.strategy.ask(1)
                if not queries or queries[0].arch != parse(value):
                    got = str(queries[0].arch) if queries else "nothing"
                    raise RunError(f"the race's journal says that the strategy asked for {value}, now it asks for {got}")


def one_answer_apart(first: Arch, second: Arch) -> bool:
    """Whether two architectures differ in one answer."""
    same = first.space == second.space and len(first.choices) == len(second.choices)
    return same and sum(a != b for a, b in zip(first.choices, second.choices)) == 1


def was_asked(exchange: list[list[Any]]) -> bool:
    """Whether an exchange with the strategy ended with a question that has to be answered."""
    return bool(exchange) and exchange[-1][0] == "ask"
