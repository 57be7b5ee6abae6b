"""DARTS-type cells as numbers: structural features and graphs, for batches at once.

Both spaces of such cells share them: what matters is how often each operation stands on each of the 14 edges of a cell.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from archduel.core import GraphBatch
from archduel.spaces.darts.genotype import OPS

__all__ = ["CONVOLUTIONS", "EDGES", "features", "graphs", "longest_ways", "summary", "summary_names"]

EDGES = tuple((source, target) for target in range(2, 6) for source in range(target))
"""(source, node) of the 14 edges of a cell with four nodes: node 2 from 0, 1, node 3 from 0, 1, 2, ..."""
NEVER = -1e6
CONVOLUTIONS = np.array([2 if op.startswith("sep") else op.startswith("dil") for op in OPS], float)
GROWTH = np.array([0, 2, 2, 0, 4, 8, 4, 8], float)
"""Pixels that each operation adds to the receptive field."""


def features(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns (B, 392) features of (B, 2, 14, 8) counts: cell (normal, reduction), edge, operation.

    For each cell: the counts (112); count of each operation, in all and from input 0, input 1 and nodes (32); edges out of
    states 0..4 without ``none`` (5); for nodes 2..5 the largest number, on a way from an input, of edges, of convolutions, of
    pixels of receptive field and of each operation but ``none`` (40), the smallest number of edges (4), and whether no way
    leads there (counts as 0 elsewhere); and the number of ways from either input to all nodes, as log2(1 + n) (2).
    """
    from_input = np.stack([[source == 0, source == 1, source > 1] for source, _ in EDGES], 1)  # (3, 14)
    by_source = np.einsum("se,bceo->bcso", from_input.astype(np.int64), counts)  # (B, 2, 3, 8)
    real = counts[..., 1:].sum(-1)  # (B, 2, 14)
    leaving = np.stack([real[..., [s == state for s, _ in EDGES]].sum(-1) for state in range(5)], -1)
    weights = np.stack([np.ones(len(OPS)), CONVOLUTIONS, GROWTH, *np.eye(len(OPS))[1:]])  # (10, 8)
    longest = longest_ways(counts, weights)  # (B, 2, 4, 10)
    shortest = -longest_ways(counts, -np.ones((1, len(OPS))))  # (B, 2, 4, 1)
    unreached = longest[..., :1] < 0
    parts = [
        counts,
        counts.sum(2),
        by_source,
        leaving,
        np.where(unreached, 0, longest),
        np.where(unreached, 0, shortest),
        unreached[..., 0].sum(-1),
        np.log2(1 + _ways(real)),
    ]
    # sizes are spelled out, since -1 means nothing for an empty batch
    flat = [np.asarray(part, np.float32).reshape(len(counts), 2, prod(part.shape[2:])) for part in parts]
    return np.concatenate(flat, -1).reshape(len(counts), 392)  # (B, 2 * 196)


