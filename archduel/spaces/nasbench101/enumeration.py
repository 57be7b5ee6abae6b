"""All 423,624 NAS-Bench-101 cells with their published hashes, from scratch in seconds.

The benchmark's own enumeration hashes 1,293,208 labelled cells and keeps the first of each hash. The same list comes out
without hashing the rest: a cell is the first of its graph exactly if no order of its inner vertices gives a smaller
encoding, and almost all of that can be decided on the 6,472 matrices. Hashes are then computed for the representatives
only, all cells of a chunk side by side.

Source of order and hashes: Ying et al., ICML 2019, and the benchmark's published graph utilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archduel.spaces.nasbench101.arrays import Cells, kept_matrices, mask_images, relabellings, unpack_ops
from archduel.spaces.nasbench101.cell import INPUT_LABEL, MAX_VERTICES, OUTPUT_LABEL, cell_hash, start_hash

__all__ = ["enumerate_cells", "hash_cells", "hash_texts", "md5_rows"]

# -- MD5 of many messages of one length at once, in NumPy: the same digests as ``hashlib``, one to three times as many a second 
#
# Source: RFC 1321. Only for names of architectures; MD5 protects nothing.


_SHIFTS = [7, 12, 17, 22] * 4 + [5, 9, 14, 20] * 4 + [4, 11, 16, 23] * 4 + [6, 10, 15, 21] * 4
_SINES = [np.uint32(int(abs(math.sin(i + 1)) * 2**32)) for i in range(64)]
_WORDS = [(f * i + o) % 16 for f, o in ((1, 0), (5, 1), (3, 5), (7, 0)) for i in range(16)]
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_MD5_CHUNK = 8192  # messages at a time, so that the state stays in the cache

Words = NDArray[np.uint32]


def md5_rows(messages: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the (N, 16) digests of N messages of L bytes, (N, L)."""
    n, length = messages.shape
    n_blocks = (length + 8) // 64 + 1
    digests = np.empty((n, 16), dtype=np.uint8)
    padded = np.zeros((min(n, _MD5_CHUNK), 64 * n_blocks), dtype=np.uint8)
    padded[:, length] = 0x80
    padded[:, -8:] = np.frombuffer((8 * length).to_bytes(8, "little"), dtype=np.uint8)
    for first in range(0, n, _MD5_CHUNK):
        part = messages[first : first + _MD5_CHUNK]
        padded[: len(part), :length] = part
        words = np.ascontiguousarray(padded[: len(part)].view("<u4").T)  # (16 blocks, N)
        state = [np.full(len(part), value, dtype=np.uint32) for value in _START]
        for block in range(n_blocks):
            state = _compress(state, words[16 * block : 16 * block + 16])
        digests[first : first + _MD5_CHUNK] = np.stack(state, axis=1).astype("<u4").view(np.uint8)
    return digests


def _compress(state: list[Words], words: Words) -> list[Words]:
    """Returns the state after one block of 16 words; additions wrap, as MD5 wants."""
    a, b, c, d = (part.copy() for part in state)
    mixed, high = np.empty_like(a), np.empty_like(a)
    for i in range(64):
        _mix(i // 16, b, c, d, mixed)
        a += mixed
        a += _SINES[i]
        a += words[_WORDS[i]]
        np.right_shift(a, np.uint32(32 - _SHIFTS[i]), out=high)  # rotate left
        a <<= np.uint32(_SHIFTS[i])
        a |= high
        a += b
        a, b, c, d = d, a, b, c
    for new, old in zip((a, b, c, d), state):
        new += old
    return [a, b, c, d]


def _mix(quarter: int, b: Words, c: Words, d: Words, out: Words) -> None:
    """Writes MD5's function of that quarter (F, G, H, I) to ``out``."""
    if quarter == 0:  # b ? c : d
        np.bitwise_xor(c, d, out=out)
        out &= b
        out ^= d
    elif quarter == 1:  # d ? b : c
        np.bitwise_xor(b, c, out=out)
        out &= d
        out ^= c
    elif quarter == 2:
        np.bitwise_xor(b, c, out=out)
        out ^= d
    else:
        np.invert(d, out=out)
        out |= b
        out ^= c


_CHUNK = 32_768
_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype=np.uint16)


def enumerate_cells(max_vertices: int = MAX_VERTICES) -> Cells:
    """Returns one cell a graph, the published representatives in the order in which the benchmark finds them."""
    parts = [_representatives(n) for n in range(2, max_vertices + 1)]
    return Cells(
        np.concatenate([part.n_vertices for part in parts]),
        np.concatenate([part.edges for part in parts]),
        np.concatenate([part.ops for part in parts]),
    )


def _representatives(n: int) -> Cells:
    masks, n_codes = kept_matrices(n), 3 ** (n - 2)
    images = mask_images(masks, n)  # (P, M)
    least = images.min(axis=0) == masks
    masks, images = masks[least], images[:, least]
    kept = np.ones((len(masks), n_codes), dtype=bool)
    for image, codes in zip(images, relabellings(n)[1]):
        # Only orders that leave the matrix as it is let the operations decide.
        kept[image == masks] &= codes >= np.arange(n_codes)
    rows, codes = np.nonzero(kept)
    return Cells(np.full(len(rows), n, dtype=np.uint8), masks[rows], unpack_ops(codes, n))


def hash_texts(hashes: NDArray[np.uint8]) -> list[str]:
    """Returns the (N, 16) hashes as hexadecimal texts."""
    text = hashes.tobytes().hex()
    return [text[at : at + 32] for at in range(0, len(text), 32)]


