"""The bytes of a pickle as they come, and the count of what was made of them so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from archduel.errors import TableError
from archduel.estimators.importers.pickle_values import Limits

__all__ = ["PickleStream"]

CHUNK = 1 << 20
TEXTS = 1 << 16
LONG = 256
"""Texts above this many bytes count together; shorter ones count as values, unless they are one of the first TEXTS."""


class PickleStream:
    """Hands out bytes and refuses what costs too much.

    Args:
        read: returns up to so many bytes, b"" at the end.
        limits: what reading may cost.
        what: the file, for messages.
    """

    def __init__(self, read: Callable[[int], bytes], limits: Limits, what: str) -> None:
        self._read, self._limits, self._what = read, limits, what
        self._buffer, self._at, self._before = b"", 0, 0
        self._texts: dict[bytes, str] = {}
        self._containers = self._items = self._long = 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: list[Any] = []

    def _refuse(self, why: str) -> NoReturn:
        raise TableError(f"{self._what}: the pickle at byte {self._before + self._at} {why}")

    def _take(self, n: int) -> bytes:
        end = self._at + n
        if end > len(self._buffer):
            self._fill(n)
            end = n
        piece = self._buffer[self._at : end]
        self._at = end
        return piece

    def _fill(self, n: int) -> None:
        """Makes at least ``n`` bytes and, if there are more, a good number of them readable from position 0."""
        parts = [self._buffer[self._at :]]
        self._before += self._at
        size = len(parts[0])
        while size < n and (part := self._read(max(CHUNK, n - size))):
            parts.append(part)
            size += len(part)
        self._buffer, self._at = b"".join(parts), 0
        if size < n:
            self._refuse("ends too early; the file is truncated")
        waiting = len(self._stack) + sum(map(len, self._below))
        if self._before > self._limits.size or self._items + waiting > self._limits.items:
            self._refuse(f"is longer than {self._limits.size} bytes or {self._limits.items} values")

    def _count(self, n_items: int) -> None:
        """Counts a container and what went into it."""
        self._containers += 1
        if self._containers > self._limits.containers:
            self._refuse(f"makes more than {self._limits.containers} lists and dicts")
        self._hold(n_items)

    def _hold(self, n_items: int) -> None:
        """Counts values that are kept (or, below 0, were thrown away)."""
        self._items += n_items
        if self._items > self._limits.items:
            self._refuse(f"holds more than {self._limits.items} values")

    def _sized(self, width: int) -> bytes:
        """Returns the bytes of a text or bytes object whose length stands in ``width`` bytes before it."""
        length = int.from_bytes(self._take(width), "little")
        self._long += length if length > LONG else 0
        if length > self._limits.text or self._long > 16 * self._limits.text:
            self._refuse(f"holds texts of {max(length, self._long)} bytes")
        return self._take(length)

    def _text(self, data: bytes) -> str:
        """Returns the text of UTF-8 bytes; equal short texts are one object."""
        text = self._texts.get(data)
        if text is None:
            text = data.decode("utf-8", "surrogatepass")
            if len(self._texts) < TEXTS and len(data) <= LONG:
                self._texts[data] = text
            else:
                self._hold(1)
        return text
