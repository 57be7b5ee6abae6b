"""Learning curves inside a pickle, read a whole curve at a time: runs of (key, float) pairs of one kind.

Each function does exactly what the single operations would do, only faster; where there is no run it returns None.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

__all__ = ["integer_run", "known_run", "text_run"]

_INTEGERS = re.compile(rb"(?:K.G.{8}){4,}", re.DOTALL)
_KNOWN = re.compile(rb"(?:j.{4}G.{8}){4,}", re.DOTALL)
_INTEGER_PAIR = np.dtype([("k", "u1"), ("key", "u1"), ("g", "u1"), ("value", ">f8")])
_KNOWN_PAIR = np.dtype([("j", "u1"), ("key", "<u4"), ("g", "u1"), ("value", ">f8")])


def _texts(head: bytes, tail: bytes) -> re.Pattern[bytes]:
    """Returns a pattern of texts of 5 to 24 bytes, each remembered and followed by a float."""
    each = b"|".join(re.escape(head % n) + b".{%d}" % n for n in range(5, 25))
    return re.compile(b"(?:(?:" + each + b")" + tail + rb"G.{8}){4,}", re.DOTALL)


_TEXTS = {
    ord("X"): (5, 5, _texts(b"X%c\0\0\0", b"r.{4}")),  # protocol 2: four bytes of length, a numbered place
    0x8C: (2, 1, _texts(b"\x8c%c", b"\x94")),  # protocol 4: one byte of length, the next place
}


def _flat(keys: Iterable[Any], values: list[float]) -> list[Any]:
    flat: list[Any] = [None] * (2 * len(values))
    flat[::2], flat[1::2] = keys, values
    return flat


def integer_run(buffer: bytes, at: int) -> tuple[int, list[Any]] | None:
    """Returns (bytes, [0, 91.2, 1, 91.3, ...]) of small integers and floats at ``at``."""
    match = _INTEGERS.match(buffer, at)
    if match is None:
        return None
    pairs = np.frombuffer(match[0], _INTEGER_PAIR)
    return len(match[0]), _flat(pairs["key"].tolist(), pairs["value"].tolist())


def known_run(buffer: bytes, at: int, memo: list[Any]) -> tuple[int, list[Any]] | None:
    """Returns (bytes, [text, 91.2, ...]) of things remembered before and floats at ``at``."""
    match = _KNOWN.match(buffer, at)
    if match is None:
        return None
    pairs = np.frombuffer(match[0], _KNOWN_PAIR)
    return len(match[0]), _flat(map(memo.__getitem__, pairs["key"].tolist()), pairs["value"].tolist())


def text_run(
    buffer: bytes, at: int, memo: list[Any], decode: Callable[[bytes], str]
) -> tuple[int, list[Any]] | None:
    """Returns (bytes, [text, 91.2, ...]) of new texts and floats at ``at``; the texts are remembered in ``memo``."""
    head, tail, pattern = _TEXTS[buffer[at]]
    match = pattern.match(buffer, at)
    if match is None:
        return None
    flat: list[Any] = []
    place, end = at, match.end()
    while place < end:
        text = place + head
        stop = text + buffer[place + 1]
        if tail > 1 and int.from_bytes(buffer[stop + 1 : stop + 5], "little") != len(memo):
            break  # not the next place: left to the single operations
        memo.append(decode(buffer[text:stop]))
        flat += (memo[-1], struct.unpack_from(">d", buffer, stop + tail + 1)[0])
        place = stop + tail + 9
    return (place - at, flat) if flat else None
