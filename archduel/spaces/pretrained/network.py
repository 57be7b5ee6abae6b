"""Networks of a :class:`~archduel.spaces.pretrained.layout.Layout` in plain torch, untrained.

Names in the state dict: ``stem.conv``, ``stem.norm``, ``blocks.3.expand.conv``, ``blocks.3.depthwise.norm``,
``blocks.3.squeeze.reduce``, ``blocks.3.project.conv``, ``neck.conv``, ``head.classifier``. Layers stand in the order in which
published networks have them, so that weights can be matched by structure.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from archduel.errors import SettingError
from archduel.spaces.layers import DropPath, SqueezeExcitation, pyramid
from archduel.spaces.pretrained.backbones import Backbone
from archduel.spaces.pretrained.layout import Block, Layout

__all__ = ["Classifier", "ConvNorm", "Head", "ResidualBlock", "Same", "SeparableBlock", "Trunk", "whole"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish}


class Same(nn.Module):
    """Zeros around a map before a convolution of stride 2, as TensorFlow's ``same`` puts them.

    An even side gets one row and column less at top and left than at bottom and right; so windows sit where they sat when the
    weights were trained.

    Args:
        kernel: side of the convolution's window, odd.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.reach = kernel // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the map with its border, (N, C, H + kernel - 1 or - 2, W likewise)."""
        rows, columns = x.shape[2] % 2, x.shape[3] % 2
        return functional.pad(x, (self.reach - 1 + columns, self.reach, self.reach - 1 + rows, self.reach))

    def extra_repr(self) -> str:
        """Returns the width of the border."""
        return f"reach={self.reach}"


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation.

    Args:
        c_in: channels of the input.
        c_out: channels of the output.
        kernel: side of the window, odd.
        stride: 1 or 2.
        layout: says how borders are padded and how norms count.
        activation: name of it, empty = none.
        groups: of the convolution.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, layout: Layout, activation: str = "", groups: int = 1
    ) -> None:
        super().__init__()
        same = layout.same and stride > 1 and kernel > 1
        self.border = Same(kernel) if same else None
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, 0 if same else kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(c_out, layout.eps, layout.momentum)
        self.activation = _ACTIVATIONS[activation]() if activation else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, c_out, H / stride, W / stride), rounded up."""
        if self.border is not None:
            x = self.border(x)
        x = self.norm(self.conv(x))
        return x if self.activation is None else self.activation(x)


class SeparableBlock(nn.Module):
    """1x1 convolution, depthwise convolution, squeeze and excitation, 1x1 convolution; those that the block has."""

    def __init__(self, block: Block, layout: Layout) -> None:
        super().__init__()
        inner, name = block.inner_channels, block.activation
        self.expand = ConvNorm(block.in_channels, inner, 1, layout=layout, activation=name) if block.expand else None
        self.depthwise = ConvNorm(inner, inner, block.kernel, block.stride, layout=layout, activation=name, groups=inner)
        self.squeeze = SqueezeExcitation(inner, block.squeeze, functional.hardsigmoid) if block.squeeze else None
        self.project = ConvNorm(inner, block.out_channels, 1, layout=layout)
        self.drop_path = DropPath()
        self.residual = block.residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, out_channels, H / stride, W / stride), rounded up."""
        out = self.depthwise(x if self.expand is None else self.expand(x))
        out = self.project(out if self.squeeze is None else self.squeeze(out))
        return x + self.drop_path(out) if self.residual else out


