"""Any CSV or parquet file with a column map: which columns name the architecture, which hold what numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch
from archduel.errors import InvalidArchError, SettingError, TableError, unknown
from archduel.estimators.importers.labels import Identity, Labels, merge_repeats
from archduel.estimators.table_header import Fidelity

__all__ = ["ColumnMap", "ValueSpec", "column_names", "parse_spec", "read_columns", "read_labels"]

ValueSpec = Mapping[str, Sequence[str]]
"""Fidelity name -> the columns of its runs."""

ROW_OF = Callable[[Mapping[str, str]], Arch]


@dataclass(frozen=True)
class ColumnMap:
    """Which columns mean what.

    Attributes:
        arch: columns that together name the architecture.
        values: split -> fidelity -> columns of the runs.
        extra: columns kept as numbers that a search may read -> unit.
        percent: accuracies are percentages.
        repeats: what to do with an architecture that is there twice: ``error``, ``first``, ``mean`` or ``runs``.
        join: a second file with further columns, and the column that both files have to tell which rows belong together.
    """

    arch: Sequence[str]
    values: Mapping[str, ValueSpec]
    extra: Mapping[str, str] = field(default_factory=dict)
    percent: bool = False
    repeats: str = "error"
    join: tuple[Path, str] | None = None


def parse_spec(texts: Sequence[str]) -> dict[str, list[str]]:
    """Returns fidelity -> columns of ``COLUMN``, ``COLUMN,COLUMN`` (runs) or ``FIDELITY=COLUMN,...`` texts.

    Raises:
        SettingError: for an empty name or a fidelity given twice.
    """
    spec: dict[str, list[str]] = {}
    for text in texts:
        fidelity, equals, columns = text.rpartition("=")
        names = [name.strip() for name in columns.split(",")]
        key = fidelity.strip() if equals else "full"
        if not key or not all(names) or key in spec:
            raise SettingError(
                f"{text!r}: expected COLUMN[,COLUMN...] or FIDELITY=COLUMN[,COLUMN...], each fidelity once"
            )
        spec[key] = names
    return spec


def _read_csv(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            places = {name: _place(path, header, name) for name in names}
            columns: dict[str, list[str]] = {name: [] for name in names}
            for row in reader:
                if len(row) != len(header):
                    raise TableError(
                        f"{path} line {reader.line_num} has {len(row)} fields, the first line {len(header)}"
                    )
                for name, place in places.items():
                    columns[name].append(row[place])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} cannot be read as CSV: {error}") from error
    return columns


def _place(path: Path, header: Sequence[str], name: str) -> int:
    if list(header).count(name) != 1:
        if name in header:
            raise TableError(f"{path} has {list(header).count(name)} columns called {name!r}")
        raise unknown(f"column of {path.name}", name, header)
    return header.index(name)


def _csv_header(path: Path) -> list[str]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file, strict=True), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} cannot be read as CSV: {error}") from error


def _parquet(path: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    """Returns pyarrow's parquet module and the errors it raises."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise TableError(
            f"{path} is a parquet file: `pip install 'archduel[parquet]'`, or convert it to CSV"
        ) from error
    return pq, (OSError, pa.ArrowException)


