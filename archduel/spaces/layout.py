"""Layered layout of small directed graphs: layers from top to bottom, few crossings, edges of one source bundled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Layout", "layered"]

LAYER = 46.0
GAP = 14.0
SWEEPS = 12
Key = tuple[int, int]
"""(vertex, layer): the vertex itself, or a bend of its outgoing edges in a later layer."""


class Layout(NamedTuple):
    """Positions in pixels, top left corner at 0, 0.

    Attributes:
        centres: (x, y) of each vertex.
        paths: for each edge the points from source to target, bends in between.
        width: of the whole.
        height: from the first layer's centre to the last's.
    """

    centres: list[tuple[float, float]]
    paths: list[list[tuple[float, float]]]
    width: float
    height: float


def layered(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Layout:
    """Returns the layout of a graph without cycles.

    Args:
        widths: of each vertex in pixels; vertices come in topological order (every edge leads to a larger index).
        edges: (source, target), without repetition.
    """
    level = _levels(len(widths), edges)
    chains = [[(s, at) for at in range(level[s], level[t])] + [(t, level[t])] for s, t in edges]
    links = {link for chain in chains for link in pairwise(chain)}
    rows = _ordered(level, links)
    size = {key: widths[key[0]] if level[key[0]] == key[1] else 6.0 for row in rows for key in row}
    x = _places(rows, links, size)
    left = min(x[key] - size[key] / 2 for key in x)
    right = max(x[key] + size[key] / 2 for key in x)
    point = {key: (x[key] - left, key[1] * LAYER) for key in x}
    centres = [point[vertex, level[vertex]] for vertex in range(len(widths))]
    paths = [[point[key] for key in chain] for chain in chains]
    return Layout(centres, paths, right - left, (len(rows) - 1) * LAYER)


def _levels(n: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Returns the layer of each vertex: sources on top, everything else as low as what it feeds allows."""
    level = [0] * n
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        level[target] = max(level[target], level[source] + 1)
    fed = {target for _, target in edges}
    for vertex in reversed(range(n)):
        below = [level[target] for source, target in edges if source == vertex]
        if below and vertex in fed:
            level[vertex] = min(below) - 1
    return level


def _ordered(level: Sequence[int], links: set[tuple[Key, Key]]) -> list[list[Key]]:
    """Returns the keys of each layer from left to right; neighbours in other layers pull them into order."""
    keys = {key for link in links for key in link} | set(enumerate(level))
    rows: list[list[Key]] = [sorted(key for key in keys if key[1] == at) for at in range(max(level) + 1)]
    best, fewest = [list(row) for row in rows], _crossings(rows, links)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for at in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            near = {key: i for i, key in enumerate(rows[at - 1 if down else at + 1])}
            pull = _pull(links, near, down)
            here = {key: i for i, key in enumerate(rows[at])}
            rows[at].sort(key=lambda key: (pull(key, here[key]), here[key]))
        if (crossings := _crossings(rows, links)) < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _pull(links: set[tuple[Key, Key]], near: dict[Key, int], down: bool) -> Callable[[Key, float], float]:
    """Returns a function: mean position of a key's neighbours in the layer ``near``, or where it is now."""

    def mean(key: Key, now: float) -> float:
        """Returns the mean position of the neighbours of ``key``, ``now`` without any."""
        found = [
            near[a if down else b]
            for a, b in links
            if (b if down else a) == key and (a if down else b) in near
        ]
        return sum(found) / len(found) if found else now

    return mean


def _crossings(rows: Sequence[Sequence[Key]], links: Iterable[tuple[Key, Key]]) -> int:
    place = {key: i for row in rows for i, key in enumerate(row)}
    ends = sorted((a[1], place[a], place[b]) for a, b in links)
    return sum(
        first[0] == second[0] and (first[1] - second[1]) * (first[2] - second[2]) < 0
        for i, first in enumerate(ends)
        for second in ends[i + 1 :]
    )


def _places(
    rows: Sequence[Sequence[Key]], links: set[tuple[Key, Key]], size: dict[Key, float]
) -> dict[Key, float]:
    """Returns the x of each key: near the mean of its neighbours, in order, without overlap."""
    x: dict[Key, float] = {}
    for row in rows:
        at = 0.0
        for key in row:
            x[key] = at + size[key] / 2
            at += size[key] + GAP
        for key in row:
            x[key] -= (at - GAP) / 2  # all layers start centred
    for _ in range(SWEEPS):
        for row in [*rows, *reversed(rows)]:
            wish = {}
            for key in row:
                near = [x[b] for a, b in links if a == key] + [x[a] for a, b in links if b == key]
                wish[key] = sum(near) / len(near) if near else x[key]
            _spread(row, wish, size, x)
    return x


def _spread(row: Sequence[Key], wish: dict[Key, float], size: dict[Key, float], x: dict[Key, float]) -> None:
    """Moves a layer to its wishes in the least-squares sense, keeping order and gaps (pool adjacent violators)."""
    offset, blocks = 0.0, []  # (mean of wish - offset, members)
    offsets: dict[Key, float] = {}
    for i, key in enumerate(row):
        if i:
            offset += (size[row[i - 1]] + size[key]) / 2 + GAP
        offsets[key] = offset
        blocks.append((wish[key] - offset, [key]))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (second, more), (first, members) = blocks.pop(), blocks.pop()
            total = first * len(members) + second * len(more)
            blocks.append((total / (len(members) + len(more)), members + more))
    for start, members in blocks:
        for key in members:
            x[key] = start + offsets[key]
