"""Tensors in the manner of ReNAS for NAS-Bench-201 and DARTS cells: types, multiply-adds and parameters on the edges.

NAS-Bench-201 has its operations on the edges, so each number stands at the edge's place. The published encoding of DARTS cells
is not known; here they are graphs with operations on the vertices, written as for NAS-Bench-101 (a number of a vertex
stands in its column), and each different cell of the network is there once: the normal cell of the three stages, the reduction
cell of both. Networks: the benchmark's (16 channels, 5 cells a stage, 32 px) and DARTS's search network (16 channels, 32 px).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archduel.core import GraphBatch
from archduel.spaces.darts.genotype import OPS as DARTS_OPS
from archduel.spaces.nasbench201.function import EDGES, OPS

__all__ = ["darts_tensors", "nasbench201_tensors"]

CHANNELS, SIDE = 16, 32
CELLS_A_STAGE = 5
MACS_UNIT, PARAMS_UNIT = 1e7, 1e5
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}


def nasbench201_tensors(choices: NDArray[np.int64], *, costs: bool = True) -> NDArray[np.float32]:
    """Returns (B, 31, 4, 4): operations, then multiply-adds (1e7) and parameters (1e5) of each of the 15 cells.

    Args:
        choices: (B, 6) operations of the edges; 0 is none.
        costs: whether multiply-adds and parameters are wanted; without them the result is (B, 1, 4, 4).
    """
    areas = np.array([KERNELS.get(op, 0) ** 2 for op in OPS])[choices]  # (B, 6)
    rows = [choices.astype(np.float64)]
    for stage in range(3) if costs else ():
        c, side = CHANNELS << stage, SIDE >> stage
        weights = areas * c * c
        rows += [weights * (side * side / MACS_UNIT), (weights + 2 * c * (areas > 0)) / PARAMS_UNIT] * CELLS_A_STAGE
    found = np.zeros((len(choices), len(rows), 4, 4), np.float32)
    sources, targets = np.array(EDGES).T
    found[:, :, sources, targets] = np.stack(rows, 1)
    return found


def darts_tensors(
    graphs: GraphBatch, sources: NDArray[np.int64], ops: NDArray[np.int64], *, costs: bool = True
) -> NDArray[np.float32]:
    """Returns (B, 12, 10, 10): types of normal and reduction cell, then two costs of each of the five different cells.

    Args:
        graphs: B architectures of two cells and ten vertices.
        sources: (B, 2, 8) states that the operations read.
        ops: (B, 2, 8) operations.
        costs: whether multiply-adds (1e7) and parameters (1e5) are wanted; without them the result is (B, 2, 10, 10).
    """
    values = [(cell, graphs.ops[:, cell].astype(np.float64)) for cell in (0, 1)]
    for cell, stage in ((0, 0), (1, 1), (0, 1), (1, 2), (0, 2)) if costs else ():
        c, side = CHANNELS << stage, SIDE >> stage
        weights, norms = _edge_costs(sources[:, cell], ops[:, cell], c, reduction=cell == 1)
        for row in (weights * (side * side / MACS_UNIT), (weights + norms) / PARAMS_UNIT):
            values.append((cell, np.pad(row, ((0, 0), (2, 0)))))  # the two inputs cost nothing
    adj = graphs.adj[:, [cell for cell, _ in values]]  # (B, 12, 10, 10)
    columns = np.stack([row for _, row in values], 1).astype(np.float32)  # (B, 12, 10)
    return np.asarray(adj * columns[:, :, None, :])


def _edge_costs(
    sources: NDArray[np.int64], ops: NDArray[np.int64], c: int, *, reduction: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns (B, 8) convolution weights and (B, 8) norm parameters of a cell's operations."""
    weights, norms = np.zeros(len(DARTS_OPS), np.int64), np.zeros(len(DARTS_OPS), np.int64)
    for i, op in enumerate(DARTS_OPS):
        kind, _, size = op.partition("_conv_")
        if size:
            times = 2 if kind == "sep" else 1
            weights[i], norms[i] = times * (int(size[0]) ** 2 * c + c * c), times * 2 * c
    strided = (sources < 2) & (ops == DARTS_OPS.index("skip_connect")) & reduction  # halves the map by a convolution
    return weights[ops] + strided * c * c, norms[ops] + strided * 2 * c
