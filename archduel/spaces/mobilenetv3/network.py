"""The once-for-all MobileNetV3 network of one architecture, alone and untrained.

Deviations from the published networks: images under 112 px are halved fewer times (see ``layout``), there may be an
auxiliary head, and a network whose architecture names a resolution resizes its input itself.

Source: Cai et al., ICLR 2020; Howard et al., "Searching for MobileNetV3", ICCV 2019.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from archduel.core import Arch, Scale
from archduel.spaces.counting import halved
from archduel.spaces.layers import AuxiliaryHead, conv
from archduel.spaces.mobilenetv3.cost import Block, Layout, layout, squeezed
from archduel.spaces.nasbench201.network import Network

__all__ = ["Bottleneck", "MobileNetV3Network", "SqueezeExcitation", "build"]


def _conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1, *, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(c_in, c_out, kernel, stride, groups=groups), nn.BatchNorm2d(c_out))


def _activation(swish: bool) -> nn.Module:
    return nn.Hardswish() if swish else nn.ReLU()


class SqueezeExcitation(nn.Module):
    """Scales every channel by what a small network says about the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = squeezed(channels)
        self.reduce, self.expand = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, C, H, W), each channel times a number in 0..1."""
        scale = functional.relu(self.reduce(x.mean((2, 3), keepdim=True)))  # (N, hidden, 1, 1)
        return x * functional.hardsigmoid(self.expand(scale))


class Bottleneck(nn.Module):
    """1x1 expansion, depthwise convolution, squeeze-and-excitation, 1x1 projection; a shortcut where shapes allow."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if block.c_mid != block.c_in:
            layers += [*_conv_bn(block.c_in, block.c_mid, 1), _activation(block.swish)]
        depthwise = _conv_bn(block.c_mid, block.c_mid, block.kernel, block.stride, groups=block.c_mid)
        layers += [*depthwise, _activation(block.swish)]
        layers += [SqueezeExcitation(block.c_mid)] if block.squeeze else []
        self.layers = nn.Sequential(*layers, *_conv_bn(block.c_mid, block.c_out, 1))
        self.shortcut = block.stride == 1 and block.c_in == block.c_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, c_out, H / stride, W / stride), rounded up."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNetV3Network(Network):
    """The network; with a ``resolution`` it first resizes what it is given."""

    resolution: int | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Returns (N, classes) logits, in training mode with an auxiliary head ``(logits, auxiliary logits)``."""
        if self.resolution is not None and x.shape[-1] != self.resolution:
            side = (self.resolution, self.resolution)
            x = functional.interpolate(x, side, mode="bilinear", align_corners=False, antialias=True)
        return super().forward(x)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights anew: convolutions from a normal of variance 2 / (kernel area x output channels)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                area = module.kernel_size[0] * module.kernel_size[1]
                nn.init.normal_(
                    module.weight, 0, math.sqrt(2 / (area * module.out_channels)), generator=generator
                )
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()


def _tail(plan: Layout, n_classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        *_conv_bn(plan.blocks[-1].c_out, plan.expand, 1),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(plan.expand, plan.mix, 1, bias=False),
        nn.Hardswish(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(plan.mix, n_classes),
    )


def build(arch: Arch, scale: Scale, *, auxiliary: bool = False, dropout: float = 0.1) -> MobileNetV3Network:
    """Returns the network of an architecture.

    Args:
        arch: the architecture; its own resolution replaces ``scale.image_size``, inputs are resized to it.
        scale: width (16 = published), input and classes; ``depth`` is ignored.
        auxiliary: adds DARTS's auxiliary head, after unit 4 (the published networks have none).
        dropout: probability before the classifier, 0..1.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    plan = layout(arch, scale)
    stem = nn.Sequential(*_conv_bn(scale.in_channels, plan.stem, 3, plan.stem_stride), nn.Hardswish())
    first = Block(plan.stem, plan.stem, plan.stem, 3, 1, False, False)
    blocks: list[nn.Module] = [Bottleneck(block) for block in (first, *plan.blocks)]
    network = MobileNetV3Network(stem, blocks, _tail(plan, scale.n_classes, dropout))
    if plan.image_size != scale.image_size:
        network.resolution = plan.image_size
    if auxiliary:
        before = plan.blocks[: plan.aux_after]
        size = halved(plan.image_size, (plan.stem_stride == 2) + sum(block.stride == 2 for block in before))
        network.attach(AuxiliaryHead(before[-1].c_out, size, scale.n_classes), plan.aux_after)
    network.initialise()
    return network
