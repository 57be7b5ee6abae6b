"""Small inverted-residual networks: resolution, stem, and of each of three stages kernel, expansion, depth and width.

Under limits of RAM the resolution decides most: a map of twice the side has four times the bytes, and the first maps are the largest. The
width of the first stage is ``Scale.channels`` times its growth.

Source: the blocks are those of Sandler et al., "MobileNetV2" (CVPR 2018); resolution as a decision is from Lin et al., "MCUNet" (NeurIPS 2020);
the choice is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Counts, Scale
from archduel.errors import SettingError
from archduel.spaces.counting import conv_bn, halved, tail, total
from archduel.spaces.worded import Worded

__all__ = ["Block", "Form", "Layout", "StageForm", "Tiny", "count", "form_of", "layout", "side_of"]

WORDS: dict[str, tuple[str, ...]] = {
    "resolution": ("16", "24", "32", "40", "48", "64", "80", "96"),
    "stem": ("full", "halved"),
    "kernel": ("3", "5"),
    "expansion": ("1", "2", "4", "6"),
    "depth": ("1", "2", "3"),
    "growth": ("1", "1.5", "2"),
}
STAGES = 3
ORDER = (
    ("resolution", "resolution"), ("stem", "stem"),
    *((f"stage{stage}/{kind}", kind) for stage in range(1, STAGES + 1) for kind in ("kernel", "expansion", "depth", "growth")),
)  # fmt: skip


class StageForm(NamedTuple):
    """What an architecture says of one stage.

    Attributes:
        kernel: of its depthwise convolutions.
        expansion: channels inside a block as a multiple of those that enter it.
        depth: blocks; the first halves the map.
        growth: channels that leave as a multiple of those of the stage before.
    """

    kernel: int
    expansion: int
    depth: int
    growth: float


class Form(NamedTuple):
    """What an architecture of the space says.

    Attributes:
        resolution: side in pixels at which images are seen, where they have as many.
        halved: whether the stem halves the map.
        stages: the three stages.
    """

    resolution: int
    halved: bool
    stages: tuple[StageForm, ...]


class Tiny(Worded):
    """5,971,968 small inverted-residual networks.

    Args:
        side: of the images in pixels; resolutions above it are not offered. None = all are.
    """

    name = "tiny"
    order, vocabulary = ORDER, WORDS
    kinds: Mapping[str, int] = {kind: len(words) for kind, words in WORDS.items()}
    size = 8 * 2 * (2 * 4 * 3 * 3) ** STAGES

    def __init__(self, *, side: int | None = None) -> None:
        self.side = side

    def at_scale(self, scale: Scale) -> Tiny:
        """Returns the space for images of this size."""
        return Tiny(side=scale.image_size)

    def options(self, kind: str) -> tuple[int, ...]:
        """Returns the answers that are offered: no resolution above the images' own."""
        options = super().options(kind)
        if kind == "resolution" and self.side is not None:
            options = tuple(o for o in options if int(WORDS[kind][o]) <= self.side) or (0,)
        return options

    def start(self) -> Arch:
        """Returns a network to begin with: the images' own size up to 48 px, two blocks a stage, expansion 4."""
        offered = self.decision(())
        assert offered is not None
        largest = max(int(WORDS["resolution"][option]) for option in offered.options)
        return self.read(f"{min(48, largest)}-full-3-4-2-1.5-3-4-2-1.5-3-4-2-2")

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 15): the answers, and the number of blocks."""
        choices = np.array([arch.choices for arch in archs], np.float32).reshape(-1, len(ORDER))
        blocks = choices[:, [i for i, (_, kind) in enumerate(ORDER) if kind == "depth"]].sum(1, keepdims=True) + STAGES
        return np.concatenate([choices, blocks], 1).astype(np.float32)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the words; there is nothing to reduce."""
        return self.write(arch)


def form_of(arch: Arch) -> Form:
    """Returns what an architecture says.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    Tiny().validate(arch)
    said = [WORDS[kind][choice] for choice, (_, kind) in zip(arch.choices, ORDER)]
    parts = (said[2 + 4 * stage : 6 + 4 * stage] for stage in range(STAGES))
    stages = tuple(StageForm(int(k), int(e), int(d), float(g)) for k, e, d, g in parts)
    return Form(int(said[0]), said[1] == "halved", stages)


def side_of(arch: Arch, image_size: int) -> int:
    """Returns the side in pixels at which the network sees images of ``image_size``."""
    return min(form_of(arch).resolution, image_size)


# -- The table of layers, and parameters and multiply-adds in closed form, without torch ----------------------------------


class Block(NamedTuple):
    """An inverted residual block: widened, seen by a depthwise convolution, narrowed.

    Attributes:
        c_in: channels that enter.
        hidden: channels inside.
        c_out: channels that leave.
        kernel: of the depthwise convolution.
        stride: 1 or 2.
        side: of the map that enters.
    """

    c_in: int
    hidden: int
    c_out: int
    kernel: int
    stride: int
    side: int


class Layout(NamedTuple):
    """The layers of a network.

    Attributes:
        side: at which the network sees images, in pixels.
        stem: channels of the first convolution.
        stem_stride: 1 or 2.
        stages: the blocks of each.
    """

    side: int
    stem: int
    stem_stride: int
    stages: tuple[tuple[Block, ...], ...]


def layout(arch: Arch, scale: Scale) -> Layout:
    """Returns the layers; ``scale.channels`` is the width of the stem, ``scale.depth`` is not used.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    if scale.image_size < 4:
        raise SettingError(f"image_size must be at least 4 px for a network of three stages, got {scale.image_size}")
    form = form_of(arch)
    seen = side_of(arch, scale.image_size)
    side = halved(seen) if form.halved else seen
    width, c_in = float(scale.channels), scale.channels
    stages = []
    for stage in form.stages:
        width *= stage.growth
        blocks = []
        for number in range(stage.depth):
            stride = 2 if number == 0 else 1
            blocks.append(Block(c_in, c_in * stage.expansion, int(width), stage.kernel, stride, side))
            c_in, side = int(width), halved(side, stride - 1)
        stages.append(tuple(blocks))
    return Layout(seen, scale.channels, 2 if form.halved else 1, tuple(stages))


def count(arch: Arch, scale: Scale) -> Counts:
    """Returns the cost of the network; ``scale.depth`` is not used.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    layers = layout(arch, scale)
    parts = [conv_bn(3, scale.in_channels, layers.stem, halved(layers.side, layers.stem_stride - 1))]
    for block in (block for stage in layers.stages for block in stage):
        after = halved(block.side, block.stride - 1)
        if block.hidden != block.c_in:
            parts.append(conv_bn(1, block.c_in, block.hidden, block.side))
        parts += [conv_bn(block.kernel, 1, block.hidden, after), conv_bn(1, block.hidden, block.c_out, after)]
    return total(*parts, tail(layers.stages[-1][-1].c_out, scale.n_classes))
