"""What to keep of networks that already know images (space ``pretrained``): which backbone, at which resolution, cut where, how wide.

An architecture says a backbone, the side of the images that it works on, how many of its stages are kept, for each of them
how many blocks (residual ones at the end of a stage may go: they only add something) and how wide those are inside, what
stands between the last map and the classes, and how much of it is trained on. ``Scale`` gives input and classes; its width
and depth mean nothing here.

Source: the choice of decisions is ours; keeping the first blocks of a stage and the strongest inner channels are the moves of
once-for-all networks, Cai et al., ICLR 2020.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Counts, Decision, Scale, check_decisions
from archduel.errors import InvalidArchError, SettingError, unknown
from archduel.spaces.pretrained.backbones import BACKBONES, Backbone
from archduel.spaces.pretrained.layout import Block, Layout
from archduel.spaces.pretrained.layout import count as count_layout

__all__ = ["HEADS", "RESOLUTIONS", "TUNED", "WIDTHS", "Plan", "Pretrained", "arch_of", "check_channels", "count", "kept_layout", "plan_of", "thinnable"]

NAMES = tuple(BACKBONES)
RESOLUTIONS = (32, 48, 64, 96, 128, 160, 192, 224)
"""Sides of the images that a backbone may work on, in pixels."""
WIDTHS = (1.0, 0.75, 0.5, 0.25)
"""Shares of a block's inner channels that may be kept."""
HEADS = ("linear", "neck", "hidden")
"""Between the last map and the classes: nothing; the backbone's own neck, where all stages are kept; a hidden layer of our own."""
TUNED = ("head", "last", "half", "all")
"""What is trained on: the head alone, also the last stage kept (and the neck), also the later half of the blocks, everything."""
HIDDEN = 128
MOST_STAGES = max(len(each.depths) for each in BACKBONES.values())
MOST_BLOCKS = max(max(each.depths) for each in BACKBONES.values())
LAYERED = 8  # inner channels are kept in groups of so many, which vector instructions like


@dataclass(frozen=True, slots=True)
class Plan:
    """An architecture of the space in its own words.

    Attributes:
        backbone: its name.
        resolution: side of the images that the backbone works on, in pixels.
        depths: blocks kept of each stage that is kept.
        widths: share of the inner channels kept in each stage that is kept; 1 where they cannot be thinned.
        head: one of ``HEADS``.
        tuned: one of ``TUNED``.
    """

    backbone: str
    resolution: int
    depths: tuple[int, ...]
    widths: tuple[float, ...]
    head: str = "linear"
    tuned: str = "all"

    @property
    def source(self) -> Backbone:
        """The backbone."""
        return BACKBONES[self.backbone]

    @property
    def whole_width(self) -> bool:
        """Whether no inner channel is left out."""
        return all(width == 1 for width in self.widths)

    @property
    def kept(self) -> tuple[int, ...]:
        """The numbers of the backbone's blocks that are kept, in order."""
        starts = np.cumsum([0, *self.source.depths]).tolist()
        return tuple(start + i for start, depth in zip(starts, self.depths) for i in range(depth))

    @property
    def is_prefix(self) -> bool:
        """Whether the network is a backbone that ends early and nothing else: its features are those of the backbone there."""
        return self.whole_width and self.kept == tuple(range(len(self.kept)))


def thinnable(stage: Sequence[Block]) -> bool:
    """Returns whether the blocks of a stage have inner channels that can be left out without changing their inputs."""
    return any(block.kind != "separable" or block.expand for block in stage)


def thinned(block: Block, width: float) -> Block:
    """Returns a block with about this share of its inner channels."""
    if width == 1 or (block.kind == "separable" and not block.expand):
        return block
    inner = min(block.inner_channels, max(LAYERED, round(block.inner_channels * width / LAYERED) * LAYERED))
    return replace(block, inner_channels=inner)


def kept_layout(plan: Plan) -> Layout:
    """Returns what the network of a plan is built from."""
    whole = plan.source.layout
    stages = plan.source.stages
    blocks = [
        thinned(block, width)
        for stage, depth, width in zip(stages, plan.depths, plan.widths)
        for block in stage[:depth]
    ]
    with_neck = plan.head == "neck"
    hidden = HIDDEN if plan.head == "hidden" else whole.hidden if with_neck else 0
    activation = "relu" if plan.head == "hidden" else whole.activation
    return replace(
        whole, blocks=tuple(blocks), neck=whole.neck if with_neck else 0, hidden=hidden, activation=activation, dropout=0.0
    )


