"""A list of pictures on disk that is itself on disk, so that millions of them take no memory: names, labels, places.

The pictures are files in class folders, loose files with a list of labels (:mod:`archduel.data.flat`), or members of tar
archives (:mod:`archduel.data.shards`), which are read in place.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from archduel.data.cache import publish
from archduel.errors import DataError

__all__ = ["Catalogue", "Item", "open_catalogue", "write_catalogue"]

FORMAT = 1
ARRAYS = {"ends": np.int64, "labels": np.int32, "shard": np.int32, "start": np.int64, "size": np.int64}
BLOCK = 65_536  # items kept in memory while a list is written

Item = tuple[str, int, int, int, int]
"""Name, label, and for members of archives: number of the archive, first byte, bytes (else -1, 0, 0)."""


@dataclass
class Catalogue:
    """An opened list; the arrays are memory-mapped.

    Attributes:
        folder: where the list is.
        root: what names are relative to.
        classes: names in label order.
        labels: (N,) int32.
        key: SHA-256 of names and labels.
        shards: names of the archives, empty for plain files.
    """

    folder: Path
    root: Path
    classes: tuple[str, ...]
    labels: NDArray[np.int32]
    key: str
    shards: tuple[str, ...]
    _arrays: dict[str, NDArray[Any]]
    _names: NDArray[np.uint8]
    _opened: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, row: int) -> str:
        """Returns the name of picture ``row``."""
        ends = self._arrays["ends"]
        begin = int(ends[row - 1]) if row else 0
        return bytes(self._names[begin : int(ends[row])]).decode("utf-8", "surrogateescape")

    def open(self, row: int) -> BinaryIO:
        """Returns the bytes of picture ``row`` as an open file.

        Raises:
            OSError: if it cannot be read.
        """
        shard = int(self._arrays["shard"][row])
        if shard < 0:
            return open(self.root / self.name(row), "rb")
        if shard not in self._opened:
            self._opened[shard] = os.open(self.root / self.shards[shard], os.O_RDONLY)
        size = int(self._arrays["size"][row])
        data = os.pread(self._opened[shard], size, int(self._arrays["start"][row]))
        if len(data) != size:
            raise OSError(f"{self.shards[shard]} is cut off")
        return io.BytesIO(data)

    def close(self) -> None:
        """Closes the archives."""
        for descriptor in self._opened.values():
            os.close(descriptor)
        self._opened.clear()


def write_catalogue(
    final: Path, items: Iterable[Item], root: Path, classes: Iterable[str], shards: Iterable[str] = ()
) -> None:
    """Writes a list from a stream of items, whole or not at all.

    Raises:
        DataError: for no items.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name[:16]}.", dir=final.parent))
    try:
        n, key = _write_arrays(temporary, items)
        if n == 0:
            raise DataError(f"{root} holds no pictures")
        facts = {
            "format": FORMAT, "root": str(root), "classes": list(classes), "shards": list(shards), "n": n, "key": key,
        }  # fmt: skip
        (temporary / "catalogue.json").write_text(json.dumps(facts))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    publish(temporary, final)


def _write_arrays(folder: Path, items: Iterable[Item]) -> tuple[int, str]:
    """Writes names and arrays a block at a time; returns how many items there were, and a SHA-256 of names and labels."""
    total = hashlib.sha256()
    files = {name: open(folder / f"{name}.bin", "wb") for name in (*ARRAYS, "names")}  # noqa: SIM115 - closed below
    n, end = 0, 0
    block: list[Item] = []

    def flush() -> None:
        """Writes the block and adds it to the hash."""
        nonlocal end, n
        names = [item[0].encode("utf-8", "surrogateescape") for item in block]
        ends = end + np.cumsum([len(name) for name in names], dtype=np.int64)
        values = np.array([item[1:] for item in block], np.int64).T  # (4, B)
        columns = {"ends": ends, **dict(zip(("labels", "shard", "start", "size"), values))}
        for name, column in columns.items():
            files[name].write(column.astype(ARRAYS[name]).tobytes())
        files["names"].write(b"".join(names))
        total.update(b"\0".join(names) + columns["labels"].tobytes())
        end, n = int(ends[-1]), n + len(block)
        block.clear()

    try:
        for item in items:
            block.append(item)
            if len(block) == BLOCK:
                flush()
        if block:
            flush()
    finally:
        for file in files.values():
            file.close()
    return n, total.hexdigest()


def open_catalogue(folder: Path) -> Catalogue | None:
    """Returns the list in ``folder``, or None where there is none that can be used."""
    try:
        facts = json.loads((folder / "catalogue.json").read_text())
        if facts["format"] != FORMAT:
            return None
        arrays = {name: np.memmap(folder / f"{name}.bin", kind, "r") for name, kind in ARRAYS.items()}
        names = np.memmap(folder / "names.bin", np.uint8, "r")
    except (OSError, ValueError, KeyError):
        return None
    if any(len(array) != facts["n"] for array in arrays.values()):
        return None
    return Catalogue(
        folder, Path(facts["root"]), tuple(facts["classes"]), arrays["labels"], facts["key"], tuple(facts["shards"]), dict(arrays), names
    )
