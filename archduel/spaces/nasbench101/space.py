"""The NAS-Bench-101 space: every cell of at most 7 vertices and 9 edges with three operations; 423,624 graphs.

Source: Ying et al., "NAS-Bench-101: Towards Reproducible Neural Architecture Search", ICML 2019; node numbers of the
graphs as in Chen et al., "Contrastive Neural Architecture Search with Neural Architecture Comparators", CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Counts, Decision, GraphBatch, Scale, check_decisions
from archduel.errors import InvalidArchError, SettingError
from archduel.spaces.counting import conv_bn, halved, stem, tail, times, total
from archduel.spaces.nasbench101.arrays import N_ENCODINGS, Cells, canonical_cell, kept_matrices, pack
from archduel.spaces.nasbench101.cell import (
    INPUT,
    MAX_EDGES,
    MAX_VERTICES,
    OPS,
    OUTPUT,
    Cell,
    cell_hash,
    cell_of_choices,
    cell_of_matrix,
    choices_of_cell,
    matrix_of_cell,
    neighbours_of,
    read_cell,
    write_cell,
)
from archduel.spaces.nasbench101.features import (
    Laid,
    feature_names,
    features_of,
    lay_out,
    relation_tensors,
    vertex_widths,
)

__all__ = ["KERNELS", "NASBench101", "count", "count_cell", "count_cells", "vertex_channels"]

_NODE_KINDS = np.array(
    [3, 2, 4, 0], dtype=np.int64
)  # conv3x3, conv1x1, maxpool, none -> CTNAS's node numbers


class NASBench101:
    """Cells as a tree of decisions: how many vertices, then for each vertex its in-edges and its operation.

    Only answers that can still lead to a valid cell are offered, so every complete path is a valid, pruned cell:
    1,293,208 of them, 423,624 up to the order of the inner vertices. ``fingerprint`` is the benchmark's own hash, equal
    exactly for isomorphic cells. ``draw`` is uniform over the 423,624 graphs and returns their representatives.
    """

    name = "nasbench101"
    kinds: Mapping[str, int] = {"vertices": MAX_VERTICES - 1, "edge": 2, "op": len(OPS)}
    ops = OPS
    size = 423_624

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the next question: the number of vertices (- 2), an edge (no, yes) or an operation."""
        if not prefix:
            return Decision("vertices", "vertices", tuple(range(MAX_VERTICES - 1)))
        last, at, n_edges = prefix[0] + 1, 1, 0  # last: the output vertex
        loose = {0}  # vertices that no edge leaves yet
        for y in range(1, last + 1):
            into = prefix[at : at + y]
            loose -= {x for x, bit in enumerate(into) if bit}
            n_edges += sum(into)
            if len(into) < y:
                return _edge(y, into, last, loose, n_edges)
            at += y
            if y < last and len(prefix) <= at:
                return Decision(f"vertex{y}/op", "op", (0, 1, 2))
            at += 1
            loose.add(y)
        return None

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless every answer is an option."""
        if arch.space != self.name or not _is_valid(arch.choices):
            check_decisions(self, arch)

    def cell(self, arch: Arch) -> Cell:
        """Returns the cell of a valid architecture."""
        return cell_of_choices(arch.choices)

    def from_cell(self, cell: Cell) -> Arch:
        """Returns the architecture of a pruned cell."""
        return Arch(self.name, choices_of_cell(cell))

    def from_matrix(self, matrix: Sequence[Sequence[int]], ops: Sequence[str]) -> Arch:
        """Returns the architecture of an adjacency matrix and the names of all its vertices, pruned.

        Raises:
            InvalidArchError: showing what is malformed, cyclic, disconnected, too large or unknown.
        """
        return self.from_cell(cell_of_matrix(matrix, ops))

    def matrix(self, arch: Arch) -> tuple[list[list[int]], list[str]]:
        """Returns (adjacency matrix, names of all vertices), the inverse of ``from_matrix``."""
        cell = self.cell(arch)
        return matrix_of_cell(cell), [INPUT, *(OPS[label] for label in cell.ops), OUTPUT]

    def read(self, text: str) -> Arch:
        """Returns the architecture of ``0111|0011|0001|0000 input,OP,OP,output`` (pruned)."""
        return self.from_cell(read_cell(text))

    def write(self, arch: Arch) -> str:
        """Returns the adjacency rows and the operations as the text that ``read`` takes."""
        return write_cell(self.cell(arch))

    def fingerprint(self, arch: Arch) -> str:
        """Returns the benchmark's hash: equal for cells that differ in the order of their vertices only."""
        return cell_hash(self.cell(arch))

    def canonical(self, arch: Arch) -> Arch:
        """Returns the published representative of the graph (parameter counts depend on the vertex order)."""
        return self.from_cell(canonical_cell(self.cell(arch)))

    def draw(self, rng: np.random.Generator) -> Arch:
        """Returns the representative of a graph, uniform over all 423,624 graphs."""
        while True:
            cell = _encoding(int(rng.integers(N_ENCODINGS)))
            if canonical_cell(cell) == cell:  # one encoding of each graph is kept, a third of all
                return self.from_cell(cell)

    def graphs(self, archs: Sequence[Arch]) -> GraphBatch:
        """Returns one cell an architecture; nodes: 1 input, 2 conv1x1, 3 conv3x3, 4 maxpool, 5 output, then padding."""
        cells = pack(archs)
        rows, n = np.arange(len(cells)), cells.n_vertices.astype(np.int64)
        nodes = np.zeros((len(cells), MAX_VERTICES), dtype=np.int64)
        nodes[:, 0] = 1
        nodes[:, 1:-1] = _NODE_KINDS[cells.ops]
        nodes[rows, n - 1] = 5
        mask = np.arange(MAX_VERTICES) < n[:, None]
        adjacency = cells.adjacency().astype(np.float32)
        return GraphBatch(nodes[:, None], adjacency[:, None], mask[:, None], 6)

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, F) numbers about the graphs, equal for isomorphic cells; ``feature_names`` names them."""
        return features_of(pack(archs))

    def feature_names(self) -> tuple[str, ...]:
        """Returns the F names of the columns of ``features``."""
        return feature_names()

    def tensors(self, archs: Sequence[Arch], *, costs: bool = True) -> NDArray[np.float32]:
        """Returns ReNAS's (B, 19, 7, 7), or (B, 1, 7, 7) without costs; see ``renas_nasbench101``."""
        return relation_tensors(pack(archs), costs=costs)


