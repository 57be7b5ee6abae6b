"""The DARTS cell space (Liu et al., ICLR 2019) as CTNAS, CNAS, BPE and RelativeNAS use it.

A normal and a reduction cell; each has two inputs (states 0, 1) and four nodes (2..5), and each node sums two edges. An
architecture has 32 choices: for the normal cell, then the reduction cell, for each node source, operation, source,
operation. Operations are always indices into ``OPS`` (DARTS's order); what differs between the papers is which are allowed
and whether both edges of a node may come from one source:

=============  =============================  ================
preset         operations                     doubled sources
=============  =============================  ================
darts, bpe     all but none                   no
relativenas    all but none                   yes
cnas, ctnas    all eight                      yes
=============  =============================  ================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import eq, lt

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Decision, GraphBatch, check_decisions
from archduel.errors import InvalidArchError, SettingError, unknown
from archduel.spaces.darts import features as numbers
from archduel.spaces.darts.features import summary, summary_names
from archduel.spaces.darts.genotype import OPS, Genotype, Node, canonical
from archduel.spaces.darts.genotype_text import read_genotype, write_genotype
from archduel.spaces.renas_tensors import darts_tensors

__all__ = ["DARTS", "NODES", "PRESETS"]

NAME = "darts"
NODES = 4
STATES = tuple(node for _ in range(2) for node in range(2, NODES + 2) for _ in range(2))
"""For each of the 16 sources the node that reads it."""
SEARCHED = OPS[1:]
PRESETS: Mapping[str, tuple[tuple[str, ...], bool]] = {
    "darts": (SEARCHED, False),
    "bpe": (SEARCHED, False),
    "relativenas": (SEARCHED, True),
    "cnas": (OPS, True),
    "ctnas": (OPS, True),
    "any": (OPS, True),
}
"""Preset -> (operations, doubled sources)."""


class DARTS:
    """Pairs of cells; sampling is uniform over encodings.

    Where sources differ, every architecture has the same number of encodings up to the order of edges, so uniform over
    encodings is uniform over unordered edges; with doubled sources, two equal edges have one encoding where others have two.

    Args:
        preset: whose rules (see the module); the other settings override it.
        ops: names of the allowed operations.
        doubled: whether both edges of a node may come from one source.
    """

    name = NAME
    kinds: Mapping[str, int] = {"source": NODES + 1, "op": len(OPS)}

    def __init__(
        self, preset: str = "darts", *, ops: Sequence[str] | None = None, doubled: bool | None = None
    ) -> None:
        if preset not in PRESETS:
            raise unknown("preset", preset, PRESETS)
        self.preset = preset
        self.ops = PRESETS[preset][0] if ops is None else tuple(ops)
        self.doubled = PRESETS[preset][1] if doubled is None else doubled
        if not self.ops or len(set(self.ops)) < len(self.ops) or not set(self.ops) <= set(OPS):
            raise SettingError(
                f"ops must be distinct names out of {', '.join(OPS)}; got {', '.join(self.ops) or 'none'}"
            )
        self._allowed = tuple(sorted(OPS.index(op) for op in self.ops))
        self._known = frozenset(self._allowed)

    @property
    def size(self) -> int:
        """The number of encodings."""
        per_cell = 1
        for inputs in range(2, NODES + 2):
            per_cell *= inputs * (inputs if self.doubled else inputs - 1) * len(self.ops) ** 2
        return per_cell**2

    def words(self, kind: str) -> tuple[str, ...]:
        """Returns the names of the operations; sources are numbers."""
        return OPS if kind == "op" else tuple(map(str, range(self.kinds[kind])))

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the question about the next source or operation, or None after 32."""
        at = len(prefix)
        if at >= 8 * NODES:
            return None
        taken = prefix[-2] if at % 4 == 2 and not self.doubled else None
        return _question(at, self._allowed, taken)

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` follows the rules of this variant."""
        if arch.space != NAME or not self._fits(arch.choices):
            check_decisions(self, arch)  # which explains

    def _fits(self, choices: tuple[int, ...]) -> bool:
        """Returns whether all answers are options; asking every decision takes ten times as long."""
        sources = choices[::2]
        return (
            len(choices) == 8 * NODES
            and self._known.issuperset(choices[1::2])
            and min(sources) >= 0
            and all(map(lt, sources, STATES))
            and (self.doubled or not any(map(eq, sources[::2], sources[1::2])))
        )

    def read(self, text: str) -> Arch:
        """Returns the architecture of a genotype in any of the forms of :mod:`archduel.spaces.darts.genotype_text`.

        Raises:
            InvalidArchError: with the offending part.
        """
        return self.arch(read_genotype(text))

    def write(self, arch: Arch, form: str = "darts") -> str:
        """Returns the genotype text of ``arch`` in DARTS's form or another (``bpe``, ``cnas``, ``cnas_json``, ``nasbench301``)."""
        return write_genotype(self.genotype(arch), form)

    def graphs(self, archs: Sequence[Arch]) -> GraphBatch:
        """Returns graphs of two cells and 10 vertices: two inputs and the two operations of each node (CTNAS's form)."""
        sources, ops = self._arrays(archs)
        return numbers.graphs(sources, np.repeat(np.arange(2, NODES + 2), 2), ops)

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 46) numbers about the cells, equal for equal fingerprints; ``feature_names`` names them."""
        return summary(self._counts(archs))

    def feature_names(self) -> tuple[str, ...]:
        """Returns the names of the columns of ``features``."""
        return summary_names()

    def graph_features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 392) structural features; see :func:`archduel.spaces.darts.features.features`."""
        return numbers.features(self._counts(archs))

    def _counts(self, archs: Sequence[Arch]) -> NDArray[np.int64]:
        """Returns (B, 2, 14, 8): how often each operation stands on each edge of each cell."""
        sources, ops = self._arrays(archs)
        first = np.array([0, 0, 2, 2, 5, 5, 9, 9])  # the number of the node's edge from state 0
        b, c = np.arange(len(archs))[:, None, None], np.arange(2)[:, None]
        counts = np.zeros((len(archs), 2, len(numbers.EDGES), len(OPS)), np.int64)
        np.add.at(counts, (b, c, first + sources, ops), 1)
        return counts

    def tensors(self, archs: Sequence[Arch], *, costs: bool = True) -> NDArray[np.float32]:
        """Returns (B, 12, 10, 10) in the manner of ReNAS, or (B, 2, 10, 10) without costs; see ``renas_cells``."""
        sources, ops = self._arrays(archs)
        return darts_tensors(self.graphs(archs), sources, ops, costs=costs)

    def fingerprint(self, arch: Arch) -> str:
        """Returns a normal form: order of edges and numbering of nodes do not matter, ``none`` edges vanish.

        All reductions stand in :func:`archduel.spaces.darts.genotype.canonical`.
        """
        genotype = self.genotype(arch)
        return f"{canonical(genotype.normal)} | {canonical(genotype.reduce)}"

    def ignores_input(self, arch: Arch) -> bool:
        """Returns whether ``none`` cuts the normal cell, with which networks of four or more cells end, off from both of its inputs."""
        reached = {0, 1}
        for state, node in enumerate(self.genotype(arch).normal, 2):
            if any(op != "none" and source in reached for op, source in node):
                reached.add(state)
        return reached == {0, 1}

    def _arrays(self, archs: Sequence[Arch]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns sources and operations, both (B, 2, 8), of valid architectures."""
        for arch in archs:
            self.validate(arch)
        choices = np.array([arch.choices for arch in archs], np.int64).reshape(-1, 2, 2 * NODES, 2)
        return choices[..., 0], choices[..., 1]

    def genotype(self, arch: Arch) -> Genotype:
        """Returns the cells of ``arch``."""
        self.validate(arch)
        return _genotype(arch.choices)

    def arch(self, genotype: Genotype) -> Arch:
        """Returns the architecture of ``genotype``.

        Raises:
            InvalidArchError: if its cells do not have four nodes of two edges, all concatenated, within the variant's rules.
        """
        choices: list[int] = []
        for kind, nodes, concat in genotype.cells():
            if len(nodes) != NODES or concat != tuple(range(2, NODES + 2)):
                raise InvalidArchError(
                    f"the {kind} cell has {len(nodes)} nodes and concatenates {list(concat)}; "
                    f"the space {NAME} has 4 nodes and concatenates [2, 3, 4, 5]"
                )
            for state, node in enumerate(nodes, 2):
                if len(node) != 2:
                    raise InvalidArchError(
                        f"node {state} of the {kind} cell has {len(node)} edges, expected 2: {list(node)}"
                    )
                if older := [op for op, _ in node if op not in OPS]:
                    raise InvalidArchError(
                        f"{older[0]!r} in the {kind} cell is not an operation of the space {NAME}"
                    )
                choices += chain.from_iterable((source, OPS.index(op)) for op, source in node)
        arch = Arch(NAME, tuple(choices))
        self.validate(arch)
        return arch


@lru_cache(1024)
def _question(at: int, allowed: tuple[int, ...], taken: int | None) -> Decision:
    """Returns decision number ``at``; ``taken`` is a source that may not be named again."""
    cell, rest = divmod(at, 4 * NODES)
    node, slot = divmod(rest, 4)
    where = f"{('normal', 'reduce')[cell]}/node{node + 2}"
    if slot % 2:
        return Decision(f"{where}/op{slot // 2}", "op", allowed)
    return Decision(f"{where}/source{slot // 2}", "source", tuple(s for s in range(node + 2) if s != taken))


@lru_cache(4096)
def _genotype(choices: tuple[int, ...]) -> Genotype:
    half = 4 * NODES
    return Genotype(_nodes(choices[:half]), _nodes(choices[half:]))


def _nodes(choices: Sequence[int]) -> tuple[Node, ...]:
    """Returns the nodes of one cell from its 16 choices."""
    return tuple(
        ((OPS[choices[i + 1]], choices[i]), (OPS[choices[i + 3]], choices[i + 2]))
        for i in range(0, len(choices), 4)
    )