def hash_cells(cells: Cells) -> NDArray[np.uint8]:
    """Returns the (N, 16) bytes of the published hash of every cell."""
    hashes = np.empty((len(cells), 16), dtype=np.uint8)
    for n in np.unique(cells.n_vertices).tolist():
        rows = np.flatnonzero(cells.n_vertices == n)
        for first in range(0, len(rows), _CHUNK):
            part = rows[first : first + _CHUNK]
            hashes[part] = _hash_chunk(cells[part], n)
    return hashes


def _hash_chunk(cells: Cells, n: int) -> NDArray[np.uint8]:
    """Returns the hashes of cells that all have n vertices."""
    edge = np.ascontiguousarray(cells.adjacency()[:, :n, :n])
    n_out, n_in = edge.sum(axis=2), edge.sum(axis=1)  # (B, n)
    labels = np.full((len(cells), n), INPUT_LABEL)
    labels[:, 1 : n - 1], labels[:, n - 1] = cells.ops[:, : n - 2], OUTPUT_LABEL
    digests = _starts()[n_out, n_in, labels - OUTPUT_LABEL]  # (B, n, 16)
    groups = list(_groups(edge))
    clash = np.zeros(len(cells), dtype=bool)
    for _ in range(n):
        order, same = _order(digests)
        clash |= same
        digests = _next_round(digests, order, groups)
    order, same = _order(digests)
    tokens = np.take_along_axis(_hexadecimal(digests), order[:, :, None], axis=1)  # (B, n, 32)
    text = np.frombuffer(str(["x" * 32] * n).encode(), dtype=np.uint8)
    messages = np.repeat(text[None], len(cells), axis=0)
    for v in range(n):
        messages[:, 2 + 36 * v : 34 + 36 * v] = tokens[:, v]
    hashes = md5_rows(messages)
    for row in np.flatnonzero(clash | same):  # two vertices whose hashes share 16 digits but not all 32
        hashes[row] = np.frombuffer(bytes.fromhex(cell_hash(cells.cell(int(row)))), dtype=np.uint8)
    return hashes


def _starts() -> NDArray[np.uint8]:
    """Returns (out-degree, in-degree, label + 2, 16) the bytes of the starting hashes."""
    size = MAX_VERTICES
    table = [[[start_hash(o, i, label) for label in range(-2, 3)] for i in range(size)] for o in range(size)]
    data = bytes.fromhex("".join(digest for rows in table for row in rows for digest in row))
    return np.frombuffer(data, dtype=np.uint8).reshape(size, size, 5, 16)


class _Group(NamedTuple):
    """Vertices of a chunk with equal degrees, so that their messages have one length; vertex v of cell b is b n + v.

    Attributes:
        rows: (M,) the vertices.
        before: (M, in-degree) their predecessors.
        after: (M, out-degree) their successors.
    """

    rows: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]


def _groups(edge: NDArray[np.bool_]) -> Iterator[_Group]:
    """Yields the groups of cells with the (B, n, n) adjacency matrices ``edge``."""
    n = edge.shape[1]
    into, out = edge.transpose(0, 2, 1).reshape(-1, n), edge.reshape(-1, n)  # (B n, neighbour)
    degrees = into.sum(axis=1) * 8 + out.sum(axis=1)
    for code in np.unique(degrees).tolist():
        rows = np.flatnonzero(degrees == code)
        cell = (rows // n * n)[:, None]
        before, after = (np.nonzero(links[rows])[1].reshape(len(rows), -1) + cell for links in (into, out))
        yield _Group(rows, before, after)


def _order(digests: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns (B, n) vertices of each cell sorted by hash, and (B,) whether the first 8 bytes do not settle it."""
    halves = digests.view(">u8").astype(np.uint64)  # (B, n, 2)
    order = np.argsort(halves[:, :, 0], axis=1, kind="stable")
    ordered = np.take_along_axis(halves, order[:, :, None], axis=1)
    tied = ordered[:, 1:, 0] == ordered[:, :-1, 0]
    return order, (tied & (ordered[:, 1:, 1] != ordered[:, :-1, 1])).any(axis=1)


def _hexadecimal(digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns (..., 16) bytes as (..., 32) ASCII digits."""
    return _HEX[digests].view(np.uint8)


def _next_round(
    digests: NDArray[np.uint8], order: NDArray[np.int64], groups: list[_Group]
) -> NDArray[np.uint8]:
    """Returns the (B, n, 16) hashes after one round: MD5 of ``IN|OUT|own``, neighbours sorted by hash."""
    b, n, _ = digests.shape
    tokens = _hexadecimal(digests).reshape(b * n, 32)
    by_rank = (
        order + np.arange(b)[:, None] * n
    ).ravel()  # by_rank[b n + k]: the vertex of cell b with rank k
    rank = np.empty(b * n, dtype=np.int64)  # rank[vertex]: b n + its rank
    rank[by_rank] = np.arange(b * n)
    new = np.empty((b * n, 16), dtype=np.uint8)
    for rows, before, after in groups:
        n_in, n_out = before.shape[1], after.shape[1]
        messages = np.full((len(rows), 32 * (n_in + n_out + 1) + 2), ord("|"), dtype=np.uint8)
        for neighbours, at in ((before, 0), (after, 32 * n_in + 1)):
            ordered = by_rank[np.sort(rank[neighbours], axis=1)]
            messages[:, at : at + 32 * ordered.shape[1]] = tokens[ordered].reshape(len(rows), -1)
        messages[:, -32:] = tokens[rows]
        new[rows] = md5_rows(messages)
    return new.reshape(b, n, 16)
