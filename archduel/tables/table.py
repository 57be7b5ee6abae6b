"""A tabular benchmark as a value: architectures and what training them gave, found in microseconds, without torch."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Space
from archduel.errors import InvalidArchError, TableError, unknown
from archduel.tables.file import Header, TableHeader, check_arrays, read_table_file, write_table_file

__all__ = ["EMPTY", "PAD", "ByteIndex", "Rows", "Table", "build_index", "digest", "mean_of_runs"]

# -- Finding a row by its bytes: an open-addressing index of uint32 row numbers that lives in the table file ------------
#
# Nothing is built when a table is loaded: a look-up is one CRC-32, one or two probes and one comparison of bytes.


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


PAD = 255
"""Fills the rows of choices that are shorter than the longest."""

MEMO = 1 << 20
Rows = Sequence[Arch] | NDArray[np.integer[Any]] | None
"""Which rows: architectures, row numbers, or None for all in the table's order."""


def digest(fingerprint: str) -> bytes:
    """Returns 16 bytes that stand for a fingerprint: those it spells if it is 32 hexadecimal digits, else a hash."""
    if len(fingerprint) == 32:
        try:
            return bytes.fromhex(fingerprint)
        except ValueError:
            pass
    import hashlib

    return hashlib.blake2b(fingerprint.encode(), digest_size=16).digest()