@lru_cache(maxsize=8)
def _matrices(n: int) -> frozenset[int]:
    return frozenset(kept_matrices(n).tolist())


def _is_valid(choices: tuple[int, ...]) -> bool:
    """Returns whether the answers are a cell of the space: what asking each question says too, but faster."""
    if not choices or not 0 <= choices[0] < MAX_VERTICES - 1:
        return False
    n = choices[0] + 2
    if len(choices) != n * (n - 1) // 2 + n - 1:
        return False
    cell = cell_of_choices(choices)
    known = cell.edges in _matrices(n) and all(0 <= op < len(OPS) for op in cell.ops)
    return known and choices_of_cell(cell) == choices


def _edge(y: int, into: Sequence[int], last: int, loose: set[int], n_edges: int) -> Decision:
    """Returns the question whether vertex ``len(into)`` leads to y, with the answers that leave a way to finish."""
    x = len(into)
    options = []
    for bit in (0, 1):
        still = loose - {x} if bit else loose
        done = x + 1 == y
        # Each loose vertex and each later inner one needs an out-edge, which also gives the later ones an in-edge.
        fits = n_edges + bit + len(still) + (last - y) <= MAX_EDGES
        if fits and (not done or bit or any(into)) and (y < last or bit or x not in loose):
            options.append(bit)
    return Decision(f"vertex{y}/from{x}", "edge", tuple(options))


