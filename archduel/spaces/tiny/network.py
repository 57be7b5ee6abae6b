"""Small inverted-residual networks (space ``tiny``)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from archduel.core import Arch, Scale
from archduel.spaces.counting import halved
from archduel.spaces.layers import AuxiliaryHead
from archduel.spaces.nasbench201.network import Network
from archduel.spaces.tiny.space import Block, layout

__all__ = ["InvertedResidual", "Shrunk", "build"]


class Shrunk(nn.Module):
    """Images at a smaller size, for networks that are shown larger ones than they look at.

    Args:
        side: in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, C, side, side)."""
        return functional.interpolate(x, size=(self.side, self.side), mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        """Returns the side."""
        return f"side={self.side}"


class InvertedResidual(nn.Module):
    """Widens, looks with a depthwise convolution, narrows; with a shortcut where input and output are alike.

    Activations end at 6, so that a byte has few of its steps in numbers that hardly occur.

    Args:
        block: widths, kernel, stride.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if block.hidden != block.c_in:
            layers += [nn.Conv2d(block.c_in, block.hidden, 1, bias=False), nn.BatchNorm2d(block.hidden), nn.ReLU6()]
        layers += [
            nn.Conv2d(block.hidden, block.hidden, block.kernel, block.stride, block.kernel // 2, groups=block.hidden, bias=False),
            nn.BatchNorm2d(block.hidden), nn.ReLU6(),
            nn.Conv2d(block.hidden, block.c_out, 1, bias=False), nn.BatchNorm2d(block.c_out),
        ]  # fmt: skip
        self.layers = nn.Sequential(*layers)
        self.residual = block.stride == 1 and block.c_in == block.c_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, c_out, H / stride, W / stride), rounded up."""
        return x + self.layers(x) if self.residual else self.layers(x)


def build(arch: Arch, scale: Scale, *, auxiliary: bool = False) -> Network:
    """Returns the network; ``scale.channels`` is the width of the stem, ``scale.depth`` is not used.

    The auxiliary head sits on the output of the second stage.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    layers = layout(arch, scale)
    first: list[nn.Module] = [] if layers.side == scale.image_size else [Shrunk(layers.side)]
    first += [nn.Conv2d(scale.in_channels, layers.stem, 3, layers.stem_stride, 1, bias=False), nn.BatchNorm2d(layers.stem), nn.ReLU6()]
    stages: list[nn.Module] = [nn.Sequential(*(InvertedResidual(block) for block in stage)) for stage in layers.stages]
    tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(layers.stages[-1][-1].c_out, scale.n_classes))
    network = Network(nn.Sequential(*first), stages, tail)
    if auxiliary:
        last = layers.stages[1][0]
        network.attach(AuxiliaryHead(last.c_out, halved(last.side), scale.n_classes), 1)
    return network