def longest_ways(counts: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Returns (B, 2, 4, W): for each node the heaviest way from an input under each of the (W, 8) weights."""
    edge = np.full((*counts.shape[:3], len(weights)), NEVER, np.float32)  # (B, 2, 14, W)
    for op in range(1, len(OPS)):
        there = counts[..., op, None] > 0
        np.maximum(edge, weights[:, op].astype(np.float32), out=edge, where=there)
    states = [np.zeros_like(edge[:, :, 0])] * 2
    for node in range(2, 6):
        ways = [states[s] + edge[:, :, e] for e, (s, target) in enumerate(EDGES) if target == node]
        states.append(np.maximum(np.max(ways, axis=0), np.float32(NEVER)))
    return np.stack(states[2:], 2)


def _ways(real: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns (B, 2, 2): the number of ways from input 0 and from input 1 to all nodes together."""
    one = np.ones_like(real[..., 0])
    states = [np.stack([one, 0 * one], -1), np.stack([0 * one, one], -1)]
    for node in range(2, 6):
        states.append(
            sum(
                (states[s] * real[..., e, None] for e, (s, target) in enumerate(EDGES) if target == node),
                start=np.zeros_like(states[0]),
            )
        )
    return np.sum(states[2:], axis=0)


def graphs(sources: NDArray[np.int64], targets: NDArray[np.int64], ops: NDArray[np.int64]) -> GraphBatch:
    """Returns graphs with operations on vertices: two inputs, then one vertex an edge (CTNAS's form).

    An operation that reads an input has an edge from it; one that reads a node has edges from all operations that make it.

    Args:
        sources: (B, 2, E) states that the edges read.
        targets: (E,) nodes that they lead to.
        ops: (B, 2, E) indices into ``OPS``.
    """
    n, cells, edges = ops.shape
    vertices = np.full((n, cells, edges + 2), 1, np.int64)
    vertices[..., 1] = 2
    vertices[..., 2:] = ops + 3
    adj = np.zeros((n, cells, edges + 2, edges + 2), np.float32)
    for state in (0, 1):
        adj[:, :, state, 2:] = sources == state
    adj[:, :, 2:, 2:] = targets[:, None] == sources[:, :, None, :]  # (B, 2, E, E)
    return GraphBatch(vertices, adj, np.ones(vertices.shape, np.bool_), 3 + len(OPS))


# -- DARTS-type cells in few numbers: what is counted is what tells good cells from bad ones with few labels ------------
#
# The numbers do not depend on the order of a node's edges or on the numbering of nodes. Hundreds of columns, as in
# :mod:`archduel.spaces.darts.features`, tell cells apart exactly and mislead what learns from a hundred labels.


KINDS = {
    "sep": np.array([op.startswith("sep") for op in OPS]),
    "conv": np.array(["conv" in op for op in OPS]),
    "pool": np.array(["pool" in op for op in OPS]),
    "5x5": np.array(["5x5" in op for op in OPS]),
    "skip": np.array([op.startswith("skip") for op in OPS]),
    "dil": np.array([op.startswith("dil") for op in OPS]),
}
SOURCES = np.array([source for source, _ in EDGES])


def summary_names() -> tuple[str, ...]:
    """Returns the names of the columns of :func:`summary`."""
    one = [
        *OPS[1:],
        *("sep", "conv", "pool", "5x5"),
        *("from inputs", "from input 0", "from input 1"),
        *(f"{kind} from inputs" for kind in ("skip", "sep", "pool", "dil", "5x5")),
        *("longest way", "most convolutions", "sum of longest ways", "sum of most convolutions"),
    ]
    return tuple(f"{cell}: {name}" for cell in ("normal", "reduce") for name in one)


def summary(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns (B, 46) numbers of (B, 2, 14, 8) counts: cell (normal, reduction), edge, operation.

    For each cell: count of each operation but ``none`` (7), of separable and of all convolutions, of pools and of 5x5 kernels
    (4); edges from the inputs, from input 0 and from input 1, without ``none`` (3); skips, separable and dilated
    convolutions, pools and 5x5 kernels that read an input (5); longest way from an input to a node in edges and in
    convolutions, the largest over nodes 2..5 and their sum (4).
    """
    of_op, first = counts.sum(2), counts[:, :, SOURCES < 2].sum(2)  # (B, 2, 8)
    real = counts[..., 1:].sum(-1)  # (B, 2, 14)
    ways = np.maximum(longest_ways(counts, np.stack([np.ones(len(OPS)), CONVOLUTIONS])), 0)  # (B, 2, 4, 2)
    parts = [
        of_op[..., 1:],
        np.stack([of_op[..., KINDS[kind]].sum(-1) for kind in ("sep", "conv", "pool", "5x5")], -1),
        np.stack([real[..., rows].sum(-1) for rows in (SOURCES < 2, SOURCES == 0, SOURCES == 1)], -1),
        np.stack([first[..., KINDS[kind]].sum(-1) for kind in ("skip", "sep", "pool", "dil", "5x5")], -1),
        ways.max(2),
        ways.sum(2),
    ]
    flat = np.concatenate([np.asarray(part, np.float32) for part in parts], -1)  # (B, 2, 23)
    return flat.reshape(len(counts), 2 * flat.shape[-1])
