"""The graph of a network: its layers, what each reads, and the shapes of maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Graph", "Node", "Shape"]

Shape = tuple[int, int, int]
"""Channels, height, width of a map."""


@dataclass(frozen=True)
class Node:
    """One layer.

    Attributes:
        op: ``input``, ``zero``, ``conv``, ``norm``, ``relu``, ``sum``, ``cat``, ``narrow``, ``crop``, ``pad``, ``avg_pool``,
            ``max_pool``, ``adaptive`` or ``drop``.
        inputs: numbers of the nodes that it reads.
        attrs: settings; nodes of one op, attrs and input shapes compute the same function of input and weights.
        module: the qualified name of the module whose weights it has; empty without weights.
        shape: of the output.
        stage: number of the part of the network (stem, block, tail) that it stands in.
        unit: qualified name of the operation that it is a layer of; empty for sums and other functions.
    """

    op: str
    inputs: tuple[int, ...]
    attrs: tuple[Any, ...]
    module: str
    shape: Shape
    stage: int
    unit: str = ""


@dataclass(frozen=True)
class Graph:
    """A traced network.

    Attributes:
        nodes: in an order in which each follows what it reads; node 0 is the image.
        outputs: numbers of the nodes with the logits, and with those of the auxiliary head if there is one.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
