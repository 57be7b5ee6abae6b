"""What a search space must say (a tree of categorical decisions) and what everybody gets for it for free."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from archduel.core.arch import Arch
from archduel.errors import InfeasibleError, InvalidArchError, SettingError, unknown

__all__ = ["ENUMERABLE", "Allowed", "Constraint", "Decision", "Drawer", "GraphBatch", "GraphSpace", "Space", "TextSpace", "WordedSpace", "check_decisions", "check_mask", "decisions", "enumerate_space", "fair_sample", "mutate", "neighbours", "permitted", "sample", "sample_distinct"]

ENUMERABLE = 100_000
"""Encodings that are listed in a second or two: larger spaces are drawn from and never listed."""

Constraint = Callable[[Arch], bool]
"""A rule that says whether an architecture is allowed (size limits, latency limits)."""

Allowed = Mapping[str, Sequence[int]]
"""A stage's mask: the answers left to a kind of decision, or to one decision by its name (which counts before its kind)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One question on the way to an architecture.

    Attributes:
        name: where the question stands, such as ``normal/node2/op0``.
        kind: which vocabulary the answer is from (a key of ``Space.kinds``).
        options: the allowed answers, ascending indices into that vocabulary.
    """

    name: str
    kind: str
    options: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GraphBatch:
    """Architectures as graphs with operations on the nodes; C cells an architecture, padded to V nodes.

    Attributes:
        ops: (B, C, V) int64, 0 = padding, 1..n_ops-1 = kinds of node.
        adj: (B, C, V, V) float32, ``[b, c, i, j] = 1`` for an edge i -> j.
        mask: (B, C, V) bool, true for real nodes.
        n_ops: size of the vocabulary of ``ops``, padding included.
    """

    ops: NDArray[np.int64]
    adj: NDArray[np.float32]
    mask: NDArray[np.bool_]
    n_ops: int


class Space(Protocol):
    """A search space: what may be decided next after a prefix, and what an architecture looks like in numbers."""

    @property
    def name(self) -> str:
        """The space's name, the first part of every ``str(arch)``."""

    @property
    def kinds(self) -> Mapping[str, int]:
        """Vocabulary size of each kind of decision."""

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the next question after the answers ``prefix``, or None when the architecture is complete."""

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError, showing the offending part, unless ``arch`` belongs to the space."""

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, F) numbers that describe the architectures (structure only, nothing trained)."""

    def fingerprint(self, arch: Arch) -> str:
        """Returns a text that is equal for architectures that the space's reductions make equal."""


@runtime_checkable
class GraphSpace(Protocol):
    """A space whose architectures are graphs."""

    def graphs(self, archs: Sequence[Arch]) -> GraphBatch:
        """Returns the architectures as padded graphs."""


@runtime_checkable
class TextSpace(Protocol):
    """A space with a text form of its own (a genotype, a cell string)."""

    def read(self, text: str) -> Arch:
        """Returns the architecture of ``text``; raises InvalidArchError that shows the offending part."""

    def write(self, arch: Arch) -> str:
        """Returns the space's own text of ``arch``."""


@runtime_checkable
class WordedSpace(Protocol):
    """A space whose answers have names, such as those of its operations."""

    def words(self, kind: str) -> tuple[str, ...]:
        """Returns the names of the vocabulary of ``kind``, in the order of its indices."""


@runtime_checkable
class KnowsConstants(Protocol):
    """A space that knows which of its networks answer the same whatever they see."""

    def ignores_input(self, arch: Arch) -> bool:
        """Returns whether no path leads from the input of the network of ``arch`` to its output."""


@runtime_checkable
class Drawer(Protocol):
    """A space that draws architectures itself, because uniform decisions are not uniform architectures there."""

    def draw(self, rng: np.random.Generator) -> Arch:
        """Returns a random architecture; the space's docstring says over what it is uniform."""


def decisions(space: Space, choices: Sequence[int]) -> Iterator[Decision]:
    """Yields the decisions that ``choices`` answer, in order.

    Raises:
        InvalidArchError: if an answer is not an option, or there are too few or too many.
    """
    # answer by answer, because later questions depend on earlier answers: the second may not exist before the first
    for i, choice in enumerate(choices):
        decision = space.decision(choices[:i])
        if decision is None:
            raise InvalidArchError(f"{space.name}: {len(choices)} choices given, {i} expected")
        if choice not in decision.options:
            raise InvalidArchError(
                f"{space.name}: choice {i} ({decision.name}) is {choice}, expected one of {list(decision.options)}"
            )
        yield decision
    missing = space.decision(choices)
    if missing is not None:
        raise InvalidArchError(
            f"{space.name}: only {len(choices)} choices given, the next ({missing.name}) is missing"
        )


