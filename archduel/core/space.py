"""What a search space must say (a tree of categorical decisions) and what everybody gets for it for free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from archduel.core.arch import Arch
from archduel.errors import InfeasibleError, InvalidArchError, SettingError

__all__ = ["Allowed", "Constraint", "Decision", "Drawer", "GraphBatch", "GraphSpace", "Space", "TextSpace", "WordedSpace", "check_decisions", "decisions", "distinct_cells", "enumerate_space", "fair_sample", "mutate", "neighbours", "permitted", "random_archs", "sample"]

ENUMERABLE = 100_000
"""Spaces up to this size are listed whole, so that every functional class has the same chance."""


def distinct_cells(space: Space, n: int, seed: int) -> list[Arch]:
    """Returns ``n`` architectures of different fingerprints in random order; more seeds of one size share a beginning.

    Raises:
        SettingError: if the space has fewer.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Arch] = {}
    if getattr(space, "size", ENUMERABLE + 1) <= ENUMERABLE:
        for arch in enumerate_space(space):
            found.setdefault(space.fingerprint(arch), arch)
        order = list(found.values())
        if n > len(order):
            raise SettingError(
                f"{space.name} has {len(order)} functionally different architectures, {n} were asked for"
            )
        return [order[i] for i in rng.permutation(len(order))[:n]]
    while len(found) < n:
        arch = sample(space, rng)
        found.setdefault(space.fingerprint(arch), arch)
    return list(found.values())


def random_archs(space: Space, n: int, seed: int) -> list[Arch]:
    """Returns ``n`` random architectures of different fingerprints; a larger number begins with the same ones.

    Raises:
        InfeasibleError: if the space seems to have fewer.
    """
    rng = np.random.default_rng([seed, 61])
    found: dict[str, Arch] = {}
    for _ in range(1_000 + 100 * n):
        if len(found) == n:
            break
        arch = sample(space, rng)
        found.setdefault(space.fingerprint(arch), arch)
    if len(found) < n:
        raise InfeasibleError(f"{space.name} gave only {len(found)} different architectures, {n} were asked for")
    return list(found.values())


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
class Drawer(Protocol):
    """A space that draws architectures itself, because uniform decisions are not uniform architectures there."""

    def draw(self, rng: np.random.Generator) -> Arch:
        """Returns a random architecture; the space's docstring says over what it is uniform."""


def decisions(space: Space, choices: Sequence[int]) -> Iterator[Decision]:
    """Yields the decisions that ``choices`` answer, in order.

    Raises:
        InvalidArchError: if an answer is not an option, or there are too few or too many.
    """
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
) -> Arch:
    """Returns a random architecture that satisfies ``constraint``.

    Uniform over answers at each decision, which is uniform over encodings where the tree is regular; spaces that need
    more draw themselves (:class:`Drawer`) and say over what they are uniform. Under a mask it is uniform over the answers
    that are left to each decision.

    Raises:
        InfeasibleError: if none of ``tries`` architectures satisfies the constraint.
        SettingError: if ``allowed`` leaves a decision without answers.
    """
    draws = allowed is None and isinstance(space, Drawer)
    for _ in range(tries):
        arch = space.draw(rng) if draws else Arch(space.name, _complete(space, (), rng, allowed))  # type: ignore[attr-defined]
        if constraint is None or constraint(arch):
            return arch
    raise InfeasibleError(
        f"none of {tries} random architectures of {space.name} satisfies the constraint; loosen the limits"
    )


def _change(space: Space, arch: Arch, position: int, value: int, rng: np.random.Generator) -> Arch:
    """Returns ``arch`` with one answer changed, later answers kept where they are still options."""
    prefix = (*arch.choices[:position], value)
    for old in arch.choices[position + 1 :]:
        decision = space.decision(prefix)
        if decision is None:
            break
        keep = old in decision.options
        prefix = (*prefix, old if keep else decision.options[int(rng.integers(len(decision.options)))])
    return Arch(space.name, _complete(space, prefix, rng))


def mutate(
    space: Space, arch: Arch, rng: np.random.Generator, constraint: Constraint | None = None, *, tries: int = 1_000
) -> Arch:
    """Returns a valid architecture that differs from ``arch`` in one random answer (and what that forces).

    Raises:
        InfeasibleError: if no mutation among ``tries`` is valid and satisfies the constraint.
    """
    asked = list(decisions(space, arch.choices))
    free = [i for i, decision in enumerate(asked) if len(decision.options) > 1]
    for _ in range(tries if free else 0):
        position = free[int(rng.integers(len(free)))]
        others = [o for o in asked[position].options if o != arch.choices[position]]
        child = _change(space, arch, position, others[int(rng.integers(len(others)))], rng)
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
    found: dict[Arch, None] = {}
    for position, decision in enumerate(list(decisions(space, arch.choices))):
        for value in decision.options:
            if value != arch.choices[position]:
                child = _change(space, arch, position, value, np.random.default_rng(position))
                if child != arch and _valid(space, child) and (constraint is None or constraint(child)):
                    found[child] = None
    return list(found)


def enumerate_space(space: Space) -> Iterator[Arch]:
    """Yields every architecture in lexicographic order of its choices."""
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


def fair_sample(
    space: Space, n: int, rng: np.random.Generator, *, allowed: Mapping[str, Sequence[int]] | None = None
) -> list[Arch]:
    """Returns ``n`` architectures in which the options of each question occur equally often, to within one.

    In a space with K options at every decision, ``n = K`` is a round of strict fairness: every operation of every edge
    occurs exactly once. Where a question comes up depends on earlier answers, it is fair among the times that it came up.

    Args:
        space: what to sample from.
        n: architectures.
        rng: randomness.
        allowed: options of a kind of decision that may be chosen (a stage's mask); kinds not named are free.

    Raises:
        InfeasibleError: if ``allowed`` leaves a question without an answer.
    """
    queues: dict[str, list[int]] = {}
    archs = []
    for _ in range(n):
        choices: tuple[int, ...] = ()
        while (decision := space.decision(choices)) is not None:
            choices += (_next(decision, queues, rng, allowed or {}),)
        archs.append(Arch(space.name, choices))
    return archs


def _next(
    decision: Decision, queues: dict[str, list[int]], rng: np.random.Generator, allowed: Mapping[str, Sequence[int]]
) -> int:
    """Returns the first answer still waiting among the present options, after shuffling all of them in if there is none."""
    options = [o for o in decision.options if o in allowed.get(decision.kind, decision.options)]
    if not options:
        raise InfeasibleError(f"no option of {decision.name} is among the allowed {list(allowed[decision.kind])}")
    queue = queues.setdefault(decision.name, [])
    waiting = next((o for o in queue if o in options), None)
    if waiting is None:
        queue += [options[int(i)] for i in rng.permutation(len(options))]
        waiting = next(o for o in queue if o in options)
    queue.remove(waiting)
    return waiting
