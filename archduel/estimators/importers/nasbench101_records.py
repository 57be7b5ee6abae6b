"""One record of the published NAS-Bench-101 file: a JSON list whose last entry is a small protobuf message."""

from __future__ import annotations

import binascii
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Measured", "Record", "read_metrics", "read_record"]

_THREE = struct.Struct("<" + ("2s" + "Bd" * 5) * 3)
_HEAD, _TAGS = b"\x0a\x2d", (0x09, 0x11, 0x19, 0x21, 0x29)
"""How an evaluation begins and how its five numbers do; in every record of the file there are three such in a row."""
_FIXED = {1: 8, 5: 4}


@dataclass(frozen=True, slots=True)
class Measured:
    """One evaluation: seconds of training so far and three accuracies as fractions."""

    seconds: float
    train: float
    validation: float
    test: float


@dataclass(frozen=True, slots=True)
class Record:
    """One training of one cell.

    Attributes:
        hash: the benchmark's hash of the cell.
        epochs: 4, 12, 36 or 108.
        bits: the adjacency matrix row by row, n x n digits.
        ops: names of all vertices, joined by commas.
        halfway: measured after half of the epochs.
        final: measured at the end.
        params: trainable parameters.
    """

    hash: str
    epochs: int
    bits: str
    ops: str
    halfway: Measured
    final: Measured
    params: int

    def cell(self) -> tuple[list[list[int]], list[str]]:
        """Returns the matrix and the names of all vertices.

        Raises:
            ValueError: if the matrix is no square of 0 and 1.
        """
        side = math.isqrt(len(self.bits))
        if side * side != len(self.bits) or set(self.bits) - {"0", "1"}:
            raise ValueError(f"adjacency {self.bits[:60]!r} is no square of 0 and 1")
        rows = [self.bits[row * side : (row + 1) * side] for row in range(side)]
        return [[int(bit) for bit in row] for row in rows], self.ops.split(",")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns a number and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yields (field number, wire type, value) of a protobuf message; raises ValueError if it is cut short."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, wire = divmod(tag, 8)
        value: Any
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif wire in _FIXED:
            value, at = data[at : at + _FIXED[wire]], at + _FIXED[wire]
        else:
            raise ValueError(f"wire type {wire} in a message")
        if at > len(data):
            raise ValueError("a message that is cut short")
        yield field, wire, value


def _measured(data: bytes) -> Measured:
    values = {field: struct.unpack("<d", value)[0] for field, wire, value in _fields(data) if wire == 1}
    return Measured(*(values.get(field, 0.0) for field in (2, 3, 4, 5)))


def _usual(data: bytes) -> list[Measured]:
    """Returns the three evaluations of a message in the order in which every record has them, or none."""
    if len(data) < _THREE.size:
        return []
    parts = _THREE.unpack_from(data)
    if any(parts[i] != _HEAD or parts[i + 1 : i + 11 : 2] != _TAGS for i in (0, 11, 22)):
        return []
    return [Measured(*parts[i + 4 : i + 11 : 2]) for i in (0, 11, 22)]


def read_metrics(data: bytes) -> tuple[list[Measured], int]:
    """Returns the evaluations and the number of parameters of a ``ModelMetrics`` message; unknown fields are skipped.

    Raises:
        ValueError: if it is no such message.
    """
    evaluations, params = _usual(data), 0
    for field, wire, value in _fields(data[_THREE.size :] if evaluations else data):
        if (field, wire) == (1, 2):
            evaluations.append(_measured(value))
        elif (field, wire) == (2, 0):
            params = value
    return evaluations, params


def read_record(data: bytes) -> Record:
    """Returns the training that a record describes.

    Raises:
        ValueError: if it is not a record of NAS-Bench-101.
    """
    entries = json.loads(data.decode())
    if not isinstance(entries, list) or [type(entry) for entry in entries] != [str, int, str, str, str]:
        raise ValueError("it is not a list of hash, epochs, adjacency, operations and metrics")
    hash_, epochs, bits, ops, metrics = entries
    evaluations, params = read_metrics(binascii.a2b_base64(metrics))
    if len(evaluations) != 3:
        raise ValueError(f"{len(evaluations)} evaluations, expected 3: start, halfway, final")
    return Record(hash_, epochs, bits, ops, evaluations[1], evaluations[2], params)