def check_decisions(space: Space, arch: Arch) -> None:
    """Raises InvalidArchError unless ``arch`` names this space and answers every decision with an option."""
    if arch.space != space.name:
        raise InvalidArchError(f"{arch} belongs to space {arch.space!r}, expected {space.name!r}")
    for _ in decisions(space, arch.choices):
        pass


def permitted(decision: Decision, allowed: Allowed | None) -> tuple[int, ...]:
    """Returns the options of ``decision`` that the mask ``allowed`` leaves, all of them where it says nothing.

    Raises:
        SettingError: if it leaves none.
    """
    # a name is more precise than a kind, and so says more about what the caller wants
    key = decision.name if allowed is not None and decision.name in allowed else decision.kind
    if allowed is None or key not in allowed:
        return decision.options
    wanted = set(allowed[key])
    options = tuple(option for option in decision.options if option in wanted)
    if not options:
        raise SettingError(
            f"allowed[{key!r}] = {sorted(wanted)} leaves no answer to {decision.name}, which takes {list(decision.options)}"
        )
    return options


_names: WeakKeyDictionary[Any, frozenset[str]] = WeakKeyDictionary()
"""Space -> names of its decisions, as far as random architectures show them; looked up by masks alone."""
# A decision that comes up in one architecture of fifty is then missed once in 24,000 times.
PROBES = 500


def check_mask(space: Space, allowed: Allowed | None) -> None:
    """Raises SettingError for a key of a mask that is neither a kind of decision of ``space`` nor the name of one."""
    keys = set(allowed or ()) - set(space.kinds)
    # masks by kind, the usual ones, cost nothing
    if not keys:
        return
    if space not in _names:
        rng = np.random.default_rng(0)
        archs = [Arch(space.name, _complete(space, (), rng)) for _ in range(PROBES)]
        _names[space] = frozenset(d.name for arch in archs for d in decisions(space, arch.choices))
    for key in sorted(keys - _names[space]):
        raise SettingError(str(unknown(f"allowed[{key!r}]: decision of {space.name}", key, {*space.kinds, *_names[space]})))


def _complete(
    space: Space, prefix: tuple[int, ...], rng: np.random.Generator, allowed: Allowed | None = None
) -> tuple[int, ...]:
    """Returns ``prefix`` continued by uniform random answers."""
    while (decision := space.decision(prefix)) is not None:
        options = permitted(decision, allowed)
        prefix = (*prefix, options[int(rng.integers(len(options)))])
    return prefix


def sample(
    space: Space,
    rng: np.random.Generator,
    constraint: Constraint | None = None,
    *,
    tries: int = 10_000,
    allowed: Allowed | None = None,
    draw: Callable[[np.random.Generator], Arch] | None = None,
) -> Arch:
    """Returns a random architecture that satisfies ``constraint``.

    Uniform over answers at each decision, which is uniform over encodings where the tree is regular; spaces that need
    more draw themselves (:class:`Drawer`) and say over what they are uniform. Under a mask it is uniform over the answers
    that are left to each decision. ``draw`` replaces the space's own way.

    Raises:
        InfeasibleError: if none of ``tries`` architectures satisfies the constraint.
        SettingError: if ``allowed`` leaves a decision without answers, or names one that there is not.
    """
    check_mask(space, allowed)
    if draw is None and allowed is None and isinstance(space, Drawer):
        draw = space.draw
    for _ in range(tries):
        arch = Arch(space.name, _complete(space, (), rng, allowed)) if draw is None else draw(rng)
        if constraint is None or constraint(arch):
            return arch
    raise InfeasibleError(
        f"none of {tries} random architectures of {space.name} satisfies the constraint; loosen the limits"
    )


