"""The network of NATS-Bench's size space: stem, cell, reduction, cell, reduction, cell, each with a width of its own."""

from __future__ import annotations

from torch import nn

from archduel.core import Arch, Scale
from archduel.spaces.counting import halved, stem_strides
from archduel.spaces.layers import AuxiliaryHead, Tail
from archduel.spaces.nasbench201.network import Cell, Network, Reduction, stem
from archduel.spaces.natsbench_sss.space import CELL, sss_widths

__all__ = ["build"]


def build(arch: Arch, scale: Scale, *, auxiliary: bool = False) -> Network:
    """Returns the network of five widths.

    ``scale.channels`` stretches all widths, 16 leaving them as published; ``scale.depth`` is ignored (one cell a stage). The
    auxiliary head, which the benchmark does not have, sits on the output of the second reduction.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    widths = sss_widths(arch, scale)
    blocks: list[nn.Module] = []
    for block, (c_in, c_out) in enumerate(zip([widths[0], *widths], widths)):
        blocks.append(Reduction(c_in, c_out) if block % 2 else Cell(CELL, c_in, c_out))
    network = Network(stem(scale, widths[0]), blocks, Tail(widths[-1], scale.n_classes, norm=True))
    if auxiliary:
        size = halved(scale.image_size, stem_strides(scale).count(2) + 2)
        network.attach(AuxiliaryHead(widths[3], size, scale.n_classes), 3)
    return network
