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

from archduel.core import Arch, Decision, check_decisions
from archduel.errors import InvalidArchError

__all__ = ["Form", "Stages", "form_of"]

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


class Stages:
    """11,664 networks of three stages."""

    name = "stages"
    kinds: Mapping[str, int] = {kind: len(words) for kind, words in WORDS.items()}
    size = 3 * 2 * 3**3 * 3**2 * 2 * 2 * 2

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the next part, or None after the head."""
        if len(prefix) >= len(ORDER):
            return None
        name, kind = ORDER[len(prefix)]
        return Decision(name, kind, tuple(range(len(WORDS[kind]))))

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` answers all questions."""
        check_decisions(self, arch)

    def words(self, kind: str) -> tuple[str, ...]:
        """Returns the names of the answers."""
        return WORDS[kind]

    def start(self) -> Arch:
        """Returns a network that is known to be good: stem of 2 x 2, pools, one further convolution a stage."""
        return self.read("conv2-pool-1-1-1-2-2-plain-all-maximum")

    def read(self, text: str) -> Arch:
        """Returns the network of ``conv2-pool-1-1-1-2-2-plain-all-maximum``.

        Raises:
            InvalidArchError: with the part that does not fit.
        """
        parts = text.strip().split("-")
        if len(parts) != len(ORDER):
            raise InvalidArchError(f"{text!r} has {len(parts)} parts, expected {len(ORDER)}: {'-'.join(n for n, _ in ORDER)}")
        for part, (name, kind) in zip(parts, ORDER):
            if part not in WORDS[kind]:
                raise InvalidArchError(f"{name} {part!r} in {text!r} is not one of {', '.join(WORDS[kind])}")
        return Arch(self.name, tuple(WORDS[kind].index(part) for part, (_, kind) in zip(parts, ORDER)))

    def write(self, arch: Arch) -> str:
        """Returns the words of all parts."""
        self.validate(arch)
        return "-".join(WORDS[kind][choice] for choice, (_, kind) in zip(arch.choices, ORDER))

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
