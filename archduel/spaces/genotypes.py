"""Genotypes: the value that DARTS-type networks are built from."""

from __future__ import annotations

from dataclasses import dataclass

from archduel.errors import InvalidArchError

__all__ = ["OPS", "Edge", "Genotype", "Node"]

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

    States 0 and 1 are the outputs of the cell two before and of the previous cell, 2.. the nodes; a node sums its edges;
    the cell's output concatenates the states in ``*_concat``.

    Raises:
        InvalidArchError: for unknown operations, sources that are not earlier states, empty nodes or cells, and
            concatenations of states that do not exist.
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
    if not node:
        raise InvalidArchError(f"node {state} of the {kind} cell has no edges")
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
