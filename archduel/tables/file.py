"""The table file: a checked JSON header and raw arrays that are memory-mapped, nothing is copied or executed.

Layout: 8 bytes magic, uint64 length of the header (little-endian), 32 bytes SHA-256 of the header, zeros up to byte 64,
the header (UTF-8 JSON), zeros up to a multiple of 64, the arrays, each at a multiple of 64. The header lists every
array (dtype, shape, offset from the start of the arrays), their total size and their SHA-256. The file ends with the
last array: a shorter or longer file is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import numpy as np
from numpy.typing import NDArray

from archduel.core.disk import write_atomic
from archduel.errors import TableError

__all__ = ["MAGIC", "SPLITS", "Fidelity", "Header", "TableHeader", "check_arrays", "read_table_file", "verify_table_file", "write_table_file"]

# -- What a table says about itself, checked before anything else reads it ----------------------------------------------


SPLITS = ("validation", "test", "train", "seconds")


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One way in which every architecture was trained.

    Attributes:
        name: what a query calls it, such as ``108``.
        epochs: passes over the training images, 0 = not known.
        images: training images that one training sees, 0 = not known.
    """

    name: str
    epochs: float = 0.0
    images: int = 0


@dataclass(frozen=True)
class TableHeader:
    """The facts in a table's header; see :class:`~archduel.tables.table.Table` for what they mean."""

    name: str
    space: str
    fidelities: tuple[Fidelity, ...]
    runs: int
    splits: tuple[str, ...]
    space_settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "validation_accuracy"
    columns: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, header: Mapping[str, Any]) -> TableHeader:
        """Returns the facts of a JSON header.

        Raises:
            TableError: that names the first entry of a wrong kind.
        """
        if header.get("format") != "archduel-table" or header.get("version") != 1:
            got = f"{header.get('format')!r:.80} version {header.get('version')!r:.80}"
            raise TableError(f"the header says {got}, this program reads 'archduel-table' version 1")
        for name, kind in _KINDS.items():
            if not isinstance(header.get(name), kind):
                raise TableError(
                    f"header entry {name!r} is {header.get(name)!r:.200}, expected {kind.__name__}"
                )
        splits = tuple(header["splits"])
        known = all(split in SPLITS for split in splits)
        if not known or "validation" not in splits or len(set(splits)) < len(splits):
            raise TableError(
                f"the header's splits are {splits!r:.200}, expected validation and some of {SPLITS}"
            )
        fidelities = tuple(_fidelity(item) for item in header["fidelities"])
        if len({fidelity.name for fidelity in fidelities}) < len(fidelities):
            raise TableError(f"{len(fidelities)} fidelities in the header do not have as many names")
        return cls(
            name=header["name"],
            space=header["space"],
            fidelities=fidelities,
            runs=header["runs"],
            splits=splits,
            space_settings=header["space_settings"],
            metric=header["metric"],
            columns={str(name): str(unit) for name, unit in header["columns"].items()},
            provenance=header["provenance"],
        )

    def write(self) -> dict[str, Any]:
        """Returns the facts as a JSON header."""
        return {
            "format": "archduel-table",
            "version": 1,
            "name": self.name,
            "space": self.space,
            "space_settings": dict(self.space_settings),
            "metric": self.metric,
            "fidelities": [{"name": f.name, "epochs": f.epochs, "images": f.images} for f in self.fidelities],
            "runs": self.runs,
            "splits": list(self.splits),
            "columns": dict(self.columns),
            "provenance": dict(self.provenance),
        }


_KINDS: dict[str, type] = {
    "name": str,
    "space": str,
    "space_settings": dict,
    "metric": str,
    "fidelities": list,
    "runs": int,
    "splits": list,
    "columns": dict,
    "provenance": dict,
}


LARGEST = 2.0**53
"""Epochs or images of a fidelity at most."""


def _fidelity(item: Any) -> Fidelity:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise TableError(f"fidelity {item!r:.200} in the header has no name")
    epochs, images = item.get("epochs", 0), item.get("images", 0)
    if not all(isinstance(n, (int, float)) and 0 <= n < LARGEST for n in (epochs, images)):
        raise TableError(f"fidelity {item!r:.200} in the header: epochs and images must be numbers from 0")
    return Fidelity(item["name"], float(epochs), int(images))


