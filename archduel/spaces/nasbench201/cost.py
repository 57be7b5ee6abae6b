"""Parameters and multiply-adds of NAS-Bench-201 networks, in closed form."""

from __future__ import annotations

from archduel.core import Arch, Counts, Scale
from archduel.spaces.counting import _reduction, conv_bn, halved, stem, tail, times, total
from archduel.spaces.nasbench201.function import OPS
from archduel.spaces.nasbench201.space import NASBench201

__all__ = ["count_nasbench201"]


def count_nasbench201(arch: Arch, scale: Scale) -> Counts:
    """Returns the cost of a NAS-Bench-201 network; at the benchmark's scale equal to its tables.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    NASBench201().validate(arch)
    n1 = arch.choices.count(OPS.index("nor_conv_1x1"))
    n3 = arch.choices.count(OPS.index("nor_conv_3x3"))
    first, size = stem(scale, scale.channels)
    parts = [first]
    for stage in range(3):
        c = scale.channels << stage
        if stage:
            size = halved(size)
            parts.append(_reduction(c // 2, c, size))
        parts.append(times(conv_bn(1, c, c, size), n1 * scale.depth))
        parts.append(times(conv_bn(3, c, c, size), n3 * scale.depth))
    norm = Counts(2 * c, 0)
    return total(*parts, norm, tail(c, scale.n_classes))
