"""What networks of separable and residual blocks are made of, as values, and what they cost. Nothing here needs torch.

A part of a network (fewer blocks, narrower ones, no neck) is a :class:`Layout` as well, made with ``dataclasses.replace``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from archduel.core import Counts
from archduel.errors import SettingError, check_at_least
from archduel.spaces.counting import conv_bn, halved, tail, total

__all__ = ["ACTIVATIONS", "KINDS", "Block", "Layout", "Stem", "count", "sides"]

KINDS = ("separable", "basic", "bottleneck")
ACTIVATIONS = ("relu", "relu6", "hardswish")

@dataclass(frozen=True, slots=True)
class Stem:
    """The first convolution.

    Attributes:
        channels: it makes.
        kernel: side of its window.
        stride: 1 or 2.
        activation: after its batch norm, one of ``ACTIVATIONS``.
        pool: whether a 3x3 max pool of stride 2 follows (ResNet).
    """

    channels: int
    kernel: int = 3
    stride: int = 2
    activation: str = "relu6"
    pool: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """One block; every convolution in it is followed by a batch norm.

    ``separable``: 1x1 ``in -> inner`` (left out unless ``expand``), depthwise ``kernel`` with the stride, squeeze and excitation
    where ``squeeze``, 1x1 ``inner -> out`` without activation. ``basic``: ``kernel`` ``in -> inner`` with the stride, ``kernel``
    ``inner -> out``. ``bottleneck``: 1x1 ``in -> inner``, ``kernel`` ``inner -> inner`` with the stride, 1x1 ``inner -> out``.
    The last two add the shortcut before their last activation.

    Attributes:
        kind: one of ``KINDS``.
        in_channels: of its input.
        inner_channels: between its convolutions: what can be thinned. Equals ``in_channels`` without ``expand``.
        out_channels: of its output.
        kernel: side of the spatial convolutions.
        stride: 1 or 2.
        squeeze: width of squeeze and excitation, 0 = none.
        activation: one of ``ACTIVATIONS``.
        residual: whether the input is added: as it is, or (``basic`` and ``bottleneck``) by a 1x1 convolution where shapes differ.
        expand: ``separable``: whether there is a 1x1 convolution in front.

    Raises:
        SettingError: for a kind or activation that there is not, or a shape that no such block has.
    """

    kind: str
    in_channels: int
    inner_channels: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    squeeze: int = 0
    activation: str = "relu6"
    residual: bool = False
    expand: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.activation not in ACTIVATIONS:
            raise SettingError(f"kind and activation are {self.kind!r}, {self.activation!r}, expected one of {KINDS} and {ACTIVATIONS}")
        check_at_least(1, in_channels=self.in_channels, inner_channels=self.inner_channels, out_channels=self.out_channels)
        if not self.expand and self.inner_channels != self.in_channels:
            raise SettingError(f"inner_channels is {self.inner_channels}, expected in_channels ({self.in_channels}) without expand")
        if self.kind == "separable" and self.residual and not self.same_shape:
            raise SettingError(f"a separable block adds its input only where shapes are equal, got {self}")

    @property
    def same_shape(self) -> bool:
        """Whether input and output are of one shape."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def removable(self) -> bool:
        """Whether the network still fits together without it: it only adds something to its input."""
        return self.residual and self.same_shape

    @property
    def projects(self) -> bool:
        """Whether its shortcut is a 1x1 convolution."""
        return self.residual and not self.same_shape


@dataclass(frozen=True, slots=True)
class Layout:
    """All that a network is built from, but for its classes.

    Attributes:
        stem: the first convolution.
        blocks: in order; at least one.
        neck: channels of a last 1x1 convolution with batch norm and activation, 0 = none.
        hidden: width of a linear layer between pool and classifier, 0 = none.
        activation: of neck and hidden layer.
        same: whether layers of stride 2 pad as TensorFlow does: an even side gets one row and column less at top and left.
        eps: of batch norms.
        momentum: of batch norms, the share of the newest batch.
        dropout: probability before the classifier that the network was published with.
    """

    stem: Stem
    blocks: tuple[Block, ...]
    neck: int = 0
    hidden: int = 0
    activation: str = "relu6"
    same: bool = False
    eps: float = 1e-5
    momentum: float = 0.1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not self.blocks:
            raise SettingError("blocks is empty, expected at least one block")
        widths = [self.stem.channels, *(block.out_channels for block in self.blocks)]
        for number, (block, width) in enumerate(zip(self.blocks, widths)):
            if block.in_channels != width:
                raise SettingError(f"block {number} takes {block.in_channels} channels, but gets {width}")

    @property
    def channels(self) -> int:
        """Channels of the last map: of the neck, or of the last block."""
        return self.neck or self.blocks[-1].out_channels

    @property
    def stride(self) -> int:
        """How many pixels of the input, in each direction, become one of the last map."""
        stride = self.stem.stride * (2 if self.stem.pool else 1)
        return stride * math.prod(block.stride for block in self.blocks)


# -- Parameters and multiply-adds in closed form --------------------------------------------------------------------------


def sides(layout: Layout, image_size: int) -> tuple[int, ...]:
    """Returns the side of the map after the stem and after each block, in pixels; each stride of 2 rounds up."""
    side = halved(image_size, (layout.stem.stride == 2) + layout.stem.pool)
    found = [side]
    for block in layout.blocks:
        side = halved(side) if block.stride == 2 else side
        found.append(side)
    return tuple(found)


def _block(block: Block, size: int, out: int) -> Counts:
    """Returns the cost of a block from a map of side ``size`` to one of side ``out``."""
    c_in, inner, c_out, kernel = block.in_channels, block.inner_channels, block.out_channels, block.kernel
    shortcut = [conv_bn(1, c_in, c_out, out)] if block.projects else []
    if block.kind == "basic":
        return total(conv_bn(kernel, c_in, inner, out), conv_bn(kernel, inner, c_out, out), *shortcut)
    first = [conv_bn(1, c_in, inner, size)] if block.expand else []
    if block.kind == "bottleneck":
        return total(*first, conv_bn(kernel, inner, inner, out), conv_bn(1, inner, c_out, out), *shortcut)
    weights = 2 * inner * block.squeeze
    squeeze = Counts(weights + block.squeeze + inner, weights) if block.squeeze else Counts(0, 0)
    return total(*first, conv_bn(kernel, 1, inner, out), squeeze, conv_bn(1, inner, c_out, out))


def count(layout: Layout, image_size: int, *, in_channels: int = 3, n_classes: int = 1000) -> Counts:
    """Returns parameters and multiply-adds of the network, in closed form.

    Args:
        layout: what it is built from.
        image_size: side of the input in pixels.
        in_channels: of the input.
        n_classes: outputs; 0 = the trunk alone, without hidden layer and classifier.

    Raises:
        SettingError: for a size or number of channels below 1.
    """
    check_at_least(1, image_size=image_size, in_channels=in_channels)
    maps, stem = sides(layout, image_size), layout.stem
    first = halved(image_size) if stem.stride == 2 else image_size
    parts = [conv_bn(stem.kernel, in_channels, stem.channels, first)]
    parts += [_block(block, size, out) for block, size, out in zip(layout.blocks, maps, maps[1:])]
    if layout.neck:
        parts.append(conv_bn(1, layout.blocks[-1].out_channels, layout.neck, maps[-1]))
    if n_classes:
        parts += [tail(layout.channels, layout.hidden)] if layout.hidden else []
        parts.append(tail(layout.hidden or layout.channels, n_classes))
    return total(*parts)
