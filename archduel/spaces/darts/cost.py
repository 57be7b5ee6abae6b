"""Parameters and multiply-adds of DARTS-type networks in closed form, without torch.

Multiply-adds are those of convolutions and linear layers, operations at the size of their output. The rule gives CNAS's
576 M (convolutions alone) on ImageNet; DARTS_V2's published 574 M is not reached by any stated convention at 48 channels
(this rule gives 529.9 M).
"""

from __future__ import annotations

from archduel.core import Arch, Counts, Scale
from archduel.spaces.counting import conv_bn, darts_stem, halved, tail, total
from archduel.spaces.darts.genotype import Genotype, Node
from archduel.spaces.darts.space import DARTS
from archduel.spaces.darts.supercell import SuperCell

__all__ = ["count", "count_genotype", "genotype_of", "operation", "pool_norm_of", "stem"]

KERNELS = {"sep_conv_3x3": 3, "sep_conv_5x5": 5, "sep_conv_7x7": 7, "dil_conv_3x3": 3, "dil_conv_5x5": 5}
FREE = Counts(0, 0)
ANY, SUPERCELL = DARTS("any"), SuperCell(none=True)


def genotype_of(arch: Arch) -> Genotype:
    """Returns the cells of an architecture of ``darts`` or ``darts_supercell``.

    Raises:
        InvalidArchError: for other spaces and invalid choices.
    """
    return SUPERCELL.genotype(arch) if arch.space == SuperCell.name else ANY.genotype(arch)


def pool_norm_of(arch: Arch, pool_norm: bool | None) -> bool:
    """Returns whether pools have a batch norm: as said, else in super-cells only (a space of BPE's)."""
    return arch.space == SuperCell.name if pool_norm is None else pool_norm


def operation(op: str, c: int, size: int, stride: int, *, size_in: int, pool_norm: bool = False) -> Counts:
    """Returns the cost of an operation that makes maps of side ``size`` from ``size_in``; only strided skips have weights."""
    area, norm = size * size, Counts(2 * c, 0)
    if op in KERNELS:
        weights = KERNELS[op] ** 2 * c + c * c
        single = Counts(weights + norm.params, weights * area)
        return total(single, single) if op.startswith("sep") else single
    if op == "conv_7x1_1x7":
        # the first of its two convolutions halves one side only
        return Counts(14 * c * c + norm.params, 7 * c * c * (size_in * size + area))
    if op == "skip_connect" and stride == 2:
        return conv_bn(1, c, c, size)
    return norm if pool_norm and "pool" in op else FREE


def stem(scale: Scale) -> tuple[Counts, list[tuple[int, int]]]:
    """Returns the cost of the stem, and channels and map side of its outputs: the two inputs of the first cell."""
    kind, c, size = darts_stem(scale), scale.channels, scale.image_size
    if kind != "imagenet":
        size = halved(size) if kind == "strided" else size
        return conv_bn(3, scale.in_channels, 3 * c, size), [(3 * c, size), (3 * c, size)]
    sizes = [halved(size, times) for times in (1, 2, 3)]
    parts = (
        conv_bn(3, scale.in_channels, c // 2, sizes[0]),
        conv_bn(3, c // 2, c, sizes[1]),
        conv_bn(3, c, c, sizes[2]),
    )
    return total(*parts), [(c, sizes[1]), (c, sizes[2])]


def _cell(
    nodes: tuple[Node, ...], c: int, size_in: int, size: int, reduction: bool, pool_norm: bool
) -> Counts:
    """Returns the cost of a cell's edges; its inputs have the side ``size_in``, its nodes ``size``."""
    parts = []
    for op, source in (edge for node in nodes for edge in node):
        before, stride = (size_in, 1 + reduction) if source < 2 else (size, 1)
        parts.append(operation(op, c, size, stride, size_in=before, pool_norm=pool_norm))
    return total(*parts)


def count_genotype(genotype: Genotype, scale: Scale, *, pool_norm: bool = False) -> Counts:
    """Returns the cost of the evaluation network of ``genotype``.

    Raises:
        SettingError: for images or widths too small.
    """
    first, inputs = stem(scale)
    parts, c = [first], scale.channels
    cells: dict[tuple[bool, int, int], Counts] = {}  # a network has few different ones
    for position in range(scale.depth):
        reduction = position in (scale.depth // 3, 2 * scale.depth // 3)
        c = 2 * c if reduction else c
        (c_before, _), (c_previous, size) = inputs
        parts += [conv_bn(1, c_before, c, size), conv_bn(1, c_previous, c, size)]
        out = halved(size) if reduction else size
        _, nodes, concat = genotype.cells()[reduction]
        if (reduction, c, size) not in cells:
            cells[reduction, c, size] = _cell(nodes, c, size, out, reduction, pool_norm)
        parts.append(cells[reduction, c, size])
        inputs = [inputs[1], (len(concat) * c, out)]
    return total(*parts, tail(inputs[1][0], scale.n_classes))


def count(arch: Arch, scale: Scale, *, pool_norm: bool | None = None) -> Counts:
    """Returns the cost of the network of ``arch`` (space ``darts`` or ``darts_supercell``).

    Args:
        arch: the architecture.
        scale: width, cells in all, input, classes.
        pool_norm: whether pools have an affine batch norm (BPE); None = only in super-cells.

    Raises:
        InvalidArchError: for an architecture that the space does not hold.
        SettingError: for images or widths too small.
    """
    return count_genotype(genotype_of(arch), scale, pool_norm=pool_norm_of(arch, pool_norm))
