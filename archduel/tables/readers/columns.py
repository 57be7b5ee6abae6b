"""Any CSV or parquet file with a column map: which columns name the architecture, which hold what numbers."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel import registry
from archduel.core import Arch, parse
from archduel.core.family import family_of
from archduel.errors import InvalidArchError, SettingError, TableError, unknown
from archduel.tables.build import Identity, Labels, merge_repeats
from archduel.tables.file import Fidelity

__all__ = ["ColumnMap", "ValueSpec", "arch_columns", "column_names", "parse_spec", "read_columns", "read_integers", "read_labels", "read_matrix", "read_words", "row_reader"]

# -- How files spell cells: matrices, lists of operations and lists of numbers as text. Nothing is evaluated ------------


LONGEST = 10_000
MIXED = 0.1  # how far apart percentages below 1 may lie: networks that failed all guess one class


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


# -- Which columns of a file spell an architecture of a space, and how they are read ------------------------------------


def arch_columns(space_name: str, given: Mapping[str, str], available: Sequence[str] = ()) -> dict[str, str]:
    """Returns part -> column for a space: those given, and the usual names of the others.

    ``arch`` alone is enough in every space: a column of the space's own text or of ``space:1.0.4`` texts. A mobile network's
    ``resolution`` is a part only if it is given or there is such a column.

    Raises:
        SettingError: for a part that architectures of this space do not have.
    """
    home = family_of(registry.entry("space", space_name))
    usual = {"arch": ""} if "arch" in given else home.columns
    wrong = sorted(set(given) - set(usual))
    if wrong:
        raise SettingError(
            f"{space_name}: no column {wrong[0]!r} is needed here, it reads {', '.join(usual)}"
        )
    named = {**usual, **given}
    absent = {part for part in home.optional_columns if part not in given and named.get(part) not in available}
    return {part: column for part, column in named.items() if part not in absent}


def row_reader(space: Any, columns: Mapping[str, str]) -> Callable[[Mapping[str, str]], Arch]:
    """Returns a function that makes an architecture of one row's texts (column name -> text).

    It raises InvalidArchError for text that is none.
    """
    if "arch" in columns:
        column = columns["arch"]
        return lambda row: _read(space, row[column])
    if "adjacency" in columns:
        adjacency, ops = columns["adjacency"], columns["ops"]
        return lambda row: _matrix(space, row[adjacency], row[ops])
    return lambda row: _mobile(space, {part: read_integers(row[name]) for part, name in columns.items()})


def _read(space: Any, text: str) -> Arch:
    if text.strip().startswith(f"{space.name}:"):
        arch = parse(text)
        space.validate(arch)
        return arch
    arch = space.read(text)
    return arch  # type: ignore[no-any-return]


def _matrix(space: Any, adjacency: str, ops: str) -> Arch:
    matrix, names = read_matrix(adjacency), read_words(ops)
    if len(names) == len(matrix) - 2:
        names = ["input", *names, "output"]
    return space.from_matrix(matrix, names)  # type: ignore[no-any-return]


def _mobile(space: Any, parts: Mapping[str, list[int]]) -> Arch:
    spec = {
        "ks": parts["kernels"],
        "e": parts["expansions"],
        "d": parts["depths"],
        "r": parts.get("resolution"),
    }
    return space.read(json.dumps(spec))  # type: ignore[no-any-return]


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
                if not any(field.strip() for field in row) and len(row) < 2:
                    continue  # a blank line, which many programs leave at the end
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
    small = column[(column > 0) & (column <= 1)]
    if percent and small.size > 1 and (small.max() - small.min() > MIXED or small.size * 10 > np.isfinite(column).sum()):
        raise TableError(
            f"{path}: column {name!r} has values up to {top:g}, but {small.size} of {small.min():g} to {small.max():g}, which look like "
            "fractions; give one unit"
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
    made = [Fidelity(name, float(name) if name.isdecimal() and len(name) < 10 else 0.0) for name in names]
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
