"""The NAS-Bench-101 network: stem, three stacks of N equal cells, max pools between them, classifier.

Deviations from the benchmark, none of which changes parameters or multiply-adds:
1. Batch norms average over steps with PyTorch's momentum 0.1, so that short trainings end with usable statistics; the
   benchmark's is ``norm_momentum=0.003``.
2. Images above 64 px are halved in the stem first.

Source: Ying et al., ICML 2019, and the benchmark's published model builder.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from archduel.core import Arch, Scale
from archduel.spaces.counting import halved, stem_strides
from archduel.spaces.layers import AuxiliaryHead, Tail, conv
from archduel.spaces.nasbench101.cell import OPS, Cell, cell_of_choices, neighbours_of
from archduel.spaces.nasbench101.space import KERNELS, NASBench101, vertex_channels
from archduel.spaces.nasbench201.network import Network

__all__ = ["CellModule", "ConvBNReLU", "NASBench101Network", "build"]

_TRUNCATED = 0.87962566103423978  # standard deviation of a normal cut off at two of its own


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, momentum: float = 0.1) -> None:
        super().__init__(
            conv(c_in, c_out, kernel, stride), nn.BatchNorm2d(c_out, momentum=momentum), nn.ReLU()
        )


class CellModule(nn.Module):
    """One cell: each vertex sums what leads to it and applies its operation; the output concatenates.

    Args:
        cell: the graph.
        c_in: channels of the input.
        c_out: channels of the output.
        momentum: of the batch norms.
    """

    def __init__(self, cell: Cell, c_in: int, c_out: int, momentum: float) -> None:
        super().__init__()
        self.before, _ = neighbours_of(cell.n, cell.edges)
        self.channels = vertex_channels(cell, c_in, c_out)
        self.projections = nn.ModuleDict(
            {
                str(v): ConvBNReLU(c_in, c, 1, momentum=momentum)
                for v, c in enumerate(self.channels)
                if 0 in self.before[v]
            }
        )
        self.operations = nn.ModuleList()
        for op, c in zip(cell.ops, self.channels[1:-1]):
            kernel = KERNELS[OPS[op]]
            self.operations.append(
                ConvBNReLU(c, c, kernel, momentum=momentum) if kernel else nn.MaxPool2d(3, 1, padding=1)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the output vertex: (N, c_out, H, W)."""
        values = [x]
        for v, operation in enumerate(self.operations, 1):
            c = self.channels[v]
            # predecessors are at most one channel wider (the remainder of an uneven share): cut to the first c
            terms = [values[s][:, :c] for s in self.before[v] if s > 0]
            if 0 in self.before[v]:
                terms.append(self.projections[str(v)](x))
            values.append(operation(_sum(terms)))
        last = len(self.channels) - 1
        branches = [values[s] for s in self.before[last] if s > 0]
        terms = [torch.cat(branches, dim=1)] if branches else []
        if 0 in self.before[last]:
            terms.append(self.projections[str(last)](x))
        return _sum(terms)


def _sum(terms: list[torch.Tensor]) -> torch.Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class NASBench101Network(Network):
    """The network, with the benchmark's initial weights."""

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights anew: convolutions from a normal cut off at two deviations, variance 1 / fan in."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                deviation = math.sqrt(1 / module.weight[0].numel()) / _TRUNCATED
                nn.init.trunc_normal_(
                    module.weight, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator
                )
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()


def build(
    arch: Arch, scale: Scale, *, auxiliary: bool = False, norm_momentum: float = 0.1
) -> NASBench101Network:
    """Returns the network of a cell; ``scale.depth`` is the cells a stack (3 in the benchmark).

    The benchmark has no auxiliary head; here it is DARTS's, on the output of the first cell of the last stack.

    Args:
        arch: the architecture; vertices share channels in the order it gives them.
        scale: width of the first stack (128 in the benchmark), cells a stack, input and classes.
        auxiliary: adds the auxiliary head.
        norm_momentum: weight of a new batch in the running statistics of batch norms.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px or too few channels.
    """
    NASBench101().validate(arch)
    cell, c = cell_of_choices(arch.choices), scale.channels
    strides = stem_strides(scale)
    widths = [scale.in_channels] + [c] * len(strides)
    first = [ConvBNReLU(w, c, 3, stride, momentum=norm_momentum) for w, stride in zip(widths, strides)]
    blocks: list[nn.Module] = []
    for stack in range(3):
        if stack:
            blocks.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        for place in range(scale.depth):
            c_in = c << stack >> (stack > 0 and place == 0)
            blocks.append(CellModule(cell, c_in, c << stack, norm_momentum))
    network = NASBench101Network(nn.Sequential(*first), blocks, Tail(4 * c, scale.n_classes))
    if auxiliary:
        size = halved(scale.image_size, sum(stride == 2 for stride in strides) + 2)
        network.attach(AuxiliaryHead(4 * c, size, scale.n_classes), 2 * scale.depth + 2)
    network.initialise()
    return network
