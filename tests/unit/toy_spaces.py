"""Two small spaces for the tests of rankers: one with graphs (NB201-like cells), one with features only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Decision, GraphBatch, check_decisions

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


class VectorSpace:
    """Eight answers of three."""

    name = "toy_vector"
    kinds = {"op": 3}
    n = 8

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        return Decision(f"op{len(prefix)}", "op", (0, 1, 2)) if len(prefix) < self.n else None

    def validate(self, arch: Arch) -> None:
        check_decisions(self, arch)

    def draw(self, rng: np.random.Generator) -> Arch:
        return Arch(self.name, tuple(rng.integers(3, size=self.n).tolist()))

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        return np.eye(3, dtype=np.float32)[[a.choices for a in archs]].reshape(len(archs), -1)

    def fingerprint(self, arch: Arch) -> str:
        return str(arch)


class CellSpace(VectorSpace):
    """Cells of four nodes with an operation of three on each of the six edges; operation 0 is no edge."""

    name = "toy_cells"

    def __init__(self, cells: int = 1) -> None:
        self.cells = cells
        self.n = 6 * cells

    def graphs(self, archs: Sequence[Arch]) -> GraphBatch:
        ops = np.zeros((len(archs), self.cells, 8), np.int64)
        ops[:, :, 0], ops[:, :, 7] = 1, 2
        ops[:, :, 1:7] = np.array([a.choices for a in archs]).reshape(len(archs), self.cells, 6) + 3
        adj = np.zeros((8, 8), np.float32)
        for i, (source, target) in enumerate(EDGES, 1):
            adj[0, i] = source == 0
            adj[i, 7] = target == 3
            adj[i, 1:7] = [start == target for start, _ in EDGES]
        shape = (len(archs), self.cells, 8, 8)
        return GraphBatch(ops, np.broadcast_to(adj, shape).copy(), np.ones(shape[:3], bool), 6)