class Pretrained:
    """Networks that keep a part of a published one.

    Args:
        backbones: which ones; empty = all that are known.
        resolutions: which sides, in pixels; empty = all of ``RESOLUTIONS``.

    Raises:
        UnknownNameError: for a backbone that there is not.
        SettingError: for a resolution that there is not.
    """

    name = "pretrained"
    kinds: Mapping[str, int] = {
        "backbone": len(NAMES), "resolution": len(RESOLUTIONS), "stages": MOST_STAGES, "blocks": MOST_BLOCKS, "width": len(WIDTHS),
        "head": len(HEADS), "tuned": len(TUNED),
    }  # fmt: skip

    def __init__(self, *, backbones: Sequence[str] = (), resolutions: Sequence[int] = ()) -> None:
        for name in backbones:
            if name not in BACKBONES:
                raise unknown("backbone", name, BACKBONES, command="archduel backbones list")
        for side in resolutions:
            if side not in RESOLUTIONS:
                raise SettingError(f"resolution {side} is not one of {', '.join(map(str, RESOLUTIONS))}")
        self.backbones, self.resolutions = tuple(backbones), tuple(resolutions)

    @property
    def size(self) -> int:
        """How many architectures there are."""
        found = 0
        for name in self.backbones or NAMES:
            for stages in range(2, len(BACKBONES[name].depths) + 1):
                found += math.prod(len(asked.options) for asked in _questions(name, stages))
        return found * len(set(self.resolutions or RESOLUTIONS))

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the next question, or None after the last."""
        if not prefix:
            return Decision("backbone", "backbone", _options(self.backbones or NAMES, NAMES))
        if len(prefix) == 1:
            return Decision("resolution", "resolution", _options(self.resolutions or RESOLUTIONS, RESOLUTIONS))
        source = BACKBONES[NAMES[prefix[0]]]
        if len(prefix) == 2:
            return Decision("stages", "stages", tuple(range(1, len(source.depths))))  # one stage alone is no network
        rest = _questions(NAMES[prefix[0]], prefix[2] + 1)
        place = len(prefix) - 3
        return rest[place] if place < len(rest) else None

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` answers all questions."""
        check_decisions(self, arch)

    def words(self, kind: str) -> tuple[str, ...]:
        """Returns the names of the answers."""
        if kind in ("stages", "blocks"):
            return tuple(str(number + 1) for number in range(self.kinds[kind]))
        named: Mapping[str, Sequence[object]] = {
            "backbone": NAMES, "resolution": RESOLUTIONS, "width": [f"{width:g}" for width in WIDTHS], "head": HEADS, "tuned": TUNED,
        }  # fmt: skip
        return tuple(map(str, named[kind]))

    def read(self, text: str) -> Arch:
        """Returns the architecture of ``efficientnet_lite0@96:1-2-2x0.5:linear:all``.

        Stands for: EfficientNet-Lite0 on images of 96 px, one block of its first stage, two of its second, two of its third with half
        of their inner channels, a linear head, all of it trained on.

        Raises:
            InvalidArchError: with the part that does not fit.
        """
        parts = re.fullmatch(r"([a-z0-9_]+)@(\d+):([\d.x-]+):([a-z]+):([a-z]+)", text.strip())
        if parts is None or parts[1] not in BACKBONES:
            raise InvalidArchError(f"{text[:80]!r} is not of the form BACKBONE@PIXELS:BLOCKS[xWIDTH]-...:HEAD:TUNED")
        stages = [stage.partition("x") for stage in parts[3].split("-")]
        try:
            depths, widths = tuple(int(depth) for depth, _, _ in stages), tuple(float(width or 1) for _, _, width in stages)
            arch = arch_of(Plan(parts[1], int(parts[2]), depths, widths, parts[4], parts[5]))
        except ValueError as error:
            raise InvalidArchError(f"{text[:80]!r}: {error}") from error
        self.validate(arch)
        return arch

    def write(self, arch: Arch) -> str:
        """Returns the text that :meth:`read` reads."""
        self.validate(arch)
        plan = plan_of(arch)
        stages = [str(depth) + ("" if width == 1 else f"x{width:g}") for depth, width in zip(plan.depths, plan.widths)]
        return f"{plan.backbone}@{plan.resolution}:{'-'.join(stages)}:{plan.head}:{plan.tuned}"

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, F): backbone as 0/1 columns, resolution, depth and width of each stage (0 = left out), head, tuned, costs."""
        rows = [_features(arch) for arch in archs]
        return np.array(rows, np.float32).reshape(len(rows), len(NAMES) + 2 * MOST_STAGES + 8)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the text; all parts of it change the network or its training."""
        return self.write(arch)