def _read_parquet(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    pq, errors = _parquet(path)
    try:
        file = pq.ParquetFile(path)
        for name in names:
            _place(path, file.schema_arrow.names, name)
        table = file.read(columns=list(names))
        return {name: table.column(name).to_pylist() for name in names}
    except errors as error:
        raise TableError(f"{path} cannot be read as parquet: {error}") from error


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Returns the columns ``names`` of a CSV (texts) or parquet file (values), in the file's order.

    Raises:
        TableError: if the file cannot be read or its lines differ in length.
        UnknownNameError: for a column that it does not have.
    """
    wanted = list(dict.fromkeys(names))
    return (
        _read_parquet(path, wanted) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path, wanted)
    )


def column_names(path: Path) -> list[str]:
    """Returns the names of a file's columns.

    Raises:
        TableError: if the file cannot be read.
    """
    if path.suffix.lower() not in (".parquet", ".pq"):
        return _csv_header(path)
    pq, errors = _parquet(path)
    try:
        return list(pq.ParquetFile(path).schema_arrow.names)
    except errors as error:
        raise TableError(f"{path} cannot be read as parquet: {error}") from error


def _joined(path: Path, names: Sequence[str], join: tuple[Path, str] | None) -> dict[str, list[Any]]:
    """Returns columns of a file and of the one joined to it, in the first file's order; rows without a partner are empty."""
    if join is None:
        return read_columns(path, names)
    other, key = join
    own = set(column_names(path))
    data = read_columns(path, [key, *(name for name in names if name in own)])
    more = read_columns(other, [key, *(name for name in names if name not in own)])
    partner = {str(value): row for row, value in enumerate(more[key])}
    if len(partner) < len(more[key]):
        raise TableError(f"{other}: column {key!r} has the same value in several rows, so it cannot join")
    rows = [partner.get(str(value)) for value in data[key]]
    return {**{name: [None if row is None else more[name][row] for row in rows] for name in more}, **data}


def _numbers(path: Path, name: str, column: Sequence[Any]) -> NDArray[np.float64]:
    """Returns (N,) numbers; empty cells are nan."""
    numbers = np.empty(len(column))
    for i, cell in enumerate(column):
        try:
            numbers[i] = math.nan if cell is None or cell == "" else float(cell)
        except (TypeError, ValueError):
            raise TableError(f"{path} row {i + 1}, column {name!r}: {cell!r:.80} is not a number") from None
    return numbers


def _fractions(path: Path, name: str, column: NDArray[np.float64], percent: bool) -> NDArray[np.float64]:
    """Returns accuracies as fractions of 1 after checking that they are in the unit that was said."""
    top = np.nanmax(column, initial=-math.inf)
    if percent and top <= 1:
        raise TableError(
            f"{path}: column {name!r} has no value above 1 ({top:g}), so it is no percentage; say so"
        )
    if not percent and top > 1:
        raise TableError(
            f"{path}: column {name!r} has values up to {top:g}; if they are percentages, say `--percent`"
        )
    return column / 100 if percent else column


def _archs(path: Path, data: Mapping[str, Sequence[Any]], names: Sequence[str], row_of: ROW_OF) -> list[Arch]:
    archs = []
    for i, cells in enumerate(zip(*(data[name] for name in names))):
        try:
            archs.append(row_of({name: str(cell) for name, cell in zip(names, cells)}))
        except InvalidArchError as error:
            raise TableError(f"{path} row {i + 1}: {error}") from error
    return archs


def _fidelities(values: Mapping[str, ValueSpec]) -> list[Fidelity]:
    """Returns all fidelities, by number where names are numbers."""
    names = dict.fromkeys(name for spec in values.values() for name in spec)
    made = [Fidelity(name, float(name) if name.isdecimal() else 0.0) for name in names]
    return sorted(made, key=lambda fidelity: fidelity.epochs)


def read_labels(path: Path, columns: ColumnMap, row_of: ROW_OF, *, identity: Identity = None) -> Labels:
    """Returns the architectures and numbers of a file.

    Args:
        path: a CSV or parquet file.
        columns: what its columns mean.
        row_of: makes an architecture of the cells of ``columns.arch``.
        identity: what makes two rows the same architecture; None = equality.

    Raises:
        TableError: for a cell that cannot be read, values in another unit, or repeated architectures.
        UnknownNameError: for a column that is not there.
    """
    listed = [name for spec in columns.values.values() for runs in spec.values() for name in runs]
    leaked = sorted(
        set(columns.extra) & {n for runs in columns.values.get("test", {}).values() for n in runs}
    )
    if leaked:
        raise SettingError(
            f"column {leaked[0]!r} holds test values and cannot be a column that a search reads"
        )
    data = _joined(path, [*columns.arch, *listed, *columns.extra], columns.join)
    archs = _archs(path, data, columns.arch, row_of)
    if not archs:
        raise TableError(f"{path} has no rows")
    fidelities = _fidelities(columns.values)
    n_runs = max(len(runs) for spec in columns.values.values() for runs in spec.values())
    values = {}
    for split, spec in columns.values.items():
        values[split] = array = np.full((len(fidelities), n_runs, len(archs)), np.nan)
        for position, fidelity in enumerate(fidelities):
            for run, name in enumerate(spec.get(fidelity.name, ())):
                column = _numbers(path, name, data[name])
                array[position, run] = (
                    column if split == "seconds" else _fractions(path, name, column, columns.percent)
                )
    extra = {name: _numbers(path, name, data[name]) for name in columns.extra}
    labels = Labels(archs, values, fidelities, extra, dict(columns.extra))
    return merge_repeats(labels, columns.repeats, identity)
