"""Residual networks for small images: those of He et al. (CVPR 2016, section 4.2), without weights in shortcuts, and ResNet-18.

ResNet-18 as everybody trains it on CIFAR is the paper's ImageNet network (section 4.1) with a 3x3 stem and no pool: four stages, and
a 1x1 convolution with batch norm in the shortcut where the shape changes.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from archduel.core import Arch, Scale
from archduel.spaces.counting import halved, stem_strides
from archduel.spaces.layers import AuxiliaryHead, Tail, conv
from archduel.spaces.nasbench201.network import Network, stem
from archduel.spaces.resnet.space import form_of

__all__ = ["Block", "build"]


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        c_in: channels of the input.
        c_out: channels of the output.
        stride: 2 halves the map.
        projection: where the shape changes, the shortcut is a 1x1 convolution with batch norm; else it drops pixels and adds
            channels of zeros.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, *, projection: bool = False) -> None:
        super().__init__()
        self.first = nn.Sequential(conv(c_in, c_out, 3, stride), nn.BatchNorm2d(c_out), nn.ReLU())
        self.second = nn.Sequential(conv(c_out, c_out, 3), nn.BatchNorm2d(c_out))
        self.stride, self.more = stride, c_out - c_in
        changes = stride > 1 or c_in != c_out
        self.shortcut = nn.Sequential(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out)) if projection and changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, c_out, ceil(H / stride), ceil(W / stride))."""
        out = self.second(self.first(x))
        if self.shortcut is not None:
            return functional.relu(out + self.shortcut(x))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.more:
            x = functional.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return functional.relu(out + x)


def build(arch: Arch, scale: Scale, *, auxiliary: bool = False) -> Network:
    """Returns the network; width and depth are the architecture's own, ``scale`` gives input and classes.

    The auxiliary head sits on the output of the first block of the last stage.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    stages, blocks, width = form_of(arch)
    layers: list[nn.Module] = []
    c_in = width
    for stage in range(stages):
        for block in range(blocks):
            layers.append(Block(c_in, width << stage, 2 if stage and not block else 1, projection=stages == 4))
            c_in = width << stage
    first = nn.Sequential(*stem(scale, width), nn.ReLU())
    network = Network(first, layers, Tail(c_in, scale.n_classes))
    if auxiliary:
        size = halved(scale.image_size, stem_strides(scale).count(2) + stages - 1)
        network.attach(AuxiliaryHead(c_in, size, scale.n_classes), (stages - 1) * blocks)
    return network
