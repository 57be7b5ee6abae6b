"""Numbers that describe NAS-Bench-101 graphs for predictors: structure only, equal for isomorphic cells.

Counts of vertices, edges and chains by operation, paths (number, lengths, operations on them, exact sequences), depths,
degrees, channel shares, and the encoding of the graph's representative.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archduel.errors import SettingError
from archduel.spaces.nasbench101.arrays import Cells, canonical

__all__ = ["MACS_UNIT", "PARAMS_UNIT", "SUBSETS", "Laid", "counts_by_operations", "depths", "extreme_loads", "feature_names", "features_of", "lay_out", "paths_within", "reachable", "relation_tensors", "sequence_counts", "vertex_widths"]

# -- Paths through many NAS-Bench-101 cells at once: how many, how long, through which operations -----------------------
#
# Cells stand in one layout: vertex 0 is the input, 6 the output, 1..5 the inner ones, also where some are missing. All
# recurrences run over the 21 possible edges in topological order, side by side for all cells.


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


# -- Channels of the vertices of many NAS-Bench-101 cells at once -------------------------------------------------------


def vertex_widths(laid: Laid, c_out: int) -> NDArray[np.int64]:
    """Returns (N, 7) channels of the inner vertices (0 where there is none) and, last, of the output.

    The output concatenates the vertices that lead to it, so they share its channels evenly, earlier ones taking the
    remainder; any other vertex is as wide as the widest vertex it leads to.

    Raises:
        SettingError: if fewer channels than branches are there to share.
    """
    branch = laid.edge[:, :, 6].copy()
    branch[:, 0] = False
    n_branches = branch.sum(axis=1, keepdims=True)  # (N, 1)
    if (n_branches > c_out).any():
        raise SettingError(f"channels must be at least {n_branches.max()} for as many branches, got {c_out}")
    share, remainder = np.divmod(c_out, np.maximum(n_branches, 1))
    channels = branch * (share + (np.cumsum(branch, axis=1) <= remainder))
    for v in range(5, 0, -1):
        widest = (channels[:, 1:6] * laid.edge[:, v, 1:6]).max(axis=1)
        channels[:, v] = np.where(branch[:, v], channels[:, v], widest)
    channels[:, 6] = c_out
    return channels


# -- ReNAS's tensors of NAS-Bench-101 cells: types, multiply-adds and parameters of the vertices, written on the edges --
#
# Every number of a vertex stands in all entries of its column, so ``[x, y]`` tells of vertex y where an edge x -> y is.
# Cells of fewer than seven vertices have zero rows and columns before the output. The network is the benchmark's: three
# stacks of three cells, 128 channels, images of 32 px.
#
# Source: Xu et al., "ReNAS: Relativistic Evaluation of Neural Architecture Search", CVPR 2021, Figure 1.


MACS_UNIT, PARAMS_UNIT = 1e7, 1e5
CHANNELS, SIDE, CELLS_A_STACK = 128, 32, 3
TYPES = np.array([3, 2, 4])
"""conv3x3, conv1x1, maxpool; 1 is the input, 5 the output."""
AREAS = np.array([9, 1, 0])
"""Weights of each operation over channels squared."""


def relation_tensors(cells: Cells, *, costs: bool = True) -> NDArray[np.float32]:
    """Returns (N, 19, 7, 7): types, then multiply-adds (1e7) and parameters (1e5) of each of the nine cells.

    Args:
        cells: N cells.
        costs: whether multiply-adds and parameters are wanted; without them the result is (N, 1, 7, 7).
    """
    laid = lay_out(cells)
    types = np.einsum("nov,o->nv", laid.has, TYPES)
    types[:, 0], types[:, 6] = 1, 5
    columns = [types.astype(np.float32)]
    for stack in range(3) if costs else ():
        c_out, area = CHANNELS << stack, (SIDE >> stack) ** 2
        widths = vertex_widths(laid, c_out)
        for place in range(CELLS_A_STACK):
            c_in = c_out // 2 if stack and place == 0 else c_out
            weights, norms = _weights(laid, widths, c_in)
            columns += [weights * (area / MACS_UNIT), (weights + norms) / PARAMS_UNIT]
    values = np.stack(columns, axis=1).astype(np.float32)  # (N, 19, 7)
    return np.asarray(values[:, :, None, :] * laid.edge[:, None])


def _weights(laid: Laid, widths: NDArray[np.int64], c_in: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns (N, 7) convolution weights and (N, 7) norm parameters of each vertex, its projection included."""
    projected = laid.edge[:, 0]  # (N, 7)
    area = np.einsum("nov,o->nv", laid.has, AREAS)
    weights = area * widths**2 + projected * c_in * widths
    return weights, 2 * widths * (projected.astype(np.int64) + (area > 0))


