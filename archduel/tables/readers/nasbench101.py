"""NAS-Bench-101 from its published TFRecord files and from CTNAS's ``nas_bench.json``, as labels.

Source: Ying et al., "NAS-Bench-101: Towards Reproducible Neural Architecture Search", ICML 2019; Chen et al., "Contrastive
Neural Architecture Search with Neural Architecture Comparators", CVPR 2021 (the JSON file).
"""

from __future__ import annotations

import binascii
import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch
from archduel.errors import InvalidArchError, TableError
from archduel.tables.build import Labels
from archduel.tables.file import Fidelity

__all__ = ["Measured", "ReadCell", "Record", "masked_crc32c", "read_ctnas_json", "read_metrics", "read_nasbench101", "read_record", "read_records"]

# -- One record of the published NAS-Bench-101 file: a JSON list whose last entry is a small protobuf message -----------


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


# -- TFRecord files without TensorFlow: framing and CRC-32C checks, streaming, many records at a time -------------------


POLYNOMIAL = 0x82F63B78
BLOCK = 1 << 22
LONGEST_RECORD = 1 << 20
"""Bytes of the longest record that is believed; those of the benchmark have about 400."""


def _tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Returns the CRC of every byte (256,) and of every pair of bytes (65536,)."""
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> 1) ^ np.uint32(POLYNOMIAL), crc >> 1)
    pairs = np.arange(65_536, dtype=np.uint32)
    once = crc[pairs & 255] ^ (pairs >> 8)
    return crc, crc[once & 255] ^ (once >> 8)


_BYTES, _PAIRS = _tables()


def _short_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = int(_BYTES[(crc ^ byte) & 255]) ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _crc32c(rows: Sequence[bytes]) -> NDArray[np.uint32]:
    """Returns (N,) CRC-32C of rows of at least 4 bytes, all at once.

    Zeros before a row leave a CRC register of 0 as it is, so rows are aligned at their ends; starting with all ones is the
    same as starting with 0 and inverting the first four bytes.
    """
    width = -(-max(map(len, rows)) // 2) * 2
    data = (
        np.frombuffer(b"".join(row.rjust(width, b"\0") for row in rows), np.uint8)
        .reshape(len(rows), width)
        .copy()
    )
    first = width - np.array([len(row) for row in rows])
    data[np.arange(len(rows))[:, None], first[:, None] + np.arange(4)] ^= 255
    words = np.ascontiguousarray(data.view("<u2").T)  # (width / 2, N)
    crc = np.zeros(len(rows), np.uint32)
    for word in words:
        crc = _PAIRS[(crc ^ word) & 0xFFFF] ^ (crc >> 16)
    return crc ^ np.uint32(0xFFFFFFFF)


def masked_crc32c(rows: Sequence[bytes]) -> NDArray[np.uint32]:
    """Returns (N,) uint32: the masked checksums with which TFRecord files protect ``rows``."""
    crc = np.zeros(len(rows), np.uint32)
    long = [i for i, row in enumerate(rows) if len(row) >= 4]
    if long:
        crc[long] = _crc32c([rows[i] for i in long])
    for i in set(range(len(rows))) - set(long):
        crc[i] = _short_crc(rows[i])
    return (((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)).astype(np.uint32)


def _check(path: Path, rows: Sequence[bytes], sums: Sequence[int], number: int, what: str) -> None:
    wrong = masked_crc32c(rows) != np.array(sums, np.uint32)
    if wrong.any():
        raise TableError(
            f"{path}: record {number + int(np.argmax(wrong))} has a wrong checksum of its {what}; get it again"
        )


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a file in order, each only after its checksums were compared.

    Raises:
        TableError: for a wrong checksum, a record that claims more than 1 MiB, or an end within a record.
    """
    number, rest = 0, b""
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                records, rest = _split(path, rest + block, number)
                yield from records
                number += len(records)
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error}") from error
    if rest:
        raise TableError(f"{path} ends within record {number}; the file is truncated, get it again")