def sample_distinct(
    space: Space,
    n: int,
    rng: np.random.Generator,
    *,
    constraint: Constraint | None = None,
    exclude: Container[str] = (),
    enumerate_up_to: int = 0,
    tries: int = 1_000,
    draw: Callable[[np.random.Generator], Arch] | None = None,
) -> list[Arch]:
    """Returns ``n`` random architectures of different fingerprints; with the same generator, more begin with the same ones.

    Ends in any space: after ``tries`` draws in a row that gave nothing new, a space of at most ``ENUMERABLE`` encodings is
    listed and what is left is drawn from the list; a larger one is given up.

    Args:
        space: says which architectures are the same.
        exclude: fingerprints that do not count as new.
        enumerate_up_to: spaces of at most so many encodings are listed at once, which gives every functional class the same
            chance; drawing favours classes that many encodings belong to.
        tries: draws in a row without anything new before drawing ends.
        draw: replaces the space's own way of drawing.

    Raises:
        InfeasibleError: if there are fewer, or no more are found; its ``archs`` are those that were.
    """
    fresh = _Fresh(space, constraint, exclude)
    listed = _listed(space, enumerate_up_to)
    if listed is not None:
        for arch in listed:
            fresh.add(arch)
        archs = list(fresh.archs.values())
        archs = [archs[i] for i in rng.permutation(len(archs))[:n]]
    else:
        repeats = 0
        while len(fresh.archs) < n and repeats < tries:
            repeats = 0 if fresh.add(sample(space, rng, constraint, draw=draw)) else repeats + 1
        # a way of drawing of its own may not reach the whole list, and so must not be filled up from it
        if len(fresh.archs) < n and draw is None:
            listed = _listed(space, ENUMERABLE)
            fresh.add_rest(listed or (), n, rng)
        archs = list(fresh.archs.values())
    if len(archs) < n:
        which = f"{'more ' if exclude else ''}functionally different architectures{' within the limits' if constraint else ''}"
        raise InfeasibleError(
            f"{space.name} {'gave' if listed is None else 'has'} only {len(archs)} {which}, {n} were asked for; "
            f"ask for fewer{', or loosen the limits' if constraint else ''}",
            archs,
        )
    return archs


class _Fresh:
    """Architectures by fingerprint, each allowed and new."""

    def __init__(self, space: Space, constraint: Constraint | None, exclude: Container[str]) -> None:
        self.space, self.constraint, self.exclude = space, constraint, exclude
        self.archs: dict[str, Arch] = {}

    def mark(self, arch: Arch) -> str | None:
        """Returns the fingerprint of an architecture that is allowed and new, None for any other."""
        if self.constraint is not None and not self.constraint(arch):
            return None
        mark = self.space.fingerprint(arch)
        return None if mark in self.exclude or mark in self.archs else mark

    def add(self, arch: Arch) -> bool:
        """Takes an architecture if it is allowed and new, and returns whether it is."""
        mark = self.mark(arch)
        if mark is not None:
            self.archs[mark] = arch
        return mark is not None

    def add_rest(self, listed: Iterable[Arch], n: int, rng: np.random.Generator) -> None:
        """Takes what is new among ``listed`` in random order, until there are ``n``."""
        left = [(arch, mark) for arch in listed if (mark := self.mark(arch)) is not None]
        while left and len(self.archs) < n:
            arch, mark = left[int(rng.integers(len(left)))]
            self.archs[mark] = arch
            left = [pair for pair in left if pair[1] != mark]


