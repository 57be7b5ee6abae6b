"""The standard small network that a search is measured against: a ResNet-20, wider or narrower as the limits say."""

from __future__ import annotations

from archduel.core import Arch, Counts, Scale
from archduel.errors import InfeasibleError
from archduel.spaces.counting import conv_bn, halved, stem, tail, times, total
from archduel.spaces.resnet.space import BLOCKS, WIDTHS, ResNet, form_of

__all__ = ["count_resnet", "ladder", "standard_network"]


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
