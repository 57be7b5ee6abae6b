"""Parameters and multiply-adds of networks of three stages in closed form, and their table of layers, without torch."""

from __future__ import annotations

from typing import NamedTuple

from archduel.core import Arch, Counts, Scale
from archduel.spaces.counting import conv_bn, halved, stem_strides, tail, times, total
from archduel.spaces.stages.space import form_of

__all__ = ["Stage", "Stem", "count", "layout", "squeezed"]

FULL_SIDE = 40  # a stem of 2 x 2 halves larger images: a full map of 64 px is where most of the time would go
LEAST_SIDE = 12  # images from here on can do without every second pixel in the stem


class Stem(NamedTuple):
    """A convolution of the stem, with batch norm and ReLU; one of 2 x 2 has no padding.

    Attributes:
        c_in: channels that enter.
        c_out: channels that leave.
        kernel: 2 or 3.
        stride: 1 or 2.
        side: of the map that leaves, in pixels.
    """

    c_in: int
    c_out: int
    kernel: int
    stride: int
    side: int


class Stage(NamedTuple):
    """One stage: a convolution that halves the map, further ones, squeeze-and-excitation.

    Attributes:
        c_in: channels that enter.
        c_out: channels of all its convolutions.
        side: of the map that enters, in pixels.
        extra: further convolutions.
    """

    c_in: int
    c_out: int
    side: int
    extra: int


def squeezed(channels: int) -> int:
    """Returns the width of the small network of squeeze-and-excitation."""
    return max(4, channels // 4)


def layout(arch: Arch, scale: Scale) -> tuple[list[Stem], list[Stage]]:
    """Returns the convolutions of the stem, and the stages.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    form, c, side = form_of(arch), scale.channels, scale.image_size
    strides = list(stem_strides(scale))
    stems: list[Stem] = []
    c_in = scale.in_channels
    for number, stride in enumerate(strides):
        kernel, width = 3, c
        if number == len(strides) - 1 and stride == 1 and form.stem == "conv2":
            kernel, width, stride = 2, max(4, 3 * c // 4), 2 if scale.image_size > FULL_SIDE else 1
        if number == 0 and stride == 1 and form.stem == "stride2" and scale.image_size >= LEAST_SIDE:
            stride = 2
        side = (side - kernel) // stride + 1 if kernel == 2 else halved(side, stride - 1)
        stems.append(Stem(c_in, width, kernel, stride, side))
        c_in = width
    stages = []
    for extra, growth in zip(form.extra, form.growth):
        stages.append(Stage(c_in, int(c * growth), side, extra))
        c_in, side = int(c * growth), halved(side)
    return stems, stages


def count(arch: Arch, scale: Scale) -> Counts:
    """Returns the cost of a network of three stages; ``scale.depth`` is not used.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    form = form_of(arch)
    stems, stages = layout(arch, scale)
    parts = [conv_bn(stem.kernel, stem.c_in, stem.c_out, stem.side) for stem in stems]
    for stage in stages:
        after = halved(stage.side)
        parts.append(conv_bn(3, stage.c_in, stage.c_out, stage.side if form.pool else after))
        parts.append(times(conv_bn(3, stage.c_out, stage.c_out, after), stage.extra))
        if form.squeeze:
            c, hidden = stage.c_out, squeezed(stage.c_out)
            parts.append(Counts(2 * c * hidden + hidden + c, 2 * c * hidden))
    return total(*parts, tail(stages[-1].c_out, scale.n_classes))
