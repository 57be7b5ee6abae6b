"""Genotypes: the value that DARTS-type networks are built from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archduel.errors import InvalidArchError

__all__ = ["OLDER_OPS", "OPS", "Edge", "Genotype", "Node", "canonical"]

OPS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The operations in DARTS's order, the only order of integer codes in archduel; texts use names."""
OLDER_OPS = ("sep_conv_7x7", "conv_7x1_1x7")
"""Operations of NASNet and AmoebaNet cells: they can be built and counted but are not searched."""

Edge = tuple[str, int]
"""(operation, source)."""
Node = tuple[Edge, ...]
"""A node's incoming edges; a multiset, since a source and even an edge may occur twice."""


@dataclass(frozen=True, slots=True)
class Genotype:
    """A normal and a reduction cell with any number of nodes and of edges a node.

    States 0 and 1 are the outputs of the cell two before and of the previous cell, 2.. the nodes; a node sums its edges and
    is zero without any; the cell's output concatenates the states in ``*_concat``.

    Raises:
        InvalidArchError: for unknown operations, sources that are not earlier states, empty cells, and concatenations of
            states that do not exist.
    """

    normal: tuple[Node, ...]
    reduce: tuple[Node, ...]
    normal_concat: tuple[int, ...] = (2, 3, 4, 5)
    reduce_concat: tuple[int, ...] = (2, 3, 4, 5)

    def __post_init__(self) -> None:
        for kind, nodes, concat in self.cells():
            if not nodes or not concat:
                raise InvalidArchError(f"the {kind} cell has no {'output' if nodes else 'nodes'}")
            for state, node in enumerate(nodes, 2):
                _check_node(kind, state, node)
            if outside := [state for state in concat if not 2 <= state < len(nodes) + 2]:
                raise InvalidArchError(
                    f"the {kind} cell concatenates {outside}, it has the nodes 2..{len(nodes) + 1}"
                )

    def cells(self) -> tuple[tuple[str, tuple[Node, ...], tuple[int, ...]], ...]:
        """Returns (kind, nodes, concat) of both cells."""
        return ("normal", self.normal, self.normal_concat), ("reduce", self.reduce, self.reduce_concat)


def _check_node(kind: str, state: int, node: Node) -> None:
    for op, source in node:
        if op not in OPS + OLDER_OPS:
            raise InvalidArchError(
                f"operation {op!r} into node {state} of the {kind} cell is unknown; "
                f"expected one of {', '.join(OPS + OLDER_OPS)}"
            )
        if not 0 <= source < state:
            raise InvalidArchError(
                f"node {state} of the {kind} cell reads from {source}, expected 0..{state - 1}"
            )


def canonical(nodes: tuple[Node, ...]) -> str:
    """Returns a text that is equal for cells that compute the same up to the order of their output channels.

    Reductions: ``none`` edges vanish; so do skips of a node that nothing leads to; the order of a node's edges does not
    matter, nor the numbering of nodes. Equal edges into one node stay two, since each has its own weights.
    """
    kept: list[list[Edge]] = []
    for node in nodes:
        zero = [("skip_connect", state) for state, earlier in enumerate(kept, 2) if not earlier]
        kept.append([edge for edge in node if edge[0] != "none" and edge not in zero])
    return min(_renumbered(kept, order) for order in _orders(kept, ()))


def _orders(nodes: list[list[Edge]], done: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yields the orders of nodes (0-based) in which every node comes after what it reads."""
    if len(done) == len(nodes):
        yield done
    for i, node in enumerate(nodes):
        if i not in done and all(source < 2 or source - 2 in done for _, source in node):
            yield from _orders(nodes, (*done, i))


def _renumbered(nodes: list[list[Edge]], order: tuple[int, ...]) -> str:
    state = {0: 0, 1: 1, **{old + 2: new for new, old in enumerate(order, 2)}}
    return " ".join("+".join(sorted(f"{op}({state[s]})" for op, s in nodes[i])) or "0" for i in order)
