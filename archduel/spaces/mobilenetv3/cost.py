"""Parameters and multiply-adds of once-for-all MobileNetV3 networks in closed form, and their table of layers.

At 16 channels (width 1.0) and 224 px the counts equal the published ones. Multiply-adds are those of convolutions
(squeeze-and-excitation included) and linear layers.

Source: Cai et al., ICLR 2020, and the published once-for-all networks.
"""

from __future__ import annotations

from typing import NamedTuple

from archduel.core import Arch, Counts, Scale
from archduel.spaces.counting import conv_bn, halved, total
from archduel.spaces.mobilenetv3.space import MAX_DEPTH, spec_of

__all__ = ["Block", "Layout", "count", "divisible", "layout", "squeezed"]

# width, stride, squeeze-and-excitation, h-swish (else ReLU)
_UNITS = (
    (24, 2, False, False),
    (40, 2, True, False),
    (80, 2, False, True),
    (112, 1, True, True),
    (160, 2, True, True),
)
_EXPAND, _MIX = 960, 1280
_PUBLISHED_STEM = 16
_LEAST_MAP = 4


class Block(NamedTuple):
    """One inverted bottleneck; ``c_mid`` is the width between expansion and projection."""

    c_in: int
    c_mid: int
    c_out: int
    kernel: int
    stride: int
    squeeze: bool
    swish: bool


class Layout(NamedTuple):
    """All that a network is built from.

    Attributes:
        stem: channels of the stem and the first block.
        stem_stride: 2, or 1 for small images.
        blocks: the inverted bottlenecks.
        aux_after: how many of them come before the auxiliary head (the end of unit 4).
        expand: channels of the last convolution.
        mix: channels of the layer before the classifier.
        image_size: side of the input in pixels that the network works at.
    """

    stem: int
    stem_stride: int
    blocks: tuple[Block, ...]
    aux_after: int
    expand: int
    mix: int
    image_size: int


def divisible(channels: float) -> int:
    """Returns the multiple of 8 nearest to ``channels``, at least 8 and at least 90 % of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def squeezed(channels: int) -> int:
    """Returns the hidden width of squeeze-and-excitation."""
    return divisible(channels // 4)


def layout(arch: Arch, scale: Scale) -> Layout:
    """Returns the layers of a network.

    The width is ``scale.channels`` / 16 times the published one. Five layers halve the map; for images too small for
    that the first ones do not, so that the last map is at least 4 px (224 px: 7, 32 px: 4). A resolution of the
    architecture's own replaces ``scale.image_size``; ``scale.depth`` is ignored.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    spec, width = spec_of(arch), scale.channels / _PUBLISHED_STEM
    image_size = spec.resolution or scale.image_size
    kept = max(times for times in range(6) if times == 0 or halved(image_size, times) >= _LEAST_MAP)
    spare = 5 - kept  # strides of 2 to leave out, the earliest first
    stem, stem_stride = divisible(_PUBLISHED_STEM * width), 1 if spare else 2
    spare, c, blocks, aux_after = max(0, spare - 1), stem, list[Block](), 0
    for unit, (base, unit_stride, squeeze, swish) in enumerate(_UNITS):
        aux_after = len(blocks)  # in the end: all blocks before unit 5
        if unit_stride == 2 and spare:
            unit_stride, spare = 1, spare - 1
        c_out = divisible(base * width)
        for slot in range(unit * MAX_DEPTH, unit * MAX_DEPTH + spec.depths[unit]):
            stride = unit_stride if slot == unit * MAX_DEPTH else 1
            c_mid = divisible(c * spec.ratios[slot])
            blocks.append(Block(c, c_mid, c_out, spec.kernels[slot], stride, squeeze, swish))
            c = c_out
    ends = divisible(_EXPAND * width), divisible(_MIX * width)
    return Layout(stem, stem_stride, tuple(blocks), aux_after, *ends, image_size)


def _depthwise(kernel: int, channels: int, size: int) -> Counts:
    """Returns the cost of a depthwise convolution, output map ``size`` x ``size``, and its batch norm."""
    weights = kernel * kernel * channels
    return Counts(weights + 2 * channels, weights * size * size)


def _block(block: Block, size: int) -> tuple[Counts, int]:
    """Returns the cost of a block on a map of ``size`` x ``size`` and the side of the map it leaves."""
    parts = [conv_bn(1, block.c_in, block.c_mid, size)]
    size = halved(size) if block.stride == 2 else size
    parts.append(_depthwise(block.kernel, block.c_mid, size))
    if block.squeeze:
        weights, hidden = 2 * block.c_mid * squeezed(block.c_mid), squeezed(block.c_mid)
        parts.append(Counts(weights + hidden + block.c_mid, weights))
    parts.append(conv_bn(1, block.c_mid, block.c_out, size))
    return total(*parts), size


def count(arch: Arch, scale: Scale, *, dropout: float = 0.1) -> Counts:
    """Returns the cost of the network that ``build`` returns.

    Args:
        arch: the architecture; its own resolution replaces ``scale.image_size``.
        scale: width (16 = published), input and classes.
        dropout: costs nothing; here because ``build`` takes it.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    plan = layout(arch, scale)
    size = halved(plan.image_size) if plan.stem_stride == 2 else plan.image_size
    parts = [conv_bn(3, scale.in_channels, plan.stem, size)]
    parts += [_depthwise(3, plan.stem, size), conv_bn(1, plan.stem, plan.stem, size)]
    for block in plan.blocks:
        cost, size = _block(block, size)
        parts.append(cost)
    mix, classifier = plan.expand * plan.mix, plan.mix * scale.n_classes
    parts.append(conv_bn(1, plan.blocks[-1].c_out, plan.expand, size))
    return total(*parts, Counts(mix, mix), Counts(classifier + scale.n_classes, classifier))
