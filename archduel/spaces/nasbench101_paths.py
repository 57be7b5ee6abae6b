"""Paths through many NAS-Bench-101 cells at once: how many, how long, through which operations.

Cells stand in one layout: vertex 0 is the input, 6 the output, 1..5 the inner ones, also where some are missing. All
recurrences run over the 21 possible edges in topological order, side by side for all cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archduel.spaces.nasbench101_arrays import Cells

__all__ = [
    "SUBSETS",
    "Laid",
    "counts_by_operations",
    "depths",
    "extreme_loads",
    "lay_out",
    "paths_within",
    "reachable",
    "sequence_counts",
]

SUBSETS = tuple(tuple(op for op in range(3) if number >> op & 1) for number in range(8))
"""All sets of operations."""
_PAIRS = [(x, y) for y in range(1, 7) for x in range(y)]
_OUT = 6

Floats = NDArray[np.float32]


class Laid(NamedTuple):
    """N cells in one layout.

    Attributes:
        edge: (N, 7, 7) bool, ``[b, x, y]`` = edge x -> y.
        has: (N, 3, 7) bool, ``[b, o, v]`` = inner vertex v has operation o.
    """

    edge: NDArray[np.bool_]
    has: NDArray[np.bool_]


def lay_out(cells: Cells) -> Laid:
    """Returns the cells with the output moved to vertex 6."""
    edge = cells.adjacency()
    for n in range(2, 7):
        rows = np.flatnonzero(cells.n_vertices == n)
        edge[rows, :, _OUT] = edge[rows, :, n - 1]
        edge[rows, :, n - 1] = False
    has = np.zeros((len(cells), 3, 7), dtype=bool)
    has[:, :, 1:6] = cells.ops[:, None, :] == np.arange(3)[:, None]
    return Laid(edge, has)


def _inside(laid: Laid) -> NDArray[np.bool_]:
    """Returns (N, 8, 7): whether a path that keeps to the operations of each subset may pass a vertex."""
    inside = np.stack([laid.has[:, list(subset)].any(axis=1) for subset in SUBSETS], axis=1)
    inside[:, :, [0, _OUT]] = True
    return inside


def paths_within(laid: Laid) -> tuple[Floats, Floats, Floats]:
    """Returns (number, shortest, longest) of the paths through each subset's operations only, (N, 8) each.

    Lengths are in edges, 0 where there is no such path.
    """
    inside = _inside(laid)
    number = np.zeros(inside.shape, dtype=np.float32)
    longest = np.full(inside.shape, -np.inf, dtype=np.float32)
    shortest = np.full(inside.shape, np.inf, dtype=np.float32)
    number[:, :, 0], longest[:, :, 0], shortest[:, :, 0] = 1, 0, 0
    for x, y in _PAIRS:
        passes = laid.edge[:, x, y, None] & inside[:, :, y]  # (N, 8)
        number[:, :, y] += number[:, :, x] * passes
        longest[:, :, y] = np.maximum(longest[:, :, y], np.where(passes, longest[:, :, x] + 1, -np.inf))
        shortest[:, :, y] = np.minimum(shortest[:, :, y], np.where(passes, shortest[:, :, x] + 1, np.inf))
    none = number[:, :, _OUT] == 0
    return number[:, :, _OUT], np.where(none, 0, shortest[:, :, _OUT]), np.where(none, 0, longest[:, :, _OUT])


def extreme_loads(laid: Laid) -> tuple[Floats, Floats]:
    """Returns (least, most) vertices of each subset's operations on any path, (N, 8) each."""
    load = _inside(laid).astype(np.float32)
    load[:, :, [0, _OUT]] = 0
    least, most = np.full_like(load, np.inf), np.full_like(load, -np.inf)
    least[:, :, 0] = most[:, :, 0] = 0
    for x, y in _PAIRS:
        edge = laid.edge[:, x, y, None]
        least[:, :, y] = np.minimum(least[:, :, y], np.where(edge, least[:, :, x] + load[:, :, y], np.inf))
        most[:, :, y] = np.maximum(most[:, :, y], np.where(edge, most[:, :, x] + load[:, :, y], -np.inf))
    return least[:, :, _OUT], most[:, :, _OUT]


def counts_by_operations(laid: Laid) -> Floats:
    """Returns (N, 4, 6): paths with k = 0..5 inner vertices of any kind (row 0) and of each operation (rows 1..3)."""
    counted = np.concatenate([laid.has.any(axis=1, keepdims=True), laid.has], axis=1)  # (N, 4, 7)
    number = np.zeros((*counted.shape, 6), dtype=np.float32)
    number[:, :, 0, 0] = 1
    for x, y in _PAIRS:
        edge = laid.edge[:, x, y, None, None]
        here = number[:, :, x]  # (N, 4, 6)
        one_more = np.roll(here, 1, axis=2)  # no path has more than 5, so nothing wraps round
        number[:, :, y] += edge * np.where(counted[:, :, y, None], one_more, here)
    return number[:, :, _OUT]


def sequence_counts(laid: Laid, longest: int = 3) -> dict[tuple[int, ...], Floats]:
    """Returns (N,) numbers of paths whose operations are exactly each sequence of at most ``longest``."""
    edge = laid.edge.astype(np.float32)
    ending = np.zeros(
        (len(edge), 1, 7), dtype=np.float32
    )  # (N, sequences, vertex): partial paths that end there
    ending[:, 0, 0] = 1
    sequences: list[tuple[int, ...]] = [()]
    found: dict[tuple[int, ...], Floats] = {}
    for length in range(longest + 1):
        onwards = ending @ edge
        found |= {sequence: onwards[:, i, _OUT] for i, sequence in enumerate(sequences)}
        if length < longest:
            ending = (onwards[:, :, None] * laid.has[:, None]).reshape(
                len(edge), -1, 7
            )  # (N, 3 sequences, 7)
            sequences = [(*sequence, op) for sequence in sequences for op in range(3)]
    return found


def reachable(laid: Laid) -> NDArray[np.bool_]:
    """Returns (N, 7, 7): whether a path leads from x to y."""
    reach = laid.edge.copy()
    for y in range(2, 7):
        for z in range(1, y):
            reach[:, :, y] |= reach[:, :, z] & laid.edge[:, z, y, None]
    return reach


def depths(laid: Laid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns ((N, 7), (N, 7)): the longest way from the input to each vertex, and on to the output."""
    before = np.zeros((len(laid.edge), 7), dtype=np.int64)
    after = np.zeros_like(before)
    for x, y in _PAIRS:
        before[:, y] = np.maximum(before[:, y], (before[:, x] + 1) * laid.edge[:, x, y])
    for x, y in reversed(_PAIRS):
        after[:, x] = np.maximum(after[:, x], (after[:, y] + 1) * laid.edge[:, x, y])
    return before, after
