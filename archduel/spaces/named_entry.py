"""What a named architecture is, and the shorthand in which published cells are written.

Cells in short: ``sep3<0`` is sep_conv_3x3 applied to state 0, nodes are separated by ``|``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from archduel.core import Scale
from archduel.spaces.genotype_text import write_genotype
from archduel.spaces.genotypes import Genotype, Node

__all__ = ["CIFAR", "IMAGENET", "Named", "nodes", "shorthand"]

CIFAR = ("CIFAR-10, C36 L20", Scale(36, 20, 32, 3, 10))
IMAGENET = ("ImageNet, C48 L14", Scale(48, 14, 224, 3, 1000))
SHORT = {
    "none": "none",
    "max3": "max_pool_3x3",
    "avg3": "avg_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "sep7": "sep_conv_7x7",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "conv7": "conv_7x1_1x7",
}


@dataclass(frozen=True)
class Named:
    """A published architecture.

    Attributes:
        name: how it is called here.
        space: the space it belongs to; empty for cells of another shape, which can be built and counted but not searched.
        text: the architecture in the space's own text (a genotype where ``space`` is empty).
        source: where it was published.
        reported: what was reported there -> value, as printed (accuracies in %, params in millions).
        scales: settings in which it was used -> scale.
        options: of the network (``pool_norm`` for BPE's).
        note: what a reader should know.
    """

    name: str
    space: str
    text: str
    source: str
    reported: Mapping[str, str]
    scales: tuple[tuple[str, Scale], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def nodes(cell: str) -> tuple[Node, ...]:
    """Returns the nodes of a cell in short, such as ``sep3<0 skip<1 | dil5<2 max3<0``."""
    edges = [[edge.split("<") for edge in node.split()] for node in cell.split("|")]
    return tuple(tuple((SHORT[op], int(source)) for op, source in node) for node in edges)


def shorthand(normal: str, reduce: str) -> str:
    """Returns the genotype text of two cells in short."""
    return write_genotype(Genotype(nodes(normal), nodes(reduce)))
