"""DARTS-type evaluation networks: stems for small images and for ImageNet, cells, auxiliary head, drop path."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from archduel.core import Arch, Scale
from archduel.spaces.counting import darts_stem, halved
from archduel.spaces.darts.cost import KERNELS, genotype_of, pool_norm_of
from archduel.spaces.darts.genotype import Genotype, Node
from archduel.spaces.layers import (
    AuxiliaryHead,
    DropPath,
    FactorizedReduce,
    ReLUConvBN,
    Scriptable,
    Tail,
    Zero,
    conv,
    dilated,
    pyramid,
    separable,
    stepwise,
)

__all__ = ["Cell", "Network", "build", "build_genotype", "operation"]


def operation(op: str, c: int, stride: int, *, affine: bool = True, pool_norm: bool = False) -> nn.Module:
    """Returns the layers of an edge with ``c`` channels.

    Args:
        op: name as in genotypes.
        c: channels in and out.
        stride: 2 for the cell's two inputs in reduction cells, otherwise 1.
        affine: whether batch norms have weights (search networks of DARTS have none).
        pool_norm: whether a batch norm follows a pool (BPE; search networks of DARTS).
    """
    if op in KERNELS:
        layers = separable if op.startswith("sep") else dilated
        return layers(c, KERNELS[op], stride, affine=affine)
    if op == "none":
        return Zero(stride)
    if op == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(c, c, affine=affine)
    if op == "conv_7x1_1x7":
        wide = nn.Conv2d(c, c, (1, 7), (1, stride), (0, 3), bias=False)
        high = nn.Conv2d(c, c, (7, 1), (stride, 1), (3, 0), bias=False)
        return nn.Sequential(nn.ReLU(), wide, high, nn.BatchNorm2d(c, affine=affine))
    average = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    pool = average if op == "avg_pool_3x3" else nn.MaxPool2d(3, stride, 1)
    return nn.Sequential(pool, nn.BatchNorm2d(c, affine=affine)) if pool_norm else pool


class Cell(nn.Module):
    """Two inputs brought to one width, nodes that sum their edges, a concatenation.

    Args:
        nodes: incoming edges of each node.
        concat: the states that make the output.
        c_before: channels of input 0.
        c_previous: channels of input 1.
        c: channels inside.
        reduction: whether the cell halves the map.
        shrink: whether input 0 is twice as large as input 1, since the previous cell (or the stem) was a reduction.
        pool_norm: see :func:`operation`.
    """

    def __init__(
        self,
        nodes: tuple[Node, ...],
        concat: tuple[int, ...],
        c_before: int,
        c_previous: int,
        c: int,
        *,
        reduction: bool,
        shrink: bool,
        pool_norm: bool,
    ) -> None:
        super().__init__()
        nodes = tuple(node or (("none", 0),) for node in nodes)
        self.sources = [[source for _, source in node] for node in nodes]
        self.concat = concat
        self.before = FactorizedReduce(c_before, c) if shrink else ReLUConvBN(c_before, c, 1)
        self.previous = ReLUConvBN(c_previous, c, 1)
        self.edges = nn.ModuleList()
        for op, source in (edge for node in nodes for edge in node):
            layers = operation(op, c, 2 if reduction and source < 2 else 1, pool_norm=pool_norm)
            self.edges.append(
                layers if isinstance(layers, nn.Identity) else nn.Sequential(layers, DropPath())
            )

    def forward(self, before: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        """Returns (N, len(concat) * c, H, W)."""
        states, edge = [self.before(before), self.previous(previous)], 0
        for sources in self.sources:
            total = self.edges[edge](states[sources[0]])
            for offset, source in enumerate(sources[1:], 1):
                total = total + self.edges[edge + offset](states[source])
            states.append(total)
            edge += len(sources)
        return torch.cat([states[state] for state in self.concat], dim=1)


class Network(Scriptable):
    """Stem, cells, tail, auxiliary head on the output of one cell."""

    def __init__(self, stem: nn.ModuleList, cells: nn.ModuleList, tail: nn.Module) -> None:
        super().__init__()
        self.stem, self.cells, self.tail = stem, cells, tail
        self.auxiliary: nn.Module | None = None
        self.auxiliary_at = -1

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Returns (N, classes) logits, in training mode with an auxiliary head ``(logits, auxiliary logits)``."""
        before = self.stem[0](x)
        previous = self.stem[1](before) if len(self.stem) > 1 else before
        extra = None
        for position, cell in enumerate(self.cells):
            before, previous = previous, cell(before, previous)
            if self.training and self.auxiliary is not None and position == self.auxiliary_at:
                extra = self.auxiliary(previous)
        logits = self.tail(previous)
        return logits if extra is None else (logits, extra)

    def features(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        """Returns stride -> the last map (N, c, H / stride, W / stride) of that size, finest first; differentiable.

        Args:
            x: (N, C, H, W) normalised images of any size, also another than the network was built for.
        """
        return pyramid(x, self._maps(x))

    def _maps(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yields the maps of the stem, layer by layer, and of the cells."""
        ends = []
        for part in self.stem.children():
            made = list(stepwise(x, part.children()))
            yield from made
            x = made[-1]
            ends.append(x)
        before, previous = ends[0], ends[-1]
        for cell in self.cells:
            before, previous = previous, cell(before, previous)
            yield previous


def _stem(scale: Scale, kind: str) -> nn.ModuleList:
    """Returns one part (both inputs of the first cell are its output) or two (one input each)."""
    c = scale.channels
    if kind != "imagenet":
        stride = 2 if kind == "strided" else 1
        return nn.ModuleList(
            [nn.Sequential(conv(scale.in_channels, 3 * c, 3, stride), nn.BatchNorm2d(3 * c))]
        )
    half = [conv(scale.in_channels, c // 2, 3, 2), nn.BatchNorm2d(c // 2)]
    quarter = [nn.ReLU(), conv(c // 2, c, 3, 2), nn.BatchNorm2d(c)]
    eighth = [nn.ReLU(), conv(c, c, 3, 2), nn.BatchNorm2d(c)]
    return nn.ModuleList([nn.Sequential(*half, *quarter), nn.Sequential(*eighth)])


def build_genotype(
    genotype: Genotype, scale: Scale, *, auxiliary: bool = False, pool_norm: bool = False
) -> Network:
    """Returns the evaluation network of ``genotype``; ``scale.depth`` is the number of cells.

    Args:
        genotype: the two cells.
        scale: reductions stand at cells depth // 3 and 2 * depth // 3; the stem goes by the image size.
        auxiliary: adds DARTS's head on the output of cell 2 * depth // 3.
        pool_norm: affine batch norm after pools, as in BPE.

    Raises:
        SettingError: for images or widths too small.
    """
    kind, c, depth = darts_stem(scale), scale.channels, scale.depth
    size = halved(scale.image_size, {"cifar": 0, "strided": 1, "imagenet": 3}[kind])
    shrink, widths = kind == "imagenet", (c, c) if kind == "imagenet" else (3 * c, 3 * c)
    cells, head = nn.ModuleList(), None
    for position in range(depth):
        reduction = position in (depth // 3, 2 * depth // 3)
        c, size = (2 * c, halved(size)) if reduction else (c, size)
        _, nodes, concat = genotype.cells()[reduction]
        cells.append(Cell(nodes, concat, *widths, c, reduction=reduction, shrink=shrink, pool_norm=pool_norm))
        shrink, widths = reduction, (widths[1], len(concat) * c)
        if position == 2 * depth // 3 and auxiliary:
            head = AuxiliaryHead(widths[1], size, scale.n_classes, last_norm=kind != "imagenet")
    network = Network(_stem(scale, kind), cells, Tail(widths[1], scale.n_classes))
    network.auxiliary, network.auxiliary_at = head, 2 * depth // 3
    return network


def build(arch: Arch, scale: Scale, *, auxiliary: bool = False, pool_norm: bool | None = None) -> Network:
    """Returns the network of an architecture of ``darts`` or ``darts_supercell``; see :func:`build_genotype`.

    Raises:
        InvalidArchError: for an architecture that the space does not hold.
        SettingError: for images or widths too small.
    """
    return build_genotype(
        genotype_of(arch), scale, auxiliary=auxiliary, pool_norm=pool_norm_of(arch, pool_norm)
    )
