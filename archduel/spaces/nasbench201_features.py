"""NAS-Bench-201 cells as numbers: 254 structural features in the manner of GRAF (Kadlecova et al., ICML 2024), and graphs.

Everything is computed for all cells of a batch at once, 15,625 of them in a fraction of a second.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from archduel.core import GraphBatch
from archduel.spaces.nasbench201_function import EDGES, OPS

__all__ = ["features", "graphs"]

N_OPS = len(OPS)
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))
"""The four ways from node 0 to node 3, as edges."""
DEGREES = ((0, 1, 3), (2, 4), (1, 2), (3, 4, 5))
"""Edges out of node 0, out of node 1, into node 2, into node 3."""
SUBSETS = np.array(
    list(product((False, True), repeat=N_OPS))[1:]
)  # (31, 5): which operations count as an edge
INPUT, FIRST_OP, OUTPUT = 1, 2, 2 + N_OPS


def features(choices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns (B, 254) features of (B, 6) choices.

    In order: one-hot operation of each edge (30); count of each operation (5); for each of the 31 sets of operations, with
    only edges of that set, length of the shortest (4 = none) and longest (0 = none) path and the degrees out of 0, out of
    1, into 2, into 3 (186); count of each operation on each of the four paths (20); which paths are free of ``none`` (4) and
    how many (1); count of each other operation on such paths (4); smallest and largest number of convolutions and of 3x3
    convolutions on such paths (4).
    """
    one_hot = choices[:, :, None] == np.arange(N_OPS)  # (B, 6, 5)
    on_paths = np.stack([one_hot[:, path].sum(1) for path in PATHS], 1)  # (B, 4, 5)
    alive = on_paths[:, :, 0] == 0  # (B, 4)
    on_alive = np.stack([[edge in path for path in PATHS] for edge in range(6)])  # (6, 4)
    used = (alive[:, None] & on_alive).any(2)  # (B, 6)
    parts = [
        one_hot.reshape(len(choices), 30),
        one_hot.sum(1),
        _subset_features(choices),
        on_paths.reshape(len(choices), 20),
        alive,
        alive.sum(1, keepdims=True),
        (one_hot & used[:, :, None]).sum(1)[:, 1:],
    ]
    for convolutions in (on_paths[:, :, 2] + on_paths[:, :, 3], on_paths[:, :, 3]):
        parts.append(np.where(alive, convolutions, 4).min(1, keepdims=True))
        parts.append(np.where(alive, convolutions, 0).max(1, keepdims=True))
    return np.concatenate([part.astype(np.float32) for part in parts], 1)


def _subset_features(choices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns (B, 186): shortest and longest path and four degrees in the subgraph of each set of operations."""
    there = SUBSETS[:, choices]  # (31, B, 6)
    lengths = np.array([len(path) for path in PATHS])
    whole = np.stack([there[:, :, path].all(2) for path in PATHS], 2)  # (31, B, 4)
    columns = [np.where(whole, lengths, 4).min(2), np.where(whole, lengths, 0).max(2)]
    columns += [there[:, :, edges].sum(2) for edges in DEGREES]
    return (
        np.stack(columns, 2).transpose(1, 0, 2).reshape(len(choices), 186).astype(np.float32)
    )  # (B, 31 * 6)


def graphs(choices: NDArray[np.int64]) -> GraphBatch:
    """Returns graphs of 8 vertices: input, the six edges as vertices that carry their operation, output.

    A vertex leads to another where its edge ends in the node that the other starts from. The six vertices have different
    neighbourhoods, so a network that ignores vertex numbers still knows which edge carries which operation.
    """
    n = len(choices)
    ops = np.full((n, 1, 8), INPUT, np.int64)
    ops[:, 0, 1:7] = choices + FIRST_OP
    ops[:, 0, 7] = OUTPUT
    adj = np.zeros((8, 8), np.float32)
    for i, (source, target) in enumerate(EDGES, 1):
        adj[0, i] = source == 0
        adj[i, 7] = target == 3
        for j, (later, _) in enumerate(EDGES, 1):
            adj[i, j] = target == later
    return GraphBatch(ops, np.tile(adj, (n, 1, 1, 1)), np.ones((n, 1, 8), np.bool_), OUTPUT + 1)
