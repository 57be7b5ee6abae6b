"""DARTS-type cells in few numbers: what is counted is what tells good cells from bad ones with few labels.

The numbers do not depend on the order of a node's edges or on the numbering of nodes. Hundreds of columns, as in
:mod:`archduel.spaces.cell_numbers`, tell cells apart exactly and mislead what learns from a hundred labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archduel.spaces.cell_numbers import CONVOLUTIONS, EDGES, longest_ways
from archduel.spaces.genotypes import OPS

__all__ = ["summary", "summary_names"]

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
