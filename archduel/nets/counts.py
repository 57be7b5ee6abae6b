"""Parameters and multiply-adds in closed form, without torch: NAS-Bench-201, its size space and small residual networks.

One rule everywhere: a multiply-add is counted for convolutions and linear layers; biases, norms, activations and pools are
free. Batch norms have two parameters a channel.
"""

from __future__ import annotations

from archduel.core import Arch, Counts, Scale
from archduel.nets.maps import halved, stem_strides
from archduel.spaces.nasbench201 import EDGES, OPS, NASBench201
from archduel.spaces.natsbench_sss import CELL, NATSBenchSSS
from archduel.spaces.resnet import form_of

__all__ = [
    "conv_bn",
    "count_nasbench201",
    "count_natsbench_sss",
    "count_resnet",
    "sss_widths",
    "stem",
    "tail",
    "times",
    "total",
]


def conv_bn(kernel: int, c_in: int, c_out: int, size: int) -> Counts:
    """Returns the cost of a convolution without bias, output map ``size`` x ``size``, and its batch norm."""
    weights = kernel * kernel * c_in * c_out
    return Counts(weights + 2 * c_out, weights * size * size)


def tail(channels: int, n_classes: int) -> Counts:
    """Returns the cost of the classifier."""
    return Counts((channels + 1) * n_classes, channels * n_classes)


def total(*parts: Counts) -> Counts:
    """Returns the sum."""
    return Counts(sum(part.params for part in parts), sum(part.macs for part in parts))


def times(part: Counts, n: int) -> Counts:
    """Returns ``n`` of it."""
    return Counts(part.params * n, part.macs * n)


def stem(scale: Scale, channels: int) -> tuple[Counts, int]:
    """Returns the cost of the stem and the side of the map it leaves."""
    parts, size, c_in = [], scale.image_size, scale.in_channels
    for stride in stem_strides(scale):
        size = halved(size) if stride == 2 else size
        parts.append(conv_bn(3, c_in, channels, size))
        c_in = channels
    return total(*parts), size


def _reduction(c_in: int, c_out: int, size: int) -> Counts:
    """Returns the cost of the residual block of stride 2 with output side ``size``; its shortcut has no norm."""
    shortcut = Counts(c_in * c_out, c_in * c_out * size * size)
    return total(conv_bn(3, c_in, c_out, size), conv_bn(3, c_out, c_out, size), shortcut)


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
