"""The NAS-Bench-201 network: stem, three stages of N equal cells, residual blocks of stride 2 between them, classifier."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from archduel.core import Arch, Scale
from archduel.spaces.counting import halved, stem_strides
from archduel.spaces.layers import AuxiliaryHead, ReLUConvBN, Scriptable, Tail, Zero, conv, pyramid, stepwise
from archduel.spaces.nasbench201.function import EDGES, OPS
from archduel.spaces.nasbench201.space import NASBench201

__all__ = ["Cell", "Network", "Reduction", "build", "operation", "stem"]


def operation(name: str, c_in: int, c_out: int) -> nn.Module:
    """Returns the layers of one edge; ``c_in`` differs from ``c_out`` in the size space only.

    Where widths change, a skip becomes a 1x1 convolution and batch norm, and a pool gets ReLU, 1x1 convolution and batch
    norm in front.
    """
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity() if c_in == c_out else nn.Sequential(conv(c_in, c_out, 1), nn.BatchNorm2d(c_out))
    if name == "avg_pool_3x3":
        pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        return pool if c_in == c_out else nn.Sequential(ReLUConvBN(c_in, c_out, 1), pool)
    return ReLUConvBN(c_in, c_out, 1 if name == "nor_conv_1x1" else 3)


class Cell(nn.Module):
    """Four nodes; each sums its incoming edges.

    Args:
        choices: operation index of each of the six ``EDGES``.
        c_in: channels of node 0.
        c_out: channels of the others.
    """

    def __init__(self, choices: tuple[int, ...], c_in: int, c_out: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            operation(OPS[op], c_in if source == 0 else c_out, c_out)
            for op, (source, _) in zip(choices, EDGES)
        )
        # adding zeros costs time and changes nothing: a node reads `none` edges only when it has no others
        real = [edge for edge in range(len(EDGES)) if OPS[choices[edge]] != "none"]
        into = [[edge for edge, (_, target) in enumerate(EDGES) if target == node] for node in (1, 2, 3)]
        self.nodes = [[edge for edge in edges if edge in real] or edges[-1:] for edges in into]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the value of node 3: (N, c_out, H, W)."""
        values = [x]
        for edges in self.nodes:
            total = self.edges[edges[0]](values[EDGES[edges[0]][0]])
            for edge in edges[1:]:
                total = total + self.edges[edge](values[EDGES[edge][0]])
            values.append(total)
        return values[-1]


class Reduction(nn.Module):
    """The pre-activation residual block that halves the map (rounded up)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(ReLUConvBN(c_in, c_out, 3, 2), ReLUConvBN(c_out, c_out, 3))
        self.shortcut = conv(c_in, c_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, c_out, ceil(H / 2), ceil(W / 2))."""
        # a window that an odd map cuts short is averaged over what is there; of an even map there is none
        return self.main(x) + self.shortcut(functional.avg_pool2d(x, 2, ceil_mode=True))


def stem(scale: Scale, channels: int) -> nn.Sequential:
    """Returns 3x3 convolution and batch norm; more of stride 2, each after a ReLU, for images above 64 px."""
    layers: list[nn.Module] = []
    c_in = scale.in_channels
    for stride in stem_strides(scale):
        layers += [nn.ReLU()] if layers else []
        layers += [conv(c_in, channels, 3, stride), nn.BatchNorm2d(channels)]
        c_in = channels
    return nn.Sequential(*layers)


class Network(Scriptable):
    """Stem, blocks, tail, and an auxiliary head on the output of one block."""

    def __init__(self, first: nn.Module, blocks: list[nn.Module], tail: nn.Module) -> None:
        super().__init__()
        self.stem, self.blocks, self.tail = first, nn.ModuleList(blocks), tail
        self.auxiliary: nn.Module | None = None
        self.auxiliary_at = -1

    def attach(self, head: nn.Module, block: int) -> None:
        """Puts ``head`` on the output of ``blocks[block]``."""
        self.auxiliary, self.auxiliary_at = head, block

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Returns (N, classes) logits, in training mode with an auxiliary head ``(logits, auxiliary logits)``."""
        x, extra = self.stem(x), None
        for position, block in enumerate(self.blocks):
            x = block(x)
            if self.training and self.auxiliary is not None and position == self.auxiliary_at:
                extra = self.auxiliary(x)
        logits = self.tail(x)
        return logits if extra is None else (logits, extra)

    def features(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        """Returns stride -> the last map (N, c, H / stride, W / stride) of that size, finest first; differentiable.

        Args:
            x: (N, C, H, W) normalised images of any size, also another than the network was built for.
        """
        return pyramid(x, stepwise(x, [*self.stem.children(), *self.blocks]))


def build(arch: Arch, scale: Scale, *, auxiliary: bool = False) -> Network:
    """Returns the network of a cell; ``scale.depth`` is N, the cells a stage (5 in the benchmark).

    The benchmark has no auxiliary head; here it is DARTS's, on the output of the second reduction.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    NASBench201().validate(arch)
    c = scale.channels
    blocks: list[nn.Module] = []
    for stage in range(3):
        if stage:
            blocks.append(Reduction(c << (stage - 1), c << stage))
        blocks += [Cell(arch.choices, c << stage, c << stage) for _ in range(scale.depth)]
    network = Network(stem(scale, c), blocks, Tail(4 * c, scale.n_classes, norm=True))
    if auxiliary:
        size = halved(scale.image_size, sum(stride == 2 for stride in stem_strides(scale)) + 2)
        network.attach(AuxiliaryHead(4 * c, size, scale.n_classes), 2 * scale.depth + 1)
    return network