_CHUNK = 4096
_SHORT = ("c3", "c1", "mp")
_SOURCES, _TARGETS = ("in", *_SHORT), (*_SHORT, "out")

Columns = dict[str, NDArray[Any]]


def features_of(cells: Cells) -> NDArray[np.float32]:
    """Returns (N, F), the columns as named by :func:`feature_names`."""
    found = np.empty((len(cells), len(feature_names())), dtype=np.float32)
    for first in range(0, len(cells), _CHUNK):
        columns = _columns(cells[first : first + _CHUNK])
        found[first : first + _CHUNK] = np.stack(list(columns.values()), axis=1)
    return found


@lru_cache(maxsize=1)
def feature_names() -> tuple[str, ...]:
    """Returns the names of the features; c3, c1, mp stand for the operations, ``+`` joins a set, ``>`` a chain."""
    one = np.array([2], dtype=np.uint8), np.array([1], dtype=np.uint32), np.full((1, 5), 3, dtype=np.uint8)
    return tuple(_columns(Cells(*one)))


def _columns(cells: Cells) -> Columns:
    cells = canonical(cells)
    laid = lay_out(cells)
    columns = {
        **_sizes(laid),
        **_chains(laid),
        **_paths(laid),
        **_depths(laid),
        **_shares(laid),
        **_encoding(laid),
    }
    return {name: column.astype(np.float32) for name, column in columns.items()}


def _sizes(laid: Laid) -> Columns:
    """Counts and degrees."""
    inner = laid.has.any(axis=1)  # (N, 7)
    n_inner, n_in, n_out = inner.sum(axis=1), laid.edge.sum(axis=1), laid.edge.sum(axis=2)
    n_edges = n_in.sum(axis=1)
    some = np.maximum(n_inner, 1)
    found = {
        "inner": n_inner,
        "edges": n_edges,
        "density": 2 * n_edges / ((n_inner + 2) * (n_inner + 1)),
        "skip": laid.edge[:, 0, 6],
        "from_input": n_out[:, 0],
        "into_output": n_in[:, 6],
        "max_in": (n_in * inner).max(axis=1),
        "max_out": (n_out * inner).max(axis=1),
        "mean_in": (n_in * inner).sum(axis=1) / some,
        "mean_out": (n_out * inner).sum(axis=1) / some,
        "sums": ((n_in > 1) & inner).sum(axis=1),
        "forks": ((n_out > 1) & inner).sum(axis=1),
    }
    for op, name in enumerate(_SHORT):
        has = laid.has[:, op]
        found[f"n[{name}]"] = has.sum(axis=1)
        found[f"share[{name}]"] = has.sum(axis=1) / some
        found[f"in[{name}]"], found[f"out[{name}]"] = (n_in * has).sum(axis=1), (n_out * has).sum(axis=1)
        found[f"max_in[{name}]"], found[f"max_out[{name}]"] = (
            (n_in * has).max(axis=1),
            (n_out * has).max(axis=1),
        )
    return found