def mean_of_runs(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the mean over the first axis of ``values`` (R, N), missing runs (nan) left out."""
    if len(values) == 1:
        return values[0].astype(np.float64)
    total: NDArray[np.float64] = np.sum(values, axis=0, dtype=np.float64)
    if not np.isnan(total.sum()):
        return total / len(values)
    there = np.count_nonzero(~np.isnan(values), axis=0)
    total = np.nansum(values, axis=0, dtype=np.float64)
    return np.where(there > 0, total / np.maximum(there, 1), np.nan)


class Table:
    """Architectures of one space and their accuracies at every fidelity and run; reads a file by memory map.

    Accuracies are fractions of 1. ``test`` values are in the table so that the end of a comparison can read them; an
    estimator gets a :meth:`locked` copy that has none.

    Attributes:
        name: such as ``nasbench201/cifar10``.
        space_name: the space's menu name.
        space_settings: what its constructor is given.
        space: the space itself, or None: then only the very architectures of the table are found, not equal ones.
        fidelities: what trainings there are, cheapest first.
        runs: trainings of each architecture at each fidelity at most (missing ones are nan).
        splits: which of ``validation``, ``test``, ``train``, ``seconds`` there are.
        columns: further numbers of an architecture -> unit (``params``, ``latency_ms`` ...).
        provenance: where the numbers are from.
    """

    def __init__(
        self,
        header: Header,
        arrays: Mapping[str, NDArray[Any]],
        *,
        space: Space | None = None,
        path: Path | None = None,
    ) -> None:
        facts = TableHeader.read(header)
        check_arrays(facts, arrays)
        self.header = facts
        self.space = space
        self.path = path
        self.name, self.space_name, self.space_settings = facts.name, facts.space, facts.space_settings
        self.metric, self.fidelities, self.runs = facts.metric, facts.fidelities, facts.runs
        self.splits, self.columns, self.provenance = facts.splits, facts.columns, facts.provenance
        self._arrays = dict(arrays)
        self._choices = arrays["choices"]
        self._n, self._width = self._choices.shape
        self._index = ByteIndex(self._choices, arrays["index"])
        self._equal = (
            ByteIndex(arrays["fingerprints"], arrays["fingerprint_index"])
            if "fingerprints" in arrays
            else None
        )
        self._found: dict[Arch, int] = {}
        self._positions = {fidelity.name: i for i, fidelity in enumerate(self.fidelities)}

    @classmethod
    def open(cls, path: str | Path, *, space: Space | None = None) -> Table:
        """Returns the table in a file.

        Raises:
            TableError: if the file is not a whole table file.
        """
        header, arrays = read_table_file(Path(path))
        try:
            return cls(header, arrays, space=space, path=Path(path))
        except TableError as error:
            raise TableError(f"{path}: {error}") from error

    def write(self, path: str | Path) -> None:
        """Writes the table to a file, atomically."""
        write_table_file(Path(path), self.header.write(), self._arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (
            self.path,
            None if self.path else (self.header.write(), self._arrays),
            self.space,
            self.splits,
        )

    def __len__(self) -> int:
        return self._n

    def __contains__(self, arch: Arch) -> bool:
        return self.find(arch) >= 0

    def locked(self) -> Table:
        """Returns the table without its test values."""
        arrays = {name: array for name, array in self._arrays.items() if name != "value/test"}
        header = self.header.write()
        header["splits"] = [split for split in self.splits if split != "test"]
        return Table(header, arrays, space=self.space, path=self.path)

    @cached_property
    def archs(self) -> list[Arch]:
        """All architectures in the table's order (made when first asked for)."""
        name, rows = self.space_name, self._choices.tolist()
        if (self._choices == PAD).any():
            rows = [row[: row.index(PAD)] if PAD in row else row for row in rows]
        return [Arch(name, tuple(row)) for row in rows]

    def keys(self) -> list[bytes]:
        """Returns the choices of all rows as bytes, in the table's order: a tenth of the memory that architectures take."""
        data, width = self._choices.tobytes(), self._width
        return [data[at : at + width].rstrip(b"\xff") for at in range(0, len(data), width)]

    def arch(self, row: int) -> Arch:
        """Returns the architecture of one row."""
        choices = self._choices[row].tolist()
        return Arch(self.space_name, tuple(choices[: choices.index(PAD)] if PAD in choices else choices))

    def find(self, arch: Arch) -> int:
        """Returns the row of ``arch`` or of an equal architecture (by the space's fingerprint), or -1.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        if arch.space != self.space_name:
            raise InvalidArchError(
                f"{arch} belongs to {arch.space!r}, table {self.name!r} holds {self.space_name!r}"
            )
        try:
            key = bytes(arch.choices)
        except ValueError:  # no choice above 255 is in any table
            return -1
        row = -1 if b"\xff" in key else self._index.find(key.ljust(self._width, b"\xff"))
        if row >= 0 or self._equal is None or self.space is None:
            return row
        return self._find_equal(arch, self.space, self._equal)

    def _find_equal(self, arch: Arch, space: Space, index: ByteIndex) -> int:
        row = self._found.get(arch)
        if row is None:
            if len(self._found) >= MEMO:
                self._found.clear()
            row = self._found[arch] = index.find(digest(space.fingerprint(arch)))
        return row

    def rows(self, archs: Sequence[Arch]) -> NDArray[np.int64]:
        """Returns (N,) row numbers.

        Raises:
            TableError: for an architecture that is not in the table.
        """
        found = np.fromiter((self.find(arch) for arch in archs), np.int64, len(archs))
        if (found < 0).any():
            missing = archs[int(np.argmax(found < 0))]
            raise TableError(f"{missing} is not among the {len(self)} architectures of table {self.name!r}")
        return found

    def position(self, fidelity: str | None) -> int:
        """Returns the place of a fidelity in ``fidelities``; None = the last, the most expensive.

        Raises:
            UnknownNameError: if there is none of that name.
        """
        if fidelity is None:
            return len(self.fidelities) - 1
        if fidelity not in self._positions:
            raise unknown(f"fidelity of table {self.name!r}", fidelity, self._positions)
        return self._positions[fidelity]

    def values(self, split: str) -> NDArray[np.float32]:
        """Returns the raw values (F, R, N) float32 of a split: fidelities, runs, rows; nan = missing.

        Raises:
            TableError: if the table has no such split (a locked one has no test values).
        """
        if split not in self.splits:
            why = "; test values are locked during a search" if split == "test" else ""
            raise TableError(
                f"table {self.name!r} has no {split} values, it has {', '.join(self.splits)}{why}"
            )
        return self._arrays[f"value/{split}"]

    def read(
        self, split: str, archs: Rows = None, *, fidelity: str | None = None, run: int | None = None
    ) -> NDArray[np.float64]:
        """Returns (N,) values of a split.

        Args:
            split: ``validation``, ``test``, ``train`` or ``seconds``.
            archs: which rows.
            fidelity: its name; None = the most expensive.
            run: its number from 0; None = the mean of those there are.

        Raises:
            TableError: for a split, run or architecture that the table does not have.
        """
        values = self.values(split)[self.position(fidelity)]  # (R, N)
        if run is not None and not 0 <= run < self.runs:
            raise TableError(f"run {run} was asked for, table {self.name!r} has runs 0 to {self.runs - 1}")
        values = values if run is None else values[run : run + 1]
        return mean_of_runs(values if archs is None else values[:, self._take(archs)])

    def _take(self, archs: Sequence[Arch] | NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        return archs if isinstance(archs, np.ndarray) else self.rows(archs)

    def validation(
        self, archs: Rows = None, *, fidelity: str | None = None, run: int | None = None
    ) -> NDArray[np.float64]:
        """Returns (N,) validation accuracies (see :meth:`read`)."""
        return self.read("validation", archs, fidelity=fidelity, run=run)

    def test(
        self, archs: Rows = None, *, fidelity: str | None = None, run: int | None = None
    ) -> NDArray[np.float64]:
        """Returns (N,) test accuracies (see :meth:`read`): for the end of a comparison, never for a search."""
        return self.read("test", archs, fidelity=fidelity, run=run)

    def seconds(
        self, archs: Rows = None, *, fidelity: str | None = None, run: int | None = None
    ) -> NDArray[np.float64]:
        """Returns (N,) seconds that one training took (see :meth:`read`)."""
        return self.read("seconds", archs, fidelity=fidelity, run=run)

    def column(self, name: str, archs: Rows = None) -> NDArray[np.float64]:
        """Returns (N,) numbers of a column.

        Raises:
            UnknownNameError: if there is none of that name.
        """
        if name not in self.columns:
            raise unknown(f"column of table {self.name!r}", name, self.columns)
        values = self._arrays[f"column/{name}"]
        return values.copy() if archs is None else values[self._take(archs)]

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """(N,) numbers that are equal for architectures with equal fingerprints (row numbers if none are stored)."""
        if "fingerprints" not in self._arrays:
            return np.arange(len(self))
        keys = np.ascontiguousarray(self._arrays["fingerprints"]).view("<u8")  # (N, 2)
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def best_validation(self) -> float:
        """The highest mean validation accuracy at the most expensive fidelity; nan if there is none."""
        values = self.validation()
        return (
            float(np.max(values, initial=-np.inf, where=~np.isnan(values)))
            if (values == values).any()
            else np.nan
        )


def _again(
    path: Path | None, parts: tuple[Header, Any] | None, space: Space | None, splits: Sequence[str]
) -> Table:
    """Returns a table in another process: opened again, or from its parts."""
    table = Table.open(path, space=space) if path else Table(parts[0], parts[1], space=space)  # type: ignore[index]
    return table if "test" in splits or "test" not in table.splits else table.locked()
