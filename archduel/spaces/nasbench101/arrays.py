"""Many NAS-Bench-101 cells at once: packed arrays, all encodings there are, and the representative of each graph.

The representative of a graph is the encoding that the benchmark's enumeration meets first: least adjacency bits, then
the lexicographically least operations, among the orders of the inner vertices that keep every edge pointing forwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch
from archduel.spaces.nasbench101.cell import MAX_EDGES, MAX_VERTICES, Cell

__all__ = [
    "NO_OP",
    "N_ENCODINGS",
    "Cells",
    "canonical",
    "canonical_cell",
    "kept_matrices",
    "mask_images",
    "op_codes",
    "pack",
    "relabellings",
    "unpack_ops",
]

N_ENCODINGS = 1_293_208
NO_OP = 3
_INNER = MAX_VERTICES - 2
_PAIRS = [(x, y) for y in range(MAX_VERTICES) for x in range(y)]  # the pair of bit 0, 1, ...
_IMPOSSIBLE = np.uint32(1 << 31)  # marks an order in which an edge points backwards


@dataclass(frozen=True)
class Cells:
    """N cells as arrays.

    Attributes:
        n_vertices: (N,) uint8, 2..7.
        edges: (N,) uint32, bit ``x + y (y - 1) / 2`` = edge x -> y.
        ops: (N, 5) uint8, labels 0..2 of the inner vertices, then ``NO_OP``.
    """

    n_vertices: NDArray[np.uint8]
    edges: NDArray[np.uint32]
    ops: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.edges)

    def __getitem__(self, rows: Any) -> Cells:
        """Returns the cells of a slice, a mask or an array of row numbers."""
        return Cells(self.n_vertices[rows], self.edges[rows], self.ops[rows])

    def cell(self, row: int) -> Cell:
        """Returns one cell."""
        n = int(self.n_vertices[row])
        return Cell(n, int(self.edges[row]), tuple(self.ops[row, : n - 2].tolist()))

    def adjacency(self) -> NDArray[np.bool_]:
        """Returns (N, 7, 7), ``[b, x, y]`` = edge x -> y, zero for vertices that are not there."""
        matrix = np.zeros((len(self), MAX_VERTICES, MAX_VERTICES), dtype=bool)
        for bit, (x, y) in enumerate(_PAIRS):
            matrix[:, x, y] = self.edges >> np.uint32(bit) & np.uint32(1)
        return matrix

    def archs(self, name: str = "nasbench101") -> list[Arch]:
        """Returns the cells as architectures of the space ``name``."""
        found: list[Arch | None] = [None] * len(self)
        for n in range(2, MAX_VERTICES + 1):
            rows = np.flatnonzero(self.n_vertices == n)
            columns = [np.full(len(rows), n - 2, dtype=np.uint8)]
            for y in range(1, n):
                columns += [
                    self.edges[rows] >> np.uint32(x + y * (y - 1) // 2) & np.uint32(1) for x in range(y)
                ]
                columns += [self.ops[rows, y - 1]] if y < n - 1 else []
            choices = np.stack(columns, axis=1).astype(np.uint8).tolist()
            for row, answers in zip(rows.tolist(), choices):
                found[row] = Arch(name, tuple(answers))
        return found  # type: ignore[return-value]


def pack(archs: Sequence[Arch]) -> Cells:
    """Returns complete, valid architectures as arrays."""
    total = len(archs)
    sizes = np.fromiter((arch.choices[0] + 2 for arch in archs), dtype=np.uint8, count=total)
    edges = np.zeros(total, dtype=np.uint32)
    ops = np.full((total, _INNER), NO_OP, dtype=np.uint8)
    for n in np.unique(sizes).tolist():
        rows = np.flatnonzero(sizes == n)
        choices = np.array([archs[row].choices for row in rows.tolist()], dtype=np.uint32)  # (R, answers)
        at = 1
        for y in range(1, n):
            for x in range(y):
                edges[rows] |= choices[:, at + x] << np.uint32(x + y * (y - 1) // 2)
            at += y
            if y < n - 1:
                ops[rows, y - 1] = choices[:, at]
                at += 1
    return Cells(sizes, edges, ops)


@lru_cache(maxsize=8)
def kept_matrices(n: int) -> NDArray[np.uint32]:
    """Returns the adjacency bits of all valid matrices of n vertices, ascending: 1, 2, 10, 121, 1,545, 4,793."""
    edges = np.arange(1 << n * (n - 1) // 2, dtype=np.uint32)
    for v in range(n):
        column = sum(1 << bit for bit, (_, y) in enumerate(_PAIRS) if y == v)
        row = sum(1 << bit for bit, (x, y) in enumerate(_PAIRS) if x == v and y < n)
        if v > 0:
            edges = edges[(edges & np.uint32(column)) != 0]
        if v < n - 1:
            edges = edges[(edges & np.uint32(row)) != 0]
    n_edges = sum(
        (edges >> np.uint32(bit) & np.uint32(1)).astype(np.uint8) for bit in range(n * (n - 1) // 2)
    )
    kept = edges[n_edges <= MAX_EDGES]
    kept.flags.writeable = False
    return kept


def op_codes(ops: NDArray[np.uint8], n: int) -> NDArray[np.int64]:
    """Returns (N,) numbers in base 3 (first inner vertex most significant) of the operations of n-vertex cells."""
    code = np.zeros(len(ops), dtype=np.int64)
    for v in range(n - 2):
        code = code * 3 + ops[:, v]
    return code


def unpack_ops(codes: NDArray[np.int64], n: int) -> NDArray[np.uint8]:
    """Returns the (N, 5) operations of :func:`op_codes`."""
    ops = np.full((len(codes), _INNER), NO_OP, dtype=np.uint8)
    for v in range(n - 2):
        ops[:, v] = codes // 3 ** (n - 3 - v) % 3
    return ops


@lru_cache(maxsize=8)
def relabellings(n: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Returns what the P = (n - 2)! orders of the inner vertices do to n-vertex cells.

    Returns:
        bits: (P, n (n - 1) / 2) uint32, where each adjacency bit goes; backwards edges become the bit 2^31.
        codes: (P, 3^(n - 2)), which code of operations each code becomes.
    """
    orders = [
        (0, *(v + 1 for v in inner), n - 1) for inner in permutations(range(n - 2))
    ]  # order[v]: new place of v
    bits = np.array(
        [
            [
                1 << (o[x] + o[y] * (o[y] - 1) // 2) if o[x] < o[y] else int(_IMPOSSIBLE)
                for y in range(n)
                for x in range(y)
            ]
            for o in orders
        ],
        dtype=np.uint32,
    ).reshape(len(orders), -1)
    old = unpack_ops(np.arange(3 ** (n - 2)), n)
    new = np.repeat(old[None], len(orders), axis=0)  # (P, 3^(n-2), 5)
    for p, order in enumerate(orders):
        for v in range(1, n - 1):
            new[p, :, order[v] - 1] = old[:, v - 1]
    codes = np.stack([op_codes(images, n) for images in new])
    return bits, codes


def canonical_cell(cell: Cell) -> Cell:
    """Returns the representative of the cell's graph."""
    bits, codes = relabellings(cell.n)
    present = [bit for bit in range(cell.n * (cell.n - 1) // 2) if cell.edges >> bit & 1]
    images = np.bitwise_or.reduce(bits[:, present], axis=1)  # (P,)
    edges = images.min()
    code = 0
    for op in cell.ops:
        code = code * 3 + op
    least = int(codes[images == edges, code].min())
    return Cell(cell.n, int(edges), tuple(least // 3**v % 3 for v in range(cell.n - 3, -1, -1)))


def canonical(cells: Cells) -> Cells:
    """Returns the representative of every cell's graph."""
    edges, ops = cells.edges.copy(), cells.ops.copy()
    for n in np.unique(cells.n_vertices).tolist():
        rows = np.flatnonzero(cells.n_vertices == n)
        masks, which = np.unique(cells.edges[rows], return_inverse=True)
        images = mask_images(masks, n)  # (P, M)
        least = images.min(axis=0)
        codes, best = op_codes(cells.ops[rows], n), np.full(len(rows), 3 ** (n - 2), dtype=np.int64)
        for image, table in zip(images, relabellings(n)[1]):
            reached = (image == least)[which]
            best[reached] = np.minimum(best[reached], table[codes[reached]])
        edges[rows], ops[rows] = least[which], unpack_ops(best, n)
    return Cells(cells.n_vertices, edges, ops)


def mask_images(masks: NDArray[np.uint32], n: int) -> NDArray[np.uint32]:
    """Returns (P, M): the adjacency bits of M matrices in each order of the inner vertices; 2^31 is set where none is."""
    bits, _ = relabellings(n)
    images = np.zeros((len(bits), len(masks)), dtype=np.uint32)
    for bit in range(n * (n - 1) // 2):
        present = (masks >> np.uint32(bit) & np.uint32(1)).astype(bool)
        images[:, present] |= bits[:, bit, None]
    return images
