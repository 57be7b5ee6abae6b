"""Finding a row by its bytes: an open-addressing index of uint32 row numbers that lives in the table file.

Nothing is built when a table is loaded: a look-up is one CRC-32, one or two probes and one comparison of bytes.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["EMPTY", "ByteIndex", "build_index"]

EMPTY = 0xFFFFFFFF
"""A slot that holds no row."""


def build_index(keys: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Returns the slots (C,) uint32 of an index of ``keys`` (N, W): C a power of two, at least twice N.

    Rows with equal keys share the slot of the first one, which is the one that a look-up finds.
    """
    capacity = 1 << max(3, (2 * len(keys)).bit_length())
    slots = np.full(capacity, EMPTY, np.uint32)
    data, width = keys.tobytes(), keys.shape[1]
    mask = capacity - 1
    taken: dict[bytes, int] = {}
    for row in range(len(keys)):
        key = data[row * width : (row + 1) * width]
        taken.setdefault(key, row)
    rows = np.fromiter(taken.values(), np.uint32, len(taken))
    home = np.fromiter((zlib.crc32(key) & mask for key in taken), np.int64, len(taken))
    while len(
        rows
    ):  # linear probing, all rows a step at a time: whoever finds its slot taken goes on to the next
        free = slots[home] == EMPTY
        first = np.zeros(len(rows), bool)
        candidates = np.flatnonzero(free)
        first[candidates[np.unique(home[candidates], return_index=True)[1]]] = True
        slots[home[first]] = rows[first]
        rows, home = rows[~first], (home[~first] + 1) & mask
    return slots


class ByteIndex:
    """Finds the row whose key is given; ``keys`` (N, W) uint8 and ``slots`` (C,) uint32 are views of the file."""

    def __init__(self, keys: NDArray[np.uint8], slots: NDArray[np.uint32]) -> None:
        self._n, self._width = keys.shape
        self._keys = keys.reshape(-1).data
        self._slots = slots.data
        self._mask = len(slots) - 1

    def find(self, key: bytes) -> int:
        """Returns the row of ``key`` (W bytes), or -1."""
        slots, keys, width, mask = self._slots, self._keys, self._width, self._mask
        slot = zlib.crc32(key) & mask
        for _ in range(mask + 1):  # bounded, so that a damaged index cannot loop for ever
            row: int = slots[slot]
            if row >= self._n:
                return -1
            at = row * width
            if keys[at : at + width] == key:
                return row
            slot = (slot + 1) & mask
        return -1
