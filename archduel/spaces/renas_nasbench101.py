"""ReNAS's tensors of NAS-Bench-101 cells: types, multiply-adds and parameters of the vertices, written on the edges.

Every number of a vertex stands in all entries of its column, so ``[x, y]`` tells of vertex y where an edge x -> y is.
Cells of fewer than seven vertices have zero rows and columns before the output. The network is the benchmark's: three
stacks of three cells, 128 channels, images of 32 px.

Source: Xu et al., "ReNAS: Relativistic Evaluation of Neural Architecture Search", CVPR 2021, Figure 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archduel.spaces.nasbench101_arrays import Cells
from archduel.spaces.nasbench101_paths import Laid, lay_out
from archduel.spaces.nasbench101_widths import vertex_widths

__all__ = ["MACS_UNIT", "PARAMS_UNIT", "relation_tensors"]

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
