"""Parameters and multiply-adds of networks of the size space of NATS-Bench, in closed form."""

from __future__ import annotations

from archduel.core import Arch, Counts, Scale
from archduel.spaces.counting import _reduction, conv_bn, halved, stem, tail, total
from archduel.spaces.nasbench201.function import EDGES, OPS
from archduel.spaces.natsbench_sss.space import CELL, NATSBenchSSS

__all__ = ["count_natsbench_sss", "sss_widths"]


def sss_widths(arch: Arch, scale: Scale) -> list[int]:
    """Returns the five widths of a size-space architecture; those of the benchmark at ``scale.channels`` 16.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    return [max(1, width * scale.channels // 16) for width in NATSBenchSSS().widths(arch)]


def _resized_cell(c_in: int, c_out: int, size: int) -> Counts:
    """Returns the cost of the size space's cell; its skip becomes a 1x1 convolution where the width changes."""
    parts = []
    for op, (source, _) in zip(CELL, EDGES):
        c = c_in if source == 0 else c_out
        if OPS[op] == "nor_conv_3x3":
            parts.append(conv_bn(3, c, c_out, size))
        elif c != c_out:
            parts.append(conv_bn(1, c, c_out, size))
    return total(*parts)


def count_natsbench_sss(arch: Arch, scale: Scale) -> Counts:
    """Returns the cost of a size-space network; ``scale.depth`` is ignored.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    widths = sss_widths(arch, scale)
    part, size = stem(scale, widths[0])
    parts, c_in = [part], widths[0]
    for block, width in enumerate(widths):
        size = halved(size) if block % 2 else size
        parts.append(_reduction(c_in, width, size) if block % 2 else _resized_cell(c_in, width, size))
        c_in = width
    return total(*parts, Counts(2 * c_in, 0), tail(c_in, scale.n_classes))