def _options(wanted: Sequence[object], known: Sequence[object]) -> tuple[int, ...]:
    return tuple(sorted(known.index(each) for each in set(wanted)))


@lru_cache(None)
def _questions(name: str, stages: int) -> tuple[Decision, ...]:
    """Returns the questions after the number of stages."""
    source, asked = BACKBONES[name], list[Decision]()
    for number, stage in enumerate(source.stages[:stages]):
        if len(stage) > 1:
            asked.append(Decision(f"stage{number + 1}/blocks", "blocks", tuple(range(len(stage)))))
        if thinnable(stage):
            asked.append(Decision(f"stage{number + 1}/width", "width", tuple(range(len(WIDTHS)))))
    whole = stages == len(source.depths) and source.layout.neck > 0
    asked.append(Decision("head", "head", tuple(i for i, head in enumerate(HEADS) if whole or head != "neck")))
    asked.append(Decision("tuned", "tuned", tuple(range(len(TUNED)))))
    return tuple(asked)


def plan_of(arch: Arch) -> Plan:
    """Returns what an architecture says.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    check_decisions(Pretrained(), arch)
    name, resolution, last, *rest = arch.choices
    stages = BACKBONES[NAMES[name]].stages[: last + 1]
    answers = {decision.name: answer for decision, answer in zip(_questions(NAMES[name], last + 1), rest)}
    depths = tuple(answers.get(f"stage{i + 1}/blocks", 0) + 1 for i in range(len(stages)))
    widths = tuple(WIDTHS[answers.get(f"stage{i + 1}/width", 0)] for i in range(len(stages)))
    return Plan(NAMES[name], RESOLUTIONS[resolution], depths, widths, HEADS[answers["head"]], TUNED[answers["tuned"]])


def arch_of(plan: Plan) -> Arch:
    """Returns the architecture of a plan; the inverse of :func:`plan_of`.

    Raises:
        ValueError: for an answer that there is not.
        InvalidArchError: for a stage that the backbone has not, or one that cannot be thinned.
    """
    stages = plan.source.stages
    if not 1 < len(plan.depths) <= len(stages):
        raise InvalidArchError(f"{plan.backbone} has {len(stages)} stages, of which 2 or more can be kept; got {len(plan.depths)}")
    choices = [NAMES.index(plan.backbone), RESOLUTIONS.index(plan.resolution), len(plan.depths) - 1]
    for number, (stage, depth, width) in enumerate(zip(stages, plan.depths, plan.widths)):
        if not 1 <= depth <= len(stage):
            raise InvalidArchError(f"stage {number + 1} of {plan.backbone} has {len(stage)} blocks, got {depth}")
        choices += [depth - 1] if len(stage) > 1 else []
        if thinnable(stage):
            choices.append(WIDTHS.index(width))
        elif width != 1:
            raise InvalidArchError(f"stage {number + 1} of {plan.backbone} cannot be thinned, got width {width:g}")
    return Arch(Pretrained.name, (*choices, HEADS.index(plan.head), TUNED.index(plan.tuned)))


def count(arch: Arch, scale: Scale) -> Counts:
    """Returns parameters and multiply-adds in closed form, without torch; grey images are shown to a backbone as three equal channels.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images of other than 1 or 3 channels.
    """
    check_channels(scale.in_channels)
    plan = plan_of(arch)
    return count_layout(kept_layout(plan), plan.resolution, in_channels=3, n_classes=scale.n_classes)


def check_channels(in_channels: int) -> None:
    """Raises SettingError for images that no backbone was shown: their networks know colour images, which grey ones can be shown as."""
    if in_channels not in (1, 3):
        raise SettingError(f"pretrained networks take grey or RGB images, got {in_channels} channels; use --start scratch")


def _features(arch: Arch) -> list[float]:
    plan = plan_of(arch)
    counts = count(arch, Scale(n_classes=10))
    missing = MOST_STAGES - len(plan.depths)
    return [
        *(float(plan.backbone == name) for name in NAMES), np.log2(plan.resolution), *map(float, plan.depths), *[0.0] * missing, *plan.widths,
        *[0.0] * missing, *(float(plan.head == head) for head in HEADS), float(TUNED.index(plan.tuned)), float(sum(plan.depths)),
        np.log(counts.params), np.log(counts.macs),
    ]  # fmt: skip
