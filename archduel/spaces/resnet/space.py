"""Small residual networks (He et al., CVPR 2016, section 4.2): what a person would use without a search.

Two choices: blocks a stage and width of the first of three stages; the next two are twice and four times as wide. ResNet-20 is
``resnet20-16``: 6 x 3 + 2 layers, 16 channels. A second space has four stages, and shortcuts with weights where the shape changes:
ResNet-18 as it is trained on CIFAR is ``resnet18-64`` there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Counts, Decision, Scale, check_decisions
from archduel.errors import InfeasibleError, InvalidArchError
from archduel.spaces.counting import conv_bn, halved, stem, tail, times, total

__all__ = ["BLOCKS", "WIDTHS", "ResNet", "ResNet4", "count_resnet", "form_of", "ladder", "standard_network"]

BLOCKS = (1, 2, 3, 5, 7, 9)
WIDTHS = (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 112, 128)


class ResNet:
    """Residual networks of 8 to 56 layers, 4 to 128 channels in the first stage."""

    name = "resnet"
    stages = 3
    kinds: Mapping[str, int] = {"blocks": len(BLOCKS), "width": len(WIDTHS)}
    size = len(BLOCKS) * len(WIDTHS)

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the question about blocks, then about width, then None."""
        if len(prefix) >= 2:
            return None
        name, values = (("blocks", BLOCKS), ("width", WIDTHS))[len(prefix)]
        return Decision(name, name, tuple(range(len(values))))

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` has a choice for each."""
        check_decisions(self, arch)

    def shape(self, arch: Arch) -> tuple[int, int]:
        """Returns blocks a stage and channels of the first stage."""
        self.validate(arch)
        return BLOCKS[arch.choices[0]], WIDTHS[arch.choices[1]]

    def read(self, text: str) -> Arch:
        """Returns the network of ``resnet20-16``.

        Raises:
            InvalidArchError: with the part that does not fit.
        """
        layers, dash, width = text.strip().removeprefix("resnet").partition("-")
        named = {str(2 * self.stages * blocks + 2): i for i, blocks in enumerate(BLOCKS)}
        if not text.strip().startswith("resnet") or not dash or layers not in named:
            raise InvalidArchError(
                f"{text!r} is not resnetLAYERS-WIDTH with LAYERS one of {', '.join(named)}"
            )
        if width not in map(str, WIDTHS):
            raise InvalidArchError(f"width {width!r} in {text!r} is not one of {', '.join(map(str, WIDTHS))}")
        return Arch(self.name, (named[layers], WIDTHS.index(int(width))))

    def write(self, arch: Arch) -> str:
        """Returns ``resnetLAYERS-WIDTH``."""
        blocks, width = self.shape(arch)
        return f"resnet{2 * self.stages * blocks + 2}-{width}"

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 5): blocks, width, their logarithms to base 2, and that of blocks x width squared (parameters)."""
        shapes = np.array([self.shape(arch) for arch in archs], np.float64).reshape(-1, 2)
        logs = np.log2(shapes)
        return np.concatenate([shapes, logs, logs @ [[1.0], [2.0]]], 1).astype(np.float32)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the name: no two are equal."""
        return self.write(arch)


class ResNet4(ResNet):
    """Residual networks of four stages, 10 to 74 layers, with a 1x1 convolution in the shortcut where the shape changes."""

    name = "resnet4"
    stages = 4


def form_of(arch: Arch) -> tuple[int, int, int]:
    """Returns stages, blocks a stage and channels of the first stage of a residual network of either space.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    space = ResNet4() if arch.space == ResNet4.name else ResNet()
    return space.stages, *space.shape(arch)


# -- The standard small network that a search is measured against: a ResNet-20, wider or narrower as the limits say -----


def count_resnet(arch: Arch, scale: Scale) -> Counts:
    """Returns the cost of a residual network of three or four stages; only input and classes of ``scale`` matter.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    stages, blocks, width = form_of(arch)
    part, size = stem(scale, width)
    parts, c_in = [part], width
    for stage in range(stages):
        c = width << stage
        size = halved(size) if stage else size
        if stages == 4 and stage:
            parts.append(conv_bn(1, c_in, c, size))
        parts += [conv_bn(3, c_in, c, size), times(conv_bn(3, c, c, size), 2 * blocks - 1)]
        c_in = c
    return total(*parts, tail(c_in, scale.n_classes))


def ladder(scale: Scale) -> list[tuple[Arch, Counts]]:
    """Returns the standard networks from the smallest to the largest, with their costs.

    ResNet-20 of every width from 8 to 128 channels; below, ResNet-14 and ResNet-8 of 8, 6 and 4 channels.
    """
    rungs = [(1, 4), (1, 6), (1, 8), (2, 8)] + [(3, width) for width in WIDTHS if width >= 8]
    archs = [Arch(ResNet.name, (BLOCKS.index(blocks), WIDTHS.index(width))) for blocks, width in rungs]
    return [(arch, count_resnet(arch, scale)) for arch in archs]


def standard_network(
    scale: Scale, max_params: float | None = None, max_macs: float | None = None
) -> tuple[Arch, Scale]:
    """Returns the largest standard network within the limits, ResNet-20 with 16-32-64 channels where there are none.

    Args:
        scale: input and classes; width and depth are not used, the architecture has its own.
        max_params: parameters at most.
        max_macs: multiply-adds at most.

    Raises:
        InfeasibleError: if the smallest one (8 layers, 4 channels) is too large.
    """
    if max_params is None and max_macs is None:
        return ResNet().read("resnet20-16"), scale
    rungs = ladder(scale)
    within = [
        arch
        for arch, counts in rungs
        if (max_params is None or counts.params <= max_params)
        and (max_macs is None or counts.macs <= max_macs)
    ]
    if not within:
        smallest = rungs[0][1]
        raise InfeasibleError(
            f"the smallest standard network needs {smallest.params:,} parameters and {smallest.macs:,} multiply-adds; "
            f"the limits are {max_params} and {max_macs}"
        )
    return within[-1], scale