def _encoding(number: int) -> Cell:
    """Returns the valid encoding of that number in the order of the benchmark's enumeration."""
    for n in range(2, MAX_VERTICES + 1):
        matrices, codes = kept_matrices(n), 3 ** (n - 2)
        if number < len(matrices) * codes:
            row, code = divmod(number, codes)
            return Cell(n, int(matrices[row]), tuple(code // 3**v % 3 for v in range(n - 3, -1, -1)))
        number -= len(matrices) * codes
    raise InvalidArchError(f"nasbench101 has {N_ENCODINGS} encodings, number {number} is too large")


# -- Parameters and multiply-adds of NAS-Bench-101 networks in closed form, without torch -------------------------------
#
# At the benchmark's scale (128 channels, 3 cells a stack, 32 px) the parameters equal its ``trainable_parameters``. They
# depend on the vertex order where the output's channels do not divide evenly, so published cells are counted in the
# published order.
#
# Source: Ying et al., ICML 2019, and the benchmark's published model builder.


KERNELS = {"conv3x3-bn-relu": 3, "conv1x1-bn-relu": 1, "maxpool3x3": 0}
"""Side of the convolution kernel of each operation; 0 = no convolution."""


def vertex_channels(cell: Cell, c_in: int, c_out: int) -> list[int]:
    """Returns the channels of every vertex: the input has ``c_in``, the output ``c_out``.

    The output concatenates the vertices that lead to it, so they share its channels evenly, earlier ones taking the
    remainder; any other vertex is as wide as the widest vertex it leads to.

    Raises:
        SettingError: if fewer channels than branches are there to share.
    """
    before, after = neighbours_of(cell.n, cell.edges)
    last = cell.n - 1
    branches = [v for v in before[last] if v > 0]
    if len(branches) > c_out:
        raise SettingError(
            f"channels must be at least {len(branches)} for {len(branches)} branches, got {c_out}"
        )
    channels = [0] * cell.n
    channels[0], channels[last] = c_in, c_out
    for place, v in enumerate(branches):
        channels[v] = c_out // len(branches) + (place < c_out % len(branches))
    for v in range(last - 1, 0, -1):
        if last not in after[v]:
            channels[v] = max(channels[w] for w in after[v])
    return channels


def count_cell(cell: Cell, c_in: int, c_out: int, size: int) -> Counts:
    """Returns the cost of one cell on ``size`` x ``size`` maps."""
    before, _ = neighbours_of(cell.n, cell.edges)
    channels = vertex_channels(cell, c_in, c_out)
    parts = [conv_bn(1, c_in, c, size) for v, c in enumerate(channels) if 0 in before[v]]  # projections
    for c, op in zip(channels[1:-1], cell.ops):
        kernel = KERNELS[OPS[op]]
        if kernel:
            parts.append(conv_bn(kernel, c, c, size))
    return total(*parts)


def count(arch: Arch, scale: Scale, *, norm_momentum: float = 0.1) -> Counts:
    """Returns the cost of the network that ``build`` returns.

    Args:
        arch: the architecture.
        scale: width of the first stack, cells a stack, input and classes.
        norm_momentum: costs nothing; here because ``build`` takes it.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px or too few channels.
    """
    NASBench101().validate(arch)
    cell = cell_of_choices(arch.choices)
    first, size = stem(scale, scale.channels)
    parts = [first]
    for stack in range(3):
        c = scale.channels << stack
        c_in = c // 2 if stack else c
        size = halved(size) if stack else size
        parts += [count_cell(cell, c_in, c, size), times(count_cell(cell, c, c, size), scale.depth - 1)]
    return total(*parts, tail(4 * scale.channels, scale.n_classes))


def count_cells(cells: Cells, scale: Scale) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the (N,) parameters and (N,) multiply-adds of many cells' networks, each equal to what ``count`` says.

    Raises:
        SettingError: for images under 4 px or too few channels.
    """
    laid, c = lay_out(cells), scale.channels
    first, size = stem(scale, c)
    last = tail(4 * c, scale.n_classes)
    params = np.full(len(cells), first.params + last.params, dtype=np.int64)
    macs = np.full(len(cells), first.macs + last.macs, dtype=np.int64)
    for stack in range(3):
        size = halved(size) if stack else size
        widths = vertex_widths(laid, c << stack)
        for times_used, c_in in ((1, c << stack >> (stack > 0)), (scale.depth - 1, c << stack)):
            weights = _all_weights(laid, widths, c_in)
            params += times_used * (weights + _all_norms(laid, widths))
            macs += times_used * weights * size * size
    return params, macs


def _all_weights(laid: Laid, channels: NDArray[np.int64], c_in: int) -> NDArray[np.int64]:
    """Returns (N,) convolution weights of the cells."""
    areas = [KERNELS[op] ** 2 for op in OPS]
    operations = sum((area * channels**2 * laid.has[:, op]).sum(axis=1) for op, area in enumerate(areas))
    return operations + c_in * (channels * laid.edge[:, 0]).sum(axis=1)


def _all_norms(laid: Laid, channels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns (N,) scales and shifts of the cells' batch norms."""
    normed = laid.edge[:, 0].astype(np.int64) + sum(
        laid.has[:, op] for op, name in enumerate(OPS) if KERNELS[name]
    )
    return 2 * (channels * normed).sum(axis=1)