_larger_than: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""Space -> encodings that it is known to have at least: searches that exhausted it ask again and again."""


def _listed(space: Space, limit: int) -> list[Arch] | None:
    """Returns all encodings of a space of at most ``limit``, None for a larger one."""
    limit = min(limit, getattr(space, "listable", limit))  # a space may know that listing it takes long
    if limit < 1 or max(getattr(space, "size", 0), _larger_than.get(space, 0)) > limit:
        return None
    archs = list(islice(enumerate_space(space), limit + 1))
    if len(archs) <= limit:
        return archs
    _larger_than[space] = limit + 1
    return None


def _change(space: Space, arch: Arch, questions: Sequence[Decision], position: int, value: int, rng: np.random.Generator) -> Arch:
    """Returns ``arch`` with one answer changed; later answers are kept by the name of their question where they are still options."""
    # by name, because a changed depth opens questions in the middle: what stood behind them must keep its answer
    before = {decision.name: answer for decision, answer in zip(questions, arch.choices)}
    prefix = (*arch.choices[:position], value)
    while (decision := space.decision(prefix)) is not None:
        old = before.get(decision.name)
        # as much as possible stays: a mutation should be a small step, also where one answer opens and closes others
        keep = old is not None and old in decision.options
        prefix = (*prefix, old if keep else decision.options[int(rng.integers(len(decision.options)))])  # type: ignore[arg-type]
    return Arch(space.name, prefix)


def mutate(
    space: Space, arch: Arch, rng: np.random.Generator, constraint: Constraint | None = None, *, tries: int = 1_000
) -> Arch:
    """Returns a valid architecture that differs from ``arch`` in one random answer (and what that forces).

    Raises:
        InfeasibleError: if no mutation among ``tries`` is valid and satisfies the constraint.
    """
    questions = list(decisions(space, arch.choices))
    # where there is one option, nothing can change: drawn anyway, such places would use up the tries
    free = [i for i, decision in enumerate(questions) if len(decision.options) > 1]
    for _ in range(tries if free else 0):
        position = free[int(rng.integers(len(free)))]
        others = [o for o in questions[position].options if o != arch.choices[position]]
        child = _change(space, arch, questions, position, others[int(rng.integers(len(others)))], rng)
        # a change may be undone by what it forces, and decisions alone do not say all that a space forbids
        if child != arch and _valid(space, child) and (constraint is None or constraint(child)):
            return child
    raise InfeasibleError(f"no mutation of {arch} satisfies the constraint; loosen the limits")


def _valid(space: Space, arch: Arch) -> bool:
    try:
        space.validate(arch)
    except InvalidArchError:
        return False
    return True


def neighbours(space: Space, arch: Arch, constraint: Constraint | None = None) -> list[Arch]:
    """Returns all distinct valid architectures that differ from ``arch`` in one answer (in a fixed order).

    Answers that a change makes impossible are redrawn with a generator seeded by the position, so the list is fixed.
    """
    # a dict, not a set: the order of a set of architectures changes from one process to the next
    different: dict[Arch, None] = {}
    questions = list(decisions(space, arch.choices))
    for position, decision in enumerate(questions):
        for value in decision.options:
            if value != arch.choices[position]:
                child = _change(space, arch, questions, position, value, np.random.default_rng(position))
                if child != arch and _valid(space, child) and (constraint is None or constraint(child)):
                    different[child] = None
    return list(different)


def enumerate_space(space: Space) -> Iterator[Arch]:
    """Yields every architecture in lexicographic order of its choices."""
    # a stack instead of recursion: spaces of 30 decisions and more would nest as many generators
    stack: list[tuple[int, ...]] = [()]
    while stack:
        prefix = stack.pop()
        decision = space.decision(prefix)
        if decision is None:
            yield Arch(space.name, prefix)
        else:
            stack.extend((*prefix, option) for option in reversed(decision.options))


# -- Fair sampling: architectures in which every answer to a question occurs equally often ------------------------------
#
# Source: strict fairness, Chu, Zhang and Xu, "FairNAS" (ICCV 2021).


def fair_sample(space: Space, n: int, rng: np.random.Generator, *, allowed: Allowed | None = None) -> list[Arch]:
    """Returns ``n`` architectures in which the options of each question occur equally often, to within one.

    In a space with K options at every decision, ``n = K`` is a round of strict fairness: every operation of every edge
    occurs exactly once. Where a question comes up depends on earlier answers, it is fair among the times that it came up.

    Args:
        allowed: a stage's mask, by kind or by name as in :func:`permitted`; what it does not name is free.

    Raises:
        SettingError: if ``allowed`` leaves a question without an answer, or names one that there is not.
    """
    check_mask(space, allowed)
    # one queue a question, shared by all n: what one architecture took, the next ones cannot take before all were taken
    queues: dict[str, list[int]] = {}
    archs = []
    for _ in range(n):
        choices: tuple[int, ...] = ()
        while (decision := space.decision(choices)) is not None:
            choices += (_next(decision, queues, rng, allowed),)
        archs.append(Arch(space.name, choices))
    return archs


def _next(decision: Decision, queues: dict[str, list[int]], rng: np.random.Generator, allowed: Allowed | None) -> int:
    """Returns the first answer still waiting among the present options, after shuffling all of them in if there is none."""
    options = permitted(decision, allowed)
    queue = queues.setdefault(decision.name, [])
    waiting = next((o for o in queue if o in options), None)
    if waiting is None:
        queue += [options[int(i)] for i in rng.permutation(len(options))]
        waiting = next(o for o in queue if o in options)
    queue.remove(waiting)
    return waiting