def _chains(laid: Laid) -> Columns:
    """Edges, two edges in a row, and ways of any length, by the operations at their ends."""
    ends = np.zeros((len(laid.edge), 5, 7), dtype=np.float32)  # (N, in c3 c1 mp out, 7)
    ends[:, 0, 0] = ends[:, 4, 6] = 1
    ends[:, 1:4] = laid.has
    edge = laid.edge.astype(np.float32)
    into = edge @ ends[:, 1:].transpose(0, 2, 1)  # (N, 7, targets)
    single = ends[:, :4] @ into  # (N, sources, targets)
    ways = ends[:, 1:4] @ reachable(laid).astype(np.float32) @ ends[:, 1:4].transpose(0, 2, 1)
    found = {
        f"{source}>{target}": single[:, s, t]
        for s, source in enumerate(_SOURCES)
        for t, target in enumerate(_TARGETS)
    }
    for op, middle in enumerate(_SHORT):
        double = ends[:, :4] @ (edge * laid.has[:, op, None, :]) @ into
        for s, source in enumerate(_SOURCES):
            found |= {f"{source}>{middle}>{target}": double[:, s, t] for t, target in enumerate(_TARGETS)}
    found |= {f"{a}..{b}": ways[:, i, j] for i, a in enumerate(_SHORT) for j, b in enumerate(_SHORT)}
    found["shortcuts"] = (edge * (edge @ edge > 0)).sum(axis=(1, 2))
    return found


def _paths(laid: Laid) -> Columns:
    """Paths from input to output."""
    number, shortest, longest = paths_within(laid)
    least, most = extreme_loads(laid)
    found: Columns = {}
    for i, subset in enumerate(SUBSETS):
        name = "+".join(_SHORT[op] for op in subset) or "none"
        found[f"paths[{name}]"], found[f"longest[{name}]"] = number[:, i], longest[:, i]
        found[f"shortest[{name}]"] = shortest[:, i]
        if subset:
            found[f"least[{name}]"], found[f"most[{name}]"] = least[:, i], most[:, i]
    by_count = counts_by_operations(laid)
    for i, name in enumerate(("any", *_SHORT)):
        found |= {f"paths[{k} {name}]": by_count[:, i, k] for k in range(6)}
        found[f"mean[{name}]"] = by_count[:, i] @ np.arange(6, dtype=np.float32) / number[:, -1]
    for sequence, count in sequence_counts(laid).items():
        found[">".join(["path in", *(_SHORT[op] for op in sequence), "out"])] = count
    return found


def _depths(laid: Laid) -> Columns:
    """How many vertices of each operation lie how deep."""
    inner = np.any(laid.has, axis=1)
    found: Columns = {}
    for side, depth in zip(("input", "output"), depths(laid)):
        level = (depth[:, None, :] == np.arange(1, 6)[:, None]) & inner[:, None, :]  # (N, 5, 7)
        found[f"width from {side}"] = level.sum(axis=2).max(axis=1)
        for op, name in enumerate(_SHORT):
            counts = (level & laid.has[:, op, None]).sum(axis=2)
            found |= {f"{name} {k + 1} from {side}": counts[:, k] for k in range(5)}
    return found


def _shares(laid: Laid) -> Columns:
    """How channels are shared: every inner vertex is 1 / branches as wide as the output (up to a remainder)."""
    branches = np.count_nonzero(laid.edge[:, 1:6, 6], axis=1)
    width = 1 / np.maximum(branches, 1)
    skip = laid.edge[:, 0, 6]
    c3, c1 = (laid.has[:, op].sum(axis=1) * width**2 for op in (0, 1))
    projected = laid.edge[:, 0, 1:6].sum(axis=1) * width + skip
    return {
        "width": width,
        "weights[c3]": 9 * c3,
        "weights[c1]": c1,
        "weights[projections]": projected,
        "log weights": np.log(9 * c3 + c1 + projected),
    }


def _encoding(laid: Laid) -> Columns:
    """The representative's adjacency bits and operations."""
    found = {f"edge {x}>{y}": laid.edge[:, x, y] for y in range(1, 7) for x in range(y)}
    found |= {f"{name} at {v}": laid.has[:, op, v] for v in range(1, 6) for op, name in enumerate(_SHORT)}
    return found