def _split(path: Path, data: bytes, number: int) -> tuple[list[bytes], bytes]:
    """Returns the whole records in ``data`` and what is left over."""
    at = 0
    records: list[bytes] = []
    lengths, length_sums, sums = [], [], []
    while len(data) - at >= 12:
        length, length_sum = struct.unpack_from("<QI", data, at)
        if length > LONGEST_RECORD:
            _check(path, [data[at : at + 8]], [length_sum], number + len(records), "length")
            raise TableError(
                f"{path}: record {number + len(records)} has {length} bytes, expected at most {LONGEST_RECORD}"
            )
        if len(data) - at < 16 + length:
            break
        lengths.append(data[at : at + 8])
        length_sums.append(length_sum)
        records.append(data[at + 12 : at + 12 + length])
        sums.append(int.from_bytes(data[at + 12 + length : at + 16 + length], "little"))
        at += 16 + length
    if records:
        _check(path, lengths, length_sums, number, "length")
        _check(path, records, sums, number, "data")
    return records, data[at:]


ReadCell = Callable[[Sequence[Sequence[int]], Sequence[str]], Arch]
"""Makes an architecture of a matrix and the names of all vertices."""

IMAGES = 40_000
BUDGETS = (4, 12, 36, 108)
RUNS = 3
SPLITS = ("validation", "test", "train", "seconds")
NAN = np.float32(np.nan)
CHUNK = 1 << 20
LONGEST_TEXT = 1 << 23
"""Characters of the longest entry of a JSON file that is believed."""
_GAP = re.compile(r"[\s,]*")


