"""One NAS-Bench-101 cell as plain integers: packing, pruning, and the errors for cells that do not belong.

A cell has at most 7 vertices in topological order, the first is the input, the last the output, and at most 9 edges.
Edge x -> y (x < y) is bit ``x + y (y - 1) / 2``: column by column, least significant first, the order in which the
benchmark enumerates its cells. Operations are numbered in the benchmark's order (:data:`OPS`).

Source: Ying et al., "NAS-Bench-101: Towards Reproducible Neural Architecture Search", ICML 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import md5
from typing import NamedTuple

from archduel.errors import InvalidArchError

__all__ = ["INPUT", "INPUT_LABEL", "MAX_EDGES", "MAX_VERTICES", "OPS", "OUTPUT", "OUTPUT_LABEL", "Cell", "cell_hash", "cell_of_choices", "cell_of_matrix", "choices_of_cell", "matrix_of_cell", "neighbours_of", "read_cell", "start_hash", "write_cell"]

OPS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
INPUT, OUTPUT = "input", "output"
MAX_VERTICES = 7
MAX_EDGES = 9
_ALIASES = {"conv3x3": 0, "conv1x1": 1, "maxpool": 2} | {name: label for label, name in enumerate(OPS)}


class Cell(NamedTuple):
    """A pruned cell.

    Attributes:
        n: number of vertices, input and output included (2..7).
        edges: the adjacency matrix as bits, see the module.
        ops: labels (0..2) of the n - 2 inner vertices.
    """

    n: int
    edges: int
    ops: tuple[int, ...]


@lru_cache(maxsize=8192)  # there are 6,472 matrices
def neighbours_of(n: int, edges: int) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Returns (predecessors of each vertex, successors of each vertex), ascending."""
    before = tuple(tuple(x for x in range(y) if edges >> (x + y * (y - 1) // 2) & 1) for y in range(n))
    after = tuple(tuple(y for y in range(x + 1, n) if x in before[y]) for x in range(n))
    return before, after


def choices_of_cell(cell: Cell) -> tuple[int, ...]:
    """Returns the answers that lead to ``cell``: vertices - 2, then for each vertex its in-edges and its operation."""
    choices, edges = [cell.n - 2], cell.edges
    for y in range(1, cell.n):
        choices += [edges >> x & 1 for x in range(y)]
        edges >>= y
        if y < cell.n - 1:
            choices.append(cell.ops[y - 1])
    return tuple(choices)


def cell_of_choices(choices: Sequence[int]) -> Cell:
    """Returns the cell of complete, valid answers."""
    n, edges, ops, at = choices[0] + 2, 0, [], 1
    for y in range(1, n):
        shift = y * (y - 1) // 2
        for x in range(y):
            edges |= choices[at + x] << (shift + x)
        at += y
        if y < n - 1:
            ops.append(choices[at])
            at += 1
    return Cell(n, edges, tuple(ops))


def matrix_of_cell(cell: Cell) -> list[list[int]]:
    """Returns the n x n adjacency matrix, ``[x][y] = 1`` for x -> y."""
    _, after = neighbours_of(cell.n, cell.edges)
    return [[int(y in after[x]) for y in range(cell.n)] for x in range(cell.n)]


def _rows(matrix: Sequence[Sequence[int]]) -> str:
    return "|".join("".join(map(str, row)) for row in matrix)


def _check_form(matrix: Sequence[Sequence[int]], n_ops: int) -> None:
    """Raises unless the matrix is square, 0/1, strictly upper triangular and as large as the list of operations."""
    n = len(matrix)
    for x, row in enumerate(matrix):
        if len(row) != n:
            raise InvalidArchError(
                f"nasbench101: row {x} of the adjacency matrix has {len(row)} entries, expected {n}"
            )
        for y, entry in enumerate(row):
            if entry not in (0, 1):
                raise InvalidArchError(
                    f"nasbench101: entry [{x}][{y}] of the matrix is {entry!r}, expected 0 or 1"
                )
    if n < 2:
        raise InvalidArchError(f"nasbench101: a cell needs at least an input and an output, got {n} vertices")
    for x in range(n):
        for y in range(x + 1):
            if matrix[x][y]:
                what = (
                    "is a loop"
                    if x == y
                    else "closes a cycle"
                    if _reaches(matrix, y, x)
                    else "goes backwards"
                )
                raise InvalidArchError(
                    f"nasbench101: edge {x} -> {y} {what} in {_rows(matrix)}; "
                    "expected ones above the diagonal only (vertices in topological order)"
                )
    if n_ops != n:
        raise InvalidArchError(f"nasbench101: {n_ops} operations for {n} vertices in {_rows(matrix)}")


def _reaches(matrix: Sequence[Sequence[int]], start: int, end: int) -> bool:
    seen, waiting = {start}, [start]
    while waiting:
        x = waiting.pop()
        new = {y for y in range(len(matrix)) if matrix[x][y]} - seen
        seen |= new
        waiting += new
    return end in seen


def _kept(matrix: Sequence[Sequence[int]]) -> list[int]:
    """Returns the vertices on a path from input to output (empty: there is none)."""
    n = len(matrix)
    kept = [v for v in range(n) if _reaches(matrix, 0, v) and _reaches(matrix, v, n - 1)]
    return kept if kept and kept[0] == 0 else []


def _label(name: str, vertex: int) -> int:
    if name not in _ALIASES:
        raise InvalidArchError(
            f"nasbench101: operation {name!r} of vertex {vertex} is unknown; expected one of {', '.join(OPS)}"
        )
    return _ALIASES[name]


def cell_of_matrix(matrix: Sequence[Sequence[int]], ops: Sequence[str]) -> Cell:
    """Returns the pruned cell: vertices that lie on no path from input to output are dropped, the order is kept.

    Args:
        matrix: n x n, 0/1, strictly upper triangular; n may exceed 7 if the pruned cell does not.
        ops: names of all n vertices, ``input`` first and ``output`` last.

    Raises:
        InvalidArchError: for a malformed, cyclic, disconnected or too large cell or an unknown operation.
    """
    _check_form(matrix, len(ops))
    if (ops[0], ops[-1]) != (INPUT, OUTPUT):
        raise InvalidArchError(
            f"nasbench101: operations begin with {ops[0]!r} and end with {ops[-1]!r}, expected 'input' and 'output'"
        )
    labels = [_label(name, vertex) for vertex, name in enumerate(ops[1:-1], 1)]
    kept = _kept(matrix)
    if not kept:
        raise InvalidArchError(f"nasbench101: no path leads from input to output in {_rows(matrix)}")
    edges = [(i, j) for j, y in enumerate(kept) for i, x in enumerate(kept) if matrix[x][y]]
    pruned = _rows([[int(matrix[x][y]) for y in kept] for x in kept])
    if len(kept) > MAX_VERTICES:
        raise InvalidArchError(
            f"nasbench101: {len(kept)} vertices in {pruned}, expected at most {MAX_VERTICES}"
        )
    if len(edges) > MAX_EDGES:
        raise InvalidArchError(f"nasbench101: {len(edges)} edges in {pruned}, expected at most {MAX_EDGES}")
    bits = sum(1 << (i + j * (j - 1) // 2) for i, j in edges)
    return Cell(len(kept), bits, tuple(labels[v - 1] for v in kept[1:-1]))


def write_cell(cell: Cell) -> str:
    """Returns ``ROW|ROW|... input,OP,...,output``."""
    names = ",".join([INPUT, *(OPS[label] for label in cell.ops), OUTPUT])
    return f"{_rows(matrix_of_cell(cell))} {names}"


def read_cell(text: str) -> Cell:
    """Returns the cell that :func:`write_cell` wrote, or one not yet pruned; ``;`` may stand for the space.

    Raises:
        InvalidArchError: for another form, or a cell that does not belong to the space.
    """
    parts = text.replace(";", " ").split()
    if len(parts) != 2:
        raise InvalidArchError(
            f"nasbench101: {text!r} has {len(parts)} parts, expected 2: "
            "adjacency rows and operations, such as '01|00 input,output'"
        )
    wrong = sorted(set(parts[0]) - set("01|"))
    if wrong:
        raise InvalidArchError(
            f"nasbench101: adjacency {parts[0]!r} contains {wrong[0]!r}; expected 0, 1 and |"
        )
    matrix = [[int(entry) for entry in row] for row in parts[0].split("|")]
    return cell_of_matrix(matrix, parts[1].split(","))


# -- The published hash of a NAS-Bench-101 cell: equal for isomorphic cells, different otherwise ------------------------
#
# Each vertex starts with the MD5 of ``(out-degree, in-degree, label)`` and is re-hashed n times together with the sorted
# hashes of its predecessors and successors; the cell's hash is the MD5 of the sorted list. The texts that are hashed are
# the benchmark's own, character by character, so the hashes are the keys of its published files.
#
# Source: Ying et al., ICML 2019, and the benchmark's published graph utilities.


INPUT_LABEL, OUTPUT_LABEL = -1, -2


@lru_cache(maxsize=512)
def start_hash(n_out: int, n_in: int, label: int) -> str:
    """Returns the hash with which a vertex of that label and degrees starts."""
    return md5(f"({n_out}, {n_in}, {label})".encode(), usedforsecurity=False).hexdigest()


def cell_hash(cell: Cell) -> str:
    """Returns the benchmark's hash of a pruned cell, 32 hexadecimal digits."""
    before, after = neighbours_of(cell.n, cell.edges)
    labels = (INPUT_LABEL, *cell.ops, OUTPUT_LABEL)
    hashes = [start_hash(len(o), len(i), label) for i, o, label in zip(before, after, labels)]
    links = list(zip(before, after))
    for _ in range(cell.n):
        at = hashes.__getitem__
        texts = [
            f"{''.join(sorted(map(at, i)))}|{''.join(sorted(map(at, o)))}|{own}"
            for (i, o), own in zip(links, hashes)
        ]
        hashes = [md5(text.encode(), usedforsecurity=False).hexdigest() for text in texts]
    return md5(str(sorted(hashes)).encode(), usedforsecurity=False).hexdigest()
