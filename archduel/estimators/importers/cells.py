"""How files spell cells: matrices, lists of operations and lists of numbers as text. Nothing is evaluated."""

from __future__ import annotations

import math
import re

from archduel.errors import InvalidArchError

__all__ = ["read_integers", "read_matrix", "read_words"]

LONGEST = 10_000


def _bounded(text: str) -> str:
    if len(text) > LONGEST:
        raise InvalidArchError(f"{text[:40]!r}... has {len(text)} characters, expected at most {LONGEST}")
    return text.strip()


def read_matrix(text: str) -> list[list[int]]:
    """Returns the 0/1 matrix of ``011|001|000``, ``011001000`` (n x n digits) or ``[[0, 1, 1], [0, 0, 1], ...]``.

    Raises:
        InvalidArchError: if it is none of these.
    """
    text = _bounded(text)
    if re.fullmatch(r"[01]+(\|[01]+)+", text):
        return [[int(digit) for digit in row] for row in text.split("|")]
    if text.startswith("[") and re.fullmatch(r"[\[\]01,.\s]+", text):
        rows = re.findall(r"\[([^\[\]]*)\]", text)
        return [
            [int(entry[0]) for entry in re.split(r"[,\s]+", row.strip(" ,"))] for row in rows if row.strip()
        ]
    side = math.isqrt(len(text))
    if re.fullmatch(r"[01]+", text) and side * side == len(text):
        return [[int(digit) for digit in text[i * side : (i + 1) * side]] for i in range(side)]
    raise InvalidArchError(
        f"{text[:80]!r} is not a matrix; expected 011|001|000, 011001000 or [[0, 1, 1], ...]"
    )


def read_words(text: str) -> list[str]:
    """Returns the names in ``input,conv3x3-bn-relu,output`` or ``['input', 'conv3x3-bn-relu', 'output']``."""
    return [word for word in re.split(r"[\s,;|\[\]()'\"]+", _bounded(text)) if word]


def read_integers(text: str) -> list[int]:
    """Returns the numbers in ``7,3,3``, ``[7, 3, 3]`` or ``7 3 3``.

    Raises:
        InvalidArchError: for anything else.
    """
    words = read_words(text)
    if not words or not all(re.fullmatch(r"\d{1,9}", word) for word in words):
        raise InvalidArchError(f"{text[:80]!r} is not a list of integers such as 7,3,3")
    return [int(word) for word in words]
