"""Numbers that describe NAS-Bench-101 graphs for predictors: structure only, equal for isomorphic cells.

Counts of vertices, edges and chains by operation, paths (number, lengths, operations on them, exact sequences), depths,
degrees, channel shares, and the encoding of the graph's representative.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.spaces.nasbench101_arrays import Cells, canonical
from archduel.spaces.nasbench101_paths import (
    SUBSETS,
    Laid,
    counts_by_operations,
    depths,
    extreme_loads,
    lay_out,
    paths_within,
    reachable,
    sequence_counts,
)

__all__ = ["feature_names", "features_of"]

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