def check_arrays(facts: TableHeader, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises TableError unless ``arrays`` are exactly those that the header speaks of, with the right shapes."""
    choices = arrays.get("choices")
    if choices is None or choices.ndim != 2 or choices.dtype.str != "|u1" or not choices.size:
        raise TableError("the table has no architectures")
    n = len(choices)
    expected: dict[str, tuple[str, tuple[int, ...]]] = {"choices": ("|u1", choices.shape)}
    for split in facts.splits:
        expected[f"value/{split}"] = ("<f4", (len(facts.fidelities), facts.runs, n))
    for column in facts.columns:
        expected[f"column/{column}"] = ("<f8", (n,))
    if "fingerprints" in arrays:
        expected["fingerprints"] = ("|u1", (n, 16))
    for index in ("index", "fingerprint_index")[: 1 + ("fingerprints" in arrays)]:
        length = arrays[index].size if index in arrays else 0
        if length <= n or length & (length - 1):
            raise TableError(f"the {index} has {length} slots for {n} rows, expected a larger power of two")
        expected[index] = ("<u4", (length,))
    got = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    if got != expected or not facts.fidelities or facts.runs < 1:
        odd = sorted(name for name in {*got, *expected} if got.get(name) != expected.get(name))
        raise TableError(f"header and arrays disagree in {', '.join(odd) or 'fidelities or runs'}"[:300])


MAGIC = b"ADTABLE1"
ALIGN = 64
MAX_HEADER = 16 << 20
DTYPES = ("|u1", "<u4", "<f4", "<f8")

Header = dict[str, Any]
Arrays = dict[str, np.ndarray[Any, Any]]


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN


def _layout(arrays: Mapping[str, np.ndarray[Any, Any]]) -> tuple[dict[str, Any], int]:
    """Returns where each array lies and how long all are together."""
    places: dict[str, Any] = {}
    end = 0
    for name, array in arrays.items():
        if array.dtype.str not in DTYPES:
            raise TableError(
                f"array {name!r} has dtype {array.dtype.str}, a table file holds {', '.join(DTYPES)}"
            )
        start = _aligned(end)
        places[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "offset": start}
        end = start + array.nbytes
    return places, end


def _pieces(arrays: Mapping[str, np.ndarray[Any, Any]]) -> list[bytes | memoryview]:
    """Returns the bytes of the arrays with the gaps between them."""
    pieces: list[bytes | memoryview] = []
    end = 0
    for array in arrays.values():
        pieces.append(bytes(_aligned(end) - end))
        pieces.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        end = _aligned(end) + array.nbytes
    return pieces


def write_table_file(
    path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Writes the file so that a reader, or a killed writer, sees the old file or the new one, whole.

    Args:
        path: the file; its folder is made.
        header: JSON values; ``arrays``, ``size`` and ``sha256`` are added.
        arrays: name -> array of dtype uint8, uint32, float32 or float64, little-endian.

    Raises:
        TableError: for an array of another dtype or a file that cannot be written.
    """
    places, size = _layout(arrays)
    pieces = _pieces(arrays)
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    full = {**header, "arrays": places, "size": size, "sha256": digest.hexdigest()}
    text = json.dumps(full, allow_nan=False, ensure_ascii=False).encode()
    head = MAGIC + len(text).to_bytes(8, "little") + hashlib.sha256(text).digest()
    front = head.ljust(ALIGN, b"\0") + text
    try:
        write_atomic(path, [front.ljust(_aligned(len(front)), b"\0"), *pieces])
    except OSError as error:
        raise TableError(f"{path} cannot be written: {error}") from error


def _refuse(path: Path, why: str) -> NoReturn:
    raise TableError(f"{path} is not a whole table file: {why}; import it again from its source")


def _read_header(path: Path, data: mmap.mmap) -> tuple[Header, int]:
    """Returns the header and where the arrays begin."""
    if len(data) < ALIGN or data[:8] != MAGIC:
        _refuse(path, f"it begins with {data[:8]!r}, expected {MAGIC!r}")
    length = int.from_bytes(data[8:16], "little")
    if length > MAX_HEADER or ALIGN + length > len(data):
        _refuse(path, f"its header claims {length} bytes, the file has {len(data)}")
    text = data[ALIGN : ALIGN + length]
    if hashlib.sha256(text).digest() != data[16:48]:
        _refuse(path, "the header's checksum is wrong")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"the header is not JSON ({error})")
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), dict):
        _refuse(path, "the header lists no arrays")
    return header, _aligned(ALIGN + length)


def _natural(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _map_array(path: Path, data: mmap.mmap, start: int, name: str, place: Any) -> np.ndarray[Any, Any]:
    """Returns one array as a read-only view of the file."""
    if not isinstance(place, dict) or place.get("dtype") not in DTYPES:
        _refuse(path, f"array {name!r} is described by {place!r:.200}")
    shape, offset = place.get("shape"), place.get("offset")
    if not isinstance(shape, list) or len(shape) > 4 or not all(map(_natural, shape)) or not _natural(offset):
        _refuse(path, f"array {name!r} has shape {shape!r:.200} at {offset!r:.80}")
    dtype = np.dtype(place["dtype"])
    count = math.prod(shape)
    if offset % ALIGN or start + offset + count * dtype.itemsize > len(data):
        _refuse(
            path, f"array {name!r} of {count} values at {offset} does not lie in the file's {len(data)} bytes"
        )
    return np.frombuffer(data, dtype, count, start + offset).reshape(shape)


def read_table_file(path: Path) -> tuple[Header, Arrays]:
    """Returns the header and the arrays of a table file, the arrays as read-only views of a memory map.

    Raises:
        TableError: if the file is missing, truncated, longer than it says, or not a table file.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else None
    except (OSError, ValueError) as error:
        raise TableError(f"{path} cannot be read: {error}") from error
    if data is None:
        _refuse(path, "it is empty")
    header, start = _read_header(path, data)
    if not _natural(header.get("size")) or start + header["size"] != len(data):
        _refuse(path, f"it has {len(data)} bytes, its header says {start} + {header.get('size')!r:.80}")
    arrays = {name: _map_array(path, data, start, name, place) for name, place in header["arrays"].items()}
    return header, arrays


def verify_table_file(path: Path) -> str:
    """Returns the SHA-256 of the arrays after comparing it with the header's; reads the whole file.

    Raises:
        TableError: if they differ.
    """
    header, _ = read_table_file(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(os.fstat(file.fileno()).st_size - header["size"])
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != header.get("sha256"):
        _refuse(
            path,
            f"its arrays have SHA-256 {digest.hexdigest()}, the header says {header.get('sha256')!r:.80}",
        )
    return digest.hexdigest()
