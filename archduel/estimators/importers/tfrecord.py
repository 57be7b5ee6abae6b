"""TFRecord files without TensorFlow: framing and CRC-32C checks, streaming, many records at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archduel.errors import TableError

__all__ = ["masked_crc32c", "read_records"]

POLYNOMIAL = 0x82F63B78
BLOCK = 1 << 22
LONGEST = 1 << 20
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
        if length > LONGEST:
            _check(path, [data[at : at + 8]], [length_sum], number + len(records), "length")
            raise TableError(
                f"{path}: record {number + len(records)} has {length} bytes, expected at most {LONGEST}"
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
