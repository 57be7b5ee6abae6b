"""The published hash of a NAS-Bench-101 cell: equal for isomorphic cells, different otherwise.

Each vertex starts with the MD5 of ``(out-degree, in-degree, label)`` and is re-hashed n times together with the sorted
hashes of its predecessors and successors; the cell's hash is the MD5 of the sorted list. The texts that are hashed are
the benchmark's own, character by character, so the hashes are the keys of its published files.

Source: Ying et al., ICML 2019, and the benchmark's published graph utilities.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import md5

from archduel.spaces.nasbench101_cell import Cell, neighbours_of

__all__ = ["INPUT_LABEL", "OUTPUT_LABEL", "cell_hash", "start_hash"]

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
