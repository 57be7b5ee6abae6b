"""Bounds and stand-ins for reading pickles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["ATOMS", "Limits", "Maker", "Settable", "plain", "shown"]

Maker = Callable[..., Any]
"""What is called where a pickle names a class or function."""
ATOMS = {str, int, float, bytes, bool, type(None)}
"""Types of values that hold no others."""


@dataclass(frozen=True)
class Limits:
    """What a pickle may cost to read.

    Attributes:
        size: bytes of the pickle (after decompression).
        containers: lists, dicts, sets and tuples.
        items: values held at a time.
        text: bytes of one text or bytes object; all long ones together may have 16 times as many.
        depth: nesting.
        memo: objects that the pickle numbers in order to refer to them.
    """

    size: int = 1 << 26
    containers: int = 1 << 20
    items: int = 1 << 22
    text: int = 1 << 22
    depth: int = 200
    memo: int = 1 << 22


class Settable:
    """A stand-in that takes the state a pickle gives it."""

    def set_state(self, state: Any) -> None:
        """Takes the state."""
        raise TypeError(f"{type(self).__name__} takes no state")


def plain(value: object) -> bool:
    """Whether a value may be a key: a number, a text, or a flat tuple of such (hashing a deep one could crash)."""
    return type(value) in ATOMS or (type(value) is tuple and set(map(type, value)) <= ATOMS)


def shown(value: object) -> str:
    """Returns a short text of something from a file: never the whole of a list that may hold itself a million times."""
    return repr(value)[:80] if type(value) in ATOMS else type(value).__name__
