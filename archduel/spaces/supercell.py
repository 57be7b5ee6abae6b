"""BPE's super-cells (Zheng et al., CVPR 2020): all 14 edges of both DARTS cells kept, one operation each.

28 genes: the operations of the normal cell's edges, then the reduction cell's, node 2 from states 0, 1, node 3 from 0, 1, 2,
and so on. A node sums all its 2 to 5 edges. Found super-cells are pruned to two edges a node afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Decision, GraphBatch, check_decisions
from archduel.errors import InvalidArchError, SettingError
from archduel.spaces import cell_numbers as numbers
from archduel.spaces.cell_numbers import EDGES
from archduel.spaces.genotypes import OPS, Genotype, Node, canonical

__all__ = ["EDGES", "SuperCell"]

NAME = "darts_supercell"


class SuperCell:
    """7^28 super-cells (BPE), or 8^28 where ``none`` leaves an edge out.

    Args:
        none: whether the operation ``none`` is allowed (in BPE's tables of supernet paths it is).
    """

    name = NAME
    kinds: Mapping[str, int] = {"op": len(OPS)}

    def __init__(self, *, none: bool = False) -> None:
        if not isinstance(none, bool):
            raise SettingError(f"none must be true or false, got {none!r}")
        self.none = none

    @property
    def size(self) -> int:
        """The number of architectures."""
        return (len(OPS) - (not self.none)) ** (2 * len(EDGES))

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the operation of the next edge, or None after 28."""
        if len(prefix) >= 2 * len(EDGES):
            return None
        cell, edge = divmod(len(prefix), len(EDGES))
        source, node = EDGES[edge]
        options = tuple(range(0 if self.none else 1, len(OPS)))
        return Decision(f"{('normal', 'reduce')[cell]}/edge {source}->{node}", "op", options)

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` has 28 allowed operations."""
        check_decisions(self, arch)

    def graphs(self, archs: Sequence[Arch]) -> GraphBatch:
        """Returns graphs of two cells and 16 vertices: two inputs and the operations of all edges, ``none`` included."""
        ops = self._ops(archs)
        sources, targets = np.array(EDGES).T
        return numbers.graphs(np.broadcast_to(sources, ops.shape), targets, ops)

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 392) structural features; see :func:`archduel.spaces.cell_numbers.features`."""
        return numbers.features((self._ops(archs)[..., None] == np.arange(len(OPS))).astype(np.int64))

    def fingerprint(self, arch: Arch) -> str:
        """Returns the normal form of the cells, as for ``darts``: :func:`archduel.spaces.genotypes.canonical`."""
        genotype = self.genotype(arch)
        return f"{canonical(genotype.normal)} | {canonical(genotype.reduce)}"

    def _ops(self, archs: Sequence[Arch]) -> NDArray[np.int64]:
        """Returns the (B, 2, 14) operations of valid architectures."""
        for arch in archs:
            self.validate(arch)
        return np.array([arch.choices for arch in archs], np.int64).reshape(-1, 2, len(EDGES))

    def genotype(self, arch: Arch) -> Genotype:
        """Returns the cells with all edges but ``none``; a node of nothing but ``none`` keeps one such edge."""
        self.validate(arch)
        half = len(EDGES)
        return Genotype(_nodes(arch.choices[:half]), _nodes(arch.choices[half:]))

    def arch(self, genotype: Genotype) -> Arch:
        """Returns the super-cell whose missing edges are ``none``.

        Raises:
            InvalidArchError: for other than four nodes, doubled sources, or missing edges where ``none`` is not allowed.
        """
        choices: list[int] = []
        for kind, nodes, _ in genotype.cells():
            if len(nodes) != 4:
                raise InvalidArchError(f"the {kind} cell has {len(nodes)} nodes, a super-cell has 4")
            for state, node in enumerate(nodes, 2):
                by_source = {source: op for op, source in node}
                if len(by_source) < len(node):
                    raise InvalidArchError(
                        f"node {state} of the {kind} cell reads a state twice: {list(node)}"
                    )
                if older := [op for op in by_source.values() if op not in OPS]:
                    raise InvalidArchError(
                        f"{older[0]!r} in the {kind} cell is not an operation of super-cells"
                    )
                choices += [OPS.index(by_source.get(source, "none")) for source in range(state)]
        arch = Arch(NAME, tuple(choices))
        self.validate(arch)
        return arch


def _nodes(choices: Sequence[int]) -> tuple[Node, ...]:
    """Returns the nodes of one cell from its 14 choices."""
    nodes = []
    for state in range(2, 6):
        edges = tuple((OPS[op], source) for op, (source, node) in zip(choices, EDGES) if node == state)
        nodes.append(tuple(edge for edge in edges if edge[0] != "none") or edges[-1:])
    return tuple(nodes)
