"""BPE's super-cells (Zheng et al., CVPR 2020): all 14 edges of both DARTS cells kept, one operation each.

28 genes: the operations of the normal cell's edges, then the reduction cell's, node 2 from states 0, 1, node 3 from 0, 1, 2,
and so on. A node sums all its 2 to 5 edges. Found super-cells are pruned to two edges a node afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Decision, GraphBatch, check_decisions
from archduel.errors import InvalidArchError, SettingError
from archduel.spaces.darts import features as numbers
from archduel.spaces.darts.features import EDGES
from archduel.spaces.darts.genotype import OPS, Genotype, Node, canonical
from archduel.spaces.darts.genotype_text import read_genotype, write_genotype
from archduel.spaces.darts.space import DARTS

__all__ = ["BPE_ORDER", "EDGES", "SuperCell", "masked", "pruned", "random_darts"]

NAME = "darts_supercell"
BPE_ORDER = (*OPS[1:], "none")
"""What the integer codes of BPE's files mean."""


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

    def words(self, kind: str) -> tuple[str, ...]:
        """Returns the names of the operations."""
        return OPS[: self.kinds[kind]]

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the operation of the next edge, or None after 28."""
        return _question(len(prefix), self.none) if len(prefix) < 2 * len(EDGES) else None

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` has 28 allowed operations."""
        good = arch.space == NAME and len(arch.choices) == 2 * len(EDGES)
        if not good or not len(OPS) > max(arch.choices) >= min(arch.choices) >= 1 - self.none:
            check_decisions(self, arch)  # which explains

    def read(self, text: str) -> Arch:
        """Returns the super-cell of a genotype (form ``bpe``) or of 28 integers in ``BPE_ORDER``.

        Raises:
            InvalidArchError: with the offending part.
        """
        codes = text.split()
        if not codes or not all(code.isascii() and code.isdigit() for code in codes):
            return self.arch(read_genotype(text))
        if outside := [code for code in codes if int(code) >= len(BPE_ORDER)]:
            raise InvalidArchError(
                f"code {outside[0]!r} in {text!r} is not one of BPE's 0..{len(BPE_ORDER) - 1}"
            )
        arch = Arch(NAME, tuple(OPS.index(BPE_ORDER[int(code)]) for code in codes))
        self.validate(arch)
        return arch

    def write(self, arch: Arch) -> str:
        """Returns the genotype of ``arch``, one list of edges a node."""
        return write_genotype(self.genotype(arch), "bpe")

    def graphs(self, archs: Sequence[Arch]) -> GraphBatch:
        """Returns graphs of two cells and 16 vertices: two inputs and the operations of all edges, ``none`` included."""
        ops = self._ops(archs)
        sources, targets = np.array(EDGES).T
        return numbers.graphs(np.broadcast_to(sources, ops.shape), targets, ops)

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 392) structural features; see :func:`archduel.spaces.darts.features.features`."""
        return numbers.features((self._ops(archs)[..., None] == np.arange(len(OPS))).astype(np.int64))

    def fingerprint(self, arch: Arch) -> str:
        """Returns the normal form of the cells, as for ``darts``: :func:`archduel.spaces.darts.genotype.canonical`."""
        genotype = self.genotype(arch)
        return f"{canonical(genotype.normal)} | {canonical(genotype.reduce)}"

    def _ops(self, archs: Sequence[Arch]) -> NDArray[np.int64]:
        """Returns the (B, 2, 14) operations of valid architectures."""
        for arch in archs:
            self.validate(arch)
        return np.array([arch.choices for arch in archs], np.int64).reshape(-1, 2, len(EDGES))

    def genotype(self, arch: Arch) -> Genotype:
        """Returns the cells with all edges but ``none``."""
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


@lru_cache(128)
def _question(at: int, none: bool) -> Decision:
    """Returns decision number ``at``."""
    cell, edge = divmod(at, len(EDGES))
    source, node = EDGES[edge]
    options = tuple(range(0 if none else 1, len(OPS)))
    return Decision(f"{('normal', 'reduce')[cell]}/edge {source}->{node}", "op", options)


def _nodes(choices: Sequence[int]) -> tuple[Node, ...]:
    """Returns the nodes of one cell from its 14 choices."""
    edges = list(zip(choices, EDGES))
    return tuple(
        tuple((OPS[op], source) for op, (source, node) in edges if node == state and OPS[op] != "none")
        for state in range(2, 6)
    )


def _darts(arch: Arch, kept: Sequence[int]) -> Arch:
    """Returns the DARTS architecture of the ``kept`` genes, two a node in ascending order."""
    choices = [value for gene in kept for value in (EDGES[gene % len(EDGES)][0], arch.choices[gene])]
    return Arch(DARTS.name, tuple(choices))


def _genes_by_node() -> list[list[int]]:
    """Returns the genes of each node, normal cell first."""
    return [
        [cell * len(EDGES) + edge for edge, (_, target) in enumerate(EDGES) if target == node]
        for cell in (0, 1)
        for node in range(2, 6)
    ]


def pruned(arch: Arch, weights: NDArray[np.float64]) -> Arch:
    """Returns the ``darts`` architecture that keeps, for each node, the two edges of largest weight (BPE's rule after RL).

    Args:
        arch: a super-cell.
        weights: (28,), one a gene: in BPE the largest probability that the policy gives to any operation of that edge. Of
            equal weights the edge from the smaller state is kept.

    Raises:
        InvalidArchError: if ``arch`` is not a super-cell, or there are not 28 weights.
    """
    SuperCell(none=True).validate(arch)
    if weights.shape != (2 * len(EDGES),):
        raise InvalidArchError(f"weights have the shape {weights.shape}, expected ({2 * len(EDGES)},)")
    kept = []
    for genes in _genes_by_node():
        kept += sorted(sorted(genes, key=lambda gene: (-weights[gene], gene))[:2])
    return _darts(arch, kept)


def masked(arch: Arch, rng: np.random.Generator) -> Arch:
    """Returns the ``darts`` architecture that keeps two random edges a node (BPE's evolution tries ten such masks).

    Raises:
        InvalidArchError: if ``arch`` is not a super-cell.
    """
    SuperCell(none=True).validate(arch)
    kept = []
    for genes in _genes_by_node():
        kept += sorted(int(gene) for gene in rng.choice(genes, 2, replace=False))
    return _darts(arch, kept)


def random_darts(rng: np.random.Generator) -> Arch:
    """Returns a random ``darts`` architecture as BPE's generator draws it.

    For each cell a (14, 8) Gaussian matrix; for each edge its largest of the 7 operations but ``none``; for each node the two
    edges with the largest such values, the larger first. That is uniform over ordered pairs of edges from different states.
    """
    choices: list[int] = []
    for _ in ("normal", "reduce"):
        values = rng.standard_normal((len(EDGES), len(OPS)))[:, 1:]  # (14, 7)
        for node in range(2, 6):
            edges = [edge for edge, (_, target) in enumerate(EDGES) if target == node]
            for edge in sorted(edges, key=lambda edge: -values[edge].max())[:2]:
                choices += [EDGES[edge][0], int(values[edge].argmax()) + 1]
    return Arch(DARTS.name, tuple(choices))
