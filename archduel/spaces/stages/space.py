"""Whole networks of three stages, decided part by part: the stem, how maps are halved, depth and width of each stage, shortcuts, the head.

Cells leave the outline of a network alone; with minutes of training on a few thousand images the outline is what matters, and
this space has residual networks, the plain pooled networks of speed records and what lies between. The width of the first
stage is ``Scale.channels``.

Source: the parts are those of He et al. (CVPR 2016), Hu et al. (CVPR 2018, squeeze) and Jordan, "94% on CIFAR-10 in 3.29 seconds on a
single GPU" (arXiv 2404.00498: stem of 2 x 2, pool after the first convolution of a stage); the choice is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Counts, Scale
from archduel.spaces.counting import conv_bn, halved, stem_strides, tail, times, total
from archduel.spaces.worded import Worded

__all__ = ["Form", "Stage", "Stages", "Stem", "count", "form_of", "layout", "squeezed"]

WORDS: dict[str, tuple[str, ...]] = {
    "stem": ("conv3", "conv2", "stride2"),
    "halving": ("pool", "stride"),
    "extra": ("0", "1", "2"),
    "growth": ("1", "1.5", "2"),
    "shortcut": ("plain", "residual"),
    "squeeze": ("all", "squeeze"),
    "head": ("average", "maximum"),
}
ORDER = (
    ("stem", "stem"), ("halving", "halving"), ("stage1/extra", "extra"), ("stage2/extra", "extra"), ("stage3/extra", "extra"),
    ("stage2/growth", "growth"), ("stage3/growth", "growth"), ("shortcut", "shortcut"), ("squeeze", "squeeze"), ("head", "head"),
)  # fmt: skip
SHORTCUT = 7  # place of that decision, which means nothing where there are no extra convolutions


class Form(NamedTuple):
    """What an architecture of the space says.

    Attributes:
        stem: ``conv3``, ``conv2`` (2 x 2 without padding, fewer channels, stride 2 for images above 40 px) or ``stride2``.
        pool: whether a stage is halved by a pool after its first convolution; else by that convolution's stride.
        extra: further convolutions of each stage.
        growth: widths of the three stages as multiples of the first.
        residual: whether the further convolutions have a shortcut around them.
        squeeze: whether squeeze-and-excitation ends each stage.
        maximum: whether the head takes the maximum of each channel; else the mean.
    """

    stem: str
    pool: bool
    extra: tuple[int, int, int]
    growth: tuple[float, float, float]
    residual: bool
    squeeze: bool
    maximum: bool


class Stages(Worded):
    """11,664 networks of three stages."""

    name = "stages"
    order, vocabulary = ORDER, WORDS
    kinds: Mapping[str, int] = {kind: len(words) for kind, words in WORDS.items()}
    size = 3 * 2 * 3**3 * 3**2 * 2 * 2 * 2

    def start(self) -> Arch:
        """Returns a network that is known to be good: stem of 2 x 2, pools, one further convolution a stage."""
        return self.read("conv2-pool-1-1-1-2-2-plain-all-maximum")

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 13): the answers, stem and halving as 0/1 columns, and the total of further convolutions."""
        choices = np.array([arch.choices for arch in archs], np.float32).reshape(-1, len(ORDER))
        stems = choices[:, :1] == np.arange(3)
        return np.concatenate([stems, choices[:, 1:], choices[:, 2:5].sum(1, keepdims=True)], 1).astype(np.float32)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the words; without further convolutions a shortcut is none."""
        form = form_of(arch)
        choices = list(arch.choices)
        if not any(form.extra):
            choices[SHORTCUT] = 0
        return self.write(Arch(self.name, tuple(choices)))


def form_of(arch: Arch) -> Form:
    """Returns what an architecture says.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    space = Stages()
    space.validate(arch)
    said = [WORDS[kind][choice] for choice, (_, kind) in zip(arch.choices, ORDER)]
    second, third = (float(word) for word in said[5:7])
    extra = tuple(int(word) for word in said[2:5])
    return Form(
        said[0], said[1] == "pool", (extra[0], extra[1], extra[2]), (1.0, second, second * third), said[7] == "residual",
        said[8] == "squeeze", said[9] == "maximum",
    )  # fmt: skip


# -- Parameters and multiply-adds of networks of three stages in closed form, and their table of layers, without torch --


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
