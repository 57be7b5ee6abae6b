"""Stages of a growing search space, as masks over the decisions of one space (CNAS)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from archduel.core import Decision, Space, decisions, sample
from archduel.core.space import Allowed, WordedSpace
from archduel.errors import SettingError, unknown

__all__ = ["growing_options", "node_stages", "numbered", "operation_stages", "random_order"]

FIRST = ("sep_conv_3x3", "nor_conv_3x3")
"""What the first stage has, by name: an operation with weights."""
PROBES = 64  # random architectures that are looked at to find the decisions of a space
NODE = re.compile(r"(?:^|/)node(\d+)(?:/|$)")


def _met(space: Space, kind: str) -> dict[str, Decision]:
    """Returns the decisions of ``kind`` that random architectures meet, by name."""
    if kind not in space.kinds:
        raise SettingError(f"space {space.name} has no decisions of kind {kind!r}, it has {', '.join(space.kinds)}")
    rng = np.random.default_rng(0)
    met = (d for _ in range(PROBES) for d in decisions(space, sample(space, rng).choices))
    return {d.name: d for d in met if d.kind == kind}


def growing_options(space: Space, kind: str) -> tuple[list[int], list[int]]:
    """Returns the options of ``kind`` between which there is a choice, and those that are only ever forced; ascending.

    Raises:
        SettingError: for a kind that the space does not have, or without any choice.
    """
    met = _met(space, kind).values()
    free = {option for d in met if len(d.options) > 1 for option in d.options}
    if not free:
        raise SettingError(f"kind {kind!r} of space {space.name} leaves no choice, so nothing can grow")
    return sorted(free), sorted({option for d in met for option in d.options} - free)


def numbered(space: Space, kind: str, names: Sequence[str | int]) -> list[int]:
    """Returns the options that ``names`` (names or numbers) mean.

    Raises:
        UnknownNameError: for a name or number that is no option of ``kind``.
        SettingError: for none, or one named twice.
    """
    known, _ = growing_options(space, kind)
    words = {str(option): option for option in known}
    if isinstance(space, WordedSpace):
        words = {space.words(kind)[option]: option for option in known} | words
    if isinstance(names, str) or not names:
        raise SettingError(f"order must be a list of operations, got {names!r}; the space has {', '.join(words)}")
    for name in names:
        if str(name) not in words:
            raise unknown("operation", str(name), words)
    found = [words[str(name)] for name in names]
    if len(set(found)) < len(found):
        raise SettingError(f"order names an operation twice: {', '.join(map(str, names))}")
    return found


def random_order(space: Space, kind: str, rng: np.random.Generator) -> list[int]:
    """Returns all options in a random order, but one with weights first (the last option where options have no names)."""
    known, _ = growing_options(space, kind)
    words = space.words(kind) if isinstance(space, WordedSpace) else ()
    first = next((words.index(name) for name in FIRST if name in words and words.index(name) in known), known[-1])
    rest = [option for option in known if option != first]
    return [first, *(rest[i] for i in rng.permutation(len(rest)).tolist())]


def operation_stages(space: Space, kind: str, order: Sequence[int]) -> list[Allowed]:
    """Returns masks that allow the first 1, 2, ... options of ``order``."""
    _, forced = growing_options(space, kind)
    return [{kind: sorted([*order[:n], *forced])} for n in range(1, len(order) + 1)]


def node_stages(space: Space, kind: str, idle: str) -> list[Allowed]:
    """Returns masks that allow the first 1, 2, ... nodes of each cell; later ones have the operation ``idle`` only.

    Raises:
        SettingError: for a space without numbered nodes, or whose nodes cannot be idle.
    """
    met = [(found, d) for d in _met(space, kind).values() if (found := NODE.search(d.name))]
    if not met:
        raise SettingError(f"space {space.name} cannot grow by nodes: its decisions have no names such as normal/node2/op0")
    words = space.words(kind) if isinstance(space, WordedSpace) else ()
    if idle not in words or any(words.index(idle) not in d.options for _, d in met):
        raise SettingError(
            f"growing by nodes needs the operation {idle!r} in space {space.name}, for nodes that are not there yet; "
            "the DARTS space has it with preset=cnas"
        )
    nodes = sorted({int(found[1]) for found, _ in met})
    late = [[d.name for found, d in met if int(found[1]) > node] for node in nodes]
    return [{name: (words.index(idle),) for name in names} for names in late]