class ResidualBlock(nn.Module):
    """Two or three convolutions and a shortcut, added before the last activation."""

    def __init__(self, block: Block, layout: Layout) -> None:
        super().__init__()
        c_in, inner, c_out = block.in_channels, block.inner_channels, block.out_channels
        name, kernel = block.activation, block.kernel
        if block.kind == "basic":
            layers = [
                ConvNorm(c_in, inner, kernel, block.stride, layout=layout, activation=name),
                ConvNorm(inner, c_out, kernel, layout=layout),
            ]
        else:
            layers = [
                ConvNorm(c_in, inner, 1, layout=layout, activation=name),
                ConvNorm(inner, inner, kernel, block.stride, layout=layout, activation=name),
                ConvNorm(inner, c_out, 1, layout=layout),
            ]
        self.layers = nn.Sequential(*layers)
        self.shortcut = ConvNorm(c_in, c_out, 1, block.stride, layout=layout) if block.projects else None
        self.drop_path = DropPath()
        self.activation = _ACTIVATIONS[name]()
        self.residual = block.residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, out_channels, H / stride, W / stride), rounded up."""
        out = self.layers(x)
        if self.residual:
            out = self.drop_path(out) + (x if self.shortcut is None else self.shortcut(x))
        return self.activation(out)


def _block(block: Block, layout: Layout) -> nn.Module:
    return SeparableBlock(block, layout) if block.kind == "separable" else ResidualBlock(block, layout)


class Trunk(nn.Module):
    """Stem, blocks and neck: images to maps of features.

    Args:
        layout: any sequence of blocks that fit together; see :class:`Layout`.
        in_channels: of the images.

    Attributes:
        layout: what it was built from.
    """

    def __init__(self, layout: Layout, *, in_channels: int = 3) -> None:
        super().__init__()
        self.layout = layout
        stem = layout.stem
        self.stem = ConvNorm(in_channels, stem.channels, stem.kernel, stem.stride, layout=layout, activation=stem.activation)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem.pool else None
        self.blocks = nn.ModuleList(_block(block, layout) for block in layout.blocks)
        last = layout.blocks[-1].out_channels
        self.neck = ConvNorm(last, layout.neck, 1, layout=layout, activation=layout.activation) if layout.neck else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the last map (N, layout.channels, h, w).

        Args:
            x: (N, in_channels, H, W), normalised as the backbone's ``mean`` and ``std`` say.
        """
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x if self.neck is None else self.neck(x)

    def first(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the map that the blocks get: after the stem, and its max pool where there is one."""
        x = self.stem(x)
        return x if self.pool is None else self.pool(x)

    def maps(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yields the map after the stem, after each block, and after the neck where there is one: every cut in one pass."""
        x = self.first(x)
        yield x
        for block in self.blocks:
            x = block(x)
            yield x
        if self.neck is not None:
            yield self.neck(x)

    def features(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        """Returns stride -> the last map (N, c, H / stride, W / stride) of that size before the neck, finest first."""
        return pyramid(x, list(self.maps(x))[: 1 + len(self.blocks)])


class Head(nn.Module):
    """Global average pool, hidden layer where there is one, dropout, classifier.

    Args:
        channels: of the map.
        n_classes: outputs.
        hidden: width of the hidden layer, 0 = none.
        activation: after the hidden layer.
        dropout: probability before the classifier, 0..1.
    """

    def __init__(self, channels: int, n_classes: int, *, hidden: int = 0, activation: str = "relu", dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(channels, hidden), _ACTIVATIONS[activation]()) if hidden else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden or channels, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, n_classes) logits of maps (N, channels, h, w)."""
        x = x.mean((2, 3))
        return self.classifier(self.dropout(x if self.hidden is None else self.hidden(x)))


class Classifier(Trunk):
    """A trunk and a head: images to logits.

    Args:
        layout: what it is built from.
        n_classes: outputs.
        in_channels: of the images.
        dropout: probability before the classifier; None = as published.
    """

    def __init__(self, layout: Layout, n_classes: int, *, in_channels: int = 3, dropout: float | None = None) -> None:
        super().__init__(layout, in_channels=in_channels)
        if n_classes < 1:
            raise SettingError(f"n_classes is {n_classes}, expected at least 1")
        rate = layout.dropout if dropout is None else dropout
        self.head = Head(layout.channels, n_classes, hidden=layout.hidden, activation=layout.activation, dropout=rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, n_classes) logits of normalised images (N, in_channels, H, W)."""
        return self.head(super().forward(x))


def whole(backbone: Backbone, n_classes: int = 1000) -> Classifier:
    """Returns the published classifier, untrained."""
    return Classifier(backbone.layout, n_classes)
