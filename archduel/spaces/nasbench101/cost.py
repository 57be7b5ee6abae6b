"""Parameters and multiply-adds of NAS-Bench-101 networks in closed form, without torch.

At the benchmark's scale (128 channels, 3 cells a stack, 32 px) the parameters equal its ``trainable_parameters``. They
depend on the vertex order where the output's channels do not divide evenly, so published cells are counted in the
published order.

Source: Ying et al., ICML 2019, and the benchmark's published model builder.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Counts, Scale
from archduel.errors import SettingError
from archduel.spaces.counting import conv_bn, halved, stem, tail, times, total
from archduel.spaces.nasbench101.arrays import Cells
from archduel.spaces.nasbench101.cell import OPS, Cell, cell_of_choices, neighbours_of
from archduel.spaces.nasbench101.features import Laid, lay_out, vertex_widths
from archduel.spaces.nasbench101.space import NASBench101

__all__ = ["KERNELS", "count", "count_cell", "count_cells", "vertex_channels"]

KERNELS = {"conv3x3-bn-relu": 3, "conv1x1-bn-relu": 1, "maxpool3x3": 0}
"""Side of the convolution kernel of each operation; 0 = no convolution."""


def vertex_channels(cell: Cell, c_in: int, c_out: int) -> list[int]:
    """Returns the channels of every vertex: the input has ``c_in``, the output ``c_out``.

    The output concatenates the vertices that lead to it, so they share its channels evenly, earlier ones taking the
    remainder; any other vertex is as wide as the widest vertex it leads to.

    Raises:
        SettingError: if fewer channels than branches are there to share.
    """
    before, after = neighbours_of(cell.n, cell.edges)
    last = cell.n - 1
    branches = [v for v in before[last] if v > 0]
    if len(branches) > c_out:
        raise SettingError(
            f"channels must be at least {len(branches)} for {len(branches)} branches, got {c_out}"
        )
    channels = [0] * cell.n
    channels[0], channels[last] = c_in, c_out
    for place, v in enumerate(branches):
        channels[v] = c_out // len(branches) + (place < c_out % len(branches))
    for v in range(last - 1, 0, -1):
        if last not in after[v]:
            channels[v] = max(channels[w] for w in after[v])
    return channels


def count_cell(cell: Cell, c_in: int, c_out: int, size: int) -> Counts:
    """Returns the cost of one cell on ``size`` x ``size`` maps."""
    before, _ = neighbours_of(cell.n, cell.edges)
    channels = vertex_channels(cell, c_in, c_out)
    parts = [conv_bn(1, c_in, c, size) for v, c in enumerate(channels) if 0 in before[v]]  # projections
    for c, op in zip(channels[1:-1], cell.ops):
        kernel = KERNELS[OPS[op]]
        if kernel:
            parts.append(conv_bn(kernel, c, c, size))
    return total(*parts)


def count(arch: Arch, scale: Scale, *, norm_momentum: float = 0.1) -> Counts:
    """Returns the cost of the network that ``build`` returns.

    Args:
        arch: the architecture.
        scale: width of the first stack, cells a stack, input and classes.
        norm_momentum: costs nothing; here because ``build`` takes it.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px or too few channels.
    """
    NASBench101().validate(arch)
    cell = cell_of_choices(arch.choices)
    first, size = stem(scale, scale.channels)
    parts = [first]
    for stack in range(3):
        c = scale.channels << stack
        c_in = c // 2 if stack else c
        size = halved(size) if stack else size
        parts += [count_cell(cell, c_in, c, size), times(count_cell(cell, c, c, size), scale.depth - 1)]
    return total(*parts, tail(4 * scale.channels, scale.n_classes))


def count_cells(cells: Cells, scale: Scale) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the (N,) parameters and (N,) multiply-adds of many cells' networks, each equal to what ``count`` says.

    Raises:
        SettingError: for images under 4 px or too few channels.
    """
    laid, c = lay_out(cells), scale.channels
    first, size = stem(scale, c)
    last = tail(4 * c, scale.n_classes)
    params = np.full(len(cells), first.params + last.params, dtype=np.int64)
    macs = np.full(len(cells), first.macs + last.macs, dtype=np.int64)
    for stack in range(3):
        size = halved(size) if stack else size
        widths = vertex_widths(laid, c << stack)
        for times_used, c_in in ((1, c << stack >> (stack > 0)), (scale.depth - 1, c << stack)):
            weights = _all_weights(laid, widths, c_in)
            params += times_used * (weights + _all_norms(laid, widths))
            macs += times_used * weights * size * size
    return params, macs


def _all_weights(laid: Laid, channels: NDArray[np.int64], c_in: int) -> NDArray[np.int64]:
    """Returns (N,) convolution weights of the cells."""
    areas = [KERNELS[op] ** 2 for op in OPS]
    operations = sum((area * channels**2 * laid.has[:, op]).sum(axis=1) for op, area in enumerate(areas))
    return operations + c_in * (channels * laid.edge[:, 0]).sum(axis=1)


def _all_norms(laid: Laid, channels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns (N,) scales and shifts of the cells' batch norms."""
    normed = laid.edge[:, 0].astype(np.int64) + sum(
        laid.has[:, op] for op, name in enumerate(OPS) if KERNELS[name]
    )
    return 2 * (channels * normed).sum(axis=1)