class _Cells:
    """Collects trainings in arrays that grow; (cells, budgets, halfway or final, runs, splits) float32."""

    def __init__(self, read_cell: ReadCell, fingerprint: Callable[[Arch], str]) -> None:
        self._read_cell, self._fingerprint = read_cell, fingerprint
        self.rows: dict[str, int] = {}
        self.archs: list[Arch] = []
        self.params: list[int] = []
        self.values = np.full((1024, len(BUDGETS), 2, RUNS, len(SPLITS)), NAN, np.float32)
        self.count = np.zeros((1024, len(BUDGETS)), np.uint8)

    def _row(self, record: Record) -> int:
        """Returns the row of a record's cell; a new one is read and its hash compared."""
        row = self.rows.get(record.hash)
        if row is not None:
            return row
        arch = self._read_cell(*record.cell())
        if (own := self._fingerprint(arch)) != record.hash:
            raise ValueError(f"its cell has the hash {own}, the record says {record.hash[:40]!r}")
        row = self.rows[record.hash] = len(self.archs)
        self.archs.append(arch)
        self.params.append(record.params)
        if row == len(self.values):
            self.values = np.concatenate([self.values, np.full_like(self.values, NAN)])
            self.count = np.concatenate([self.count, np.zeros_like(self.count)])
        return row

    def add(self, record: Record) -> None:
        """Takes one training; the runs of a cell are numbered as they come."""
        if record.epochs not in BUDGETS:
            raise ValueError(f"{record.epochs} epochs, expected one of {BUDGETS}")
        row, budget = self._row(record), BUDGETS.index(record.epochs)
        run = int(self.count[row, budget])
        if run == RUNS:
            raise ValueError(
                f"cell {record.hash} was trained more than {RUNS} times for {record.epochs} epochs"
            )
        self.count[row, budget] += 1
        for place, measured in enumerate((record.halfway, record.final)):
            self.values[row, budget, place, run] = _numbers(measured)

    def labels(self, halfway: bool) -> Labels:
        """Returns what was collected: the budgets that occur, with their half-time values if asked for."""
        values = self.values[: len(self.archs)]
        fidelities, parts = [], []
        for budget, epochs in enumerate(BUDGETS):
            if not self.count[:, budget].any():
                continue
            for place, seen in ((0, epochs // 2), (1, epochs))[0 if halfway else 1 :]:
                name = str(epochs) if seen == epochs else f"{seen}/{epochs}"
                fidelities.append(Fidelity(name, seen, seen * IMAGES))
                parts.append(values[:, budget, place].transpose(1, 0, 2))  # (R, N, S)
        stacked = np.stack(parts)  # (F, R, N, S)
        return Labels(
            self.archs,
            {split: stacked[..., i] for i, split in enumerate(SPLITS)},
            fidelities,
            {"params": np.array(self.params, np.float64)},
            {"params": "count"},
            list(self.rows),
            {"dataset": "cifar10", "seconds": "training, as recorded", "runs": "in the order of the file"},
        )


def _numbers(measured: Measured) -> tuple[float, float, float, float]:
    return measured.validation, measured.test, measured.train, measured.seconds


def read_nasbench101(
    path: Path, read_cell: ReadCell, fingerprint: Callable[[Arch], str], *, halfway: bool = False
) -> Labels:
    """Returns the labels of ``nasbench_full.tfrecord`` or ``nasbench_only108.tfrecord``, cells in the file's order.

    Args:
        path: the file; it is read as a stream, every checksum and every cell's hash is compared.
        read_cell: makes architectures.
        fingerprint: the benchmark's hash of an architecture.
        halfway: also keep what was measured after half of the epochs, as fidelities such as ``54/108``.

    Raises:
        TableError: for a damaged file or a record that is not of this benchmark.
    """
    cells = _Cells(read_cell, fingerprint)
    for number, data in enumerate(read_records(path)):
        try:
            cells.add(read_record(data))
        except (ValueError, IndexError, RecursionError) as error:
            raise TableError(f"{path}: record {number}: {str(error)[:200]}") from error
    if not cells.archs:
        raise TableError(f"{path} holds no records")
    return cells.labels(halfway)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a JSON list without ever holding the whole file."""
    decoder = json.JSONDecoder()
    with open(path, encoding="utf-8") as file:
        text, at = file.read(CHUNK), 0
        if not text.lstrip().startswith("["):
            raise ValueError("it does not begin with '['")
        at = text.index("[") + 1
        while True:
            at = _GAP.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty text too
            if text[at : at + 1] == "]":
                return
            try:
                found, at = decoder.raw_decode(text, at)
            except ValueError:
                more = file.read(CHUNK)
                if not more or len(text) - at > LONGEST_TEXT:
                    raise
                text, at = text[at:] + more, 0
                continue
            yield found


def read_ctnas_json(path: Path, read_cell: ReadCell, fingerprint: Callable[[Arch], str]) -> Labels:
    """Returns the labels of CTNAS's ``nas_bench.json``: means of the three runs at 108 epochs.

    Raises:
        TableError: for a damaged file, an entry of another form or a hash that is not its cell's.
    """
    archs: list[Arch] = []
    rows: list[tuple[float, ...]] = []
    hashes: dict[str, None] = {}
    try:
        for entry in _objects(path):
            arch = read_cell(entry["matrix"], entry["ops"])
            hash_ = entry["hash_"]
            if fingerprint(arch) != hash_ or hash_ in hashes:
                raise ValueError(f"hash {str(hash_)[:40]!r} is not its cell's, or is there twice")
            hashes[hash_] = None
            archs.append(arch)
            rows.append(tuple(float(entry[key]) for key in _JSON_KEYS))
    except (OSError, KeyError, TypeError, ValueError, InvalidArchError, RecursionError) as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise TableError(
            f"{path}, entry {len(archs)} cannot be used as CTNAS's nas_bench.json ({what})"
        ) from error
    if not archs:
        raise TableError(f"{path} holds no entries")
    columns: NDArray[np.float64] = np.array(rows).T
    return Labels(
        archs,
        {split: columns[i].reshape(1, 1, -1) for i, split in enumerate(SPLITS)},
        [Fidelity("108", 108, 108 * IMAGES)],
        {"params": columns[4]},
        {"params": "count"},
        list(hashes),
        {
            "dataset": "cifar10",
            "runs": "each value is the mean of three runs",
            "seconds": "mean training time of a run",
        },
    )


_JSON_KEYS = ("validation_accuracy", "test_accuracy", "train_accuracy", "training_time", "n_params")
