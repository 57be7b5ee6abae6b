"""Tabular benchmarks by name or file: open, import, list, export."""

from __future__ import annotations

import csv
import io
import os
from importlib import resources
from pathlib import Path

from archduel import registry
from archduel.core.disk import user_folder, write_atomic
from archduel.errors import SettingError, TableError, as_path, reading, unknown
from archduel.tables.file import TableHeader, read_table_file, verify_table_file
from archduel.tables.table import Table
from archduel.text import printable, typed

__all__ = [
    "ENDINGS",
    "SUFFIX",
    "describe",
    "export_csv",
    "known_tables",
    "open_table",
    "show_table",
    "table_folder",
    "table_path",
]

SUFFIX = ".table"
ENDINGS = {
    ".tfrecord": "tfrecord",
    ".json": "ctnas",
    ".pth": "nats",
    ".pbz2": "nats",
    ".tar": "nats",
    ".xlsx": "bpe",
    ".csv": "columns",
    ".parquet": "columns",
    ".pq": "columns",
}
"""Ending of a file that `archduel table import` reads -> its format."""


def table_folder() -> Path:
    """Returns the folder of this user's tables: ``$ARCHDUEL_TABLES``, else ``archduel/tables`` among the user's data."""
    if folder := os.environ.get("ARCHDUEL_TABLES"):
        return Path(folder)
    return user_folder("XDG_DATA_HOME", ".local/share", "ARCHDUEL_TABLES") / "archduel" / "tables"


def _bundled() -> Path:
    return Path(str(resources.files("archduel") / "tables"))


def known_tables() -> dict[str, Path]:
    """Returns name -> file of the user's tables and of those that come with the package."""
    found: dict[str, Path] = {}
    for folder in (_bundled(), table_folder()):
        for path in sorted(folder.rglob(f"*{SUFFIX}")) if folder.is_dir() else []:
            found[path.relative_to(folder).as_posix().removesuffix(SUFFIX)] = path
    return found


def table_path(name: str) -> Path:
    """Returns where a table called ``name`` is kept.

    Raises:
        SettingError: for a name that would leave the folder.
    """
    parts = name.split("/")
    if not all(part and not part.startswith(".") and part.isprintable() for part in parts) or "\\" in name:
        raise SettingError(f"table name {name!r} must be words separated by '/', such as nasbench201/cifar10")
    return table_folder().joinpath(*parts[:-1], parts[-1] + SUFFIX)


def open_table(name_or_path: str | Path) -> Table:
    """Returns a table, together with its space, by memory map.

    Args:
        name_or_path: a ``.table`` file, or the name of one of :func:`known_tables`.

    Raises:
        TableError: if the file is not a whole table file, or of a space that this program does not know.
        UnknownNameError: if there is no such file or name.
    """
    path = Path(as_path("the table", name_or_path, TableError))
    if not path.is_file():
        known = known_tables()
        if str(name_or_path) not in known and path.suffix.lower() in (SUFFIX, *ENDINGS):
            raise TableError(f"there is no file {path}; names of known tables: {', '.join(known)} (`archduel table list`)")
        if str(name_or_path) not in known:
            raise unknown("table", str(name_or_path), known, command="archduel table list")
        path = known[str(name_or_path)]
    if path.suffix.lower() in ENDINGS:
        raise TableError(f"{path} is not a table yet: `archduel table import {typed(path)} --out {typed(path.stem + SUFFIX)} ...` makes one of it")
    with reading(path, TableError):
        facts = TableHeader.read(read_table_file(path)[0])
    if facts.space not in registry.names("space"):
        raise TableError(f"{path} holds space {facts.space!r}; known: {', '.join(registry.names('space'))}")
    try:
        space = registry.make("space", facts.space, **facts.space_settings)
    except (TypeError, ValueError, KeyError) as error:
        raise TableError(
            f"{path}: space {facts.space!r} cannot be made as its header says: {error}"
        ) from error
    with reading(path, TableError):
        return Table.open(path, space=space)


def describe(table: Table) -> str:
    """Returns what a person wants to know of a table, a few lines of text."""
    best = table.best_validation
    fidelities = ", ".join(fidelity.name for fidelity in table.fidelities)
    lines = [
        f"{table.name or 'table'}: {len(table):,} architectures of {table.space_name}",
        f"  fidelities  {fidelities} (the last is the default)",
        f"  runs        {table.runs}",
        f"  values      {', '.join(table.splits)}",
        *([f"  columns     {', '.join(table.columns)}"] if table.columns else []),
        f"  best        {100 * best:.2f} % validation, mean of runs",
    ]
    for key, value in table.provenance.items():
        if isinstance(value, (str, int, float)):
            lines.append(f"  {key:<11} {value}")
    # what a file says of itself may hold anything, also what would steer a terminal
    lines = [printable(line) for line in lines]
    where = [f"  file        {table.path}"] if table.path else []
    return "\n".join([*lines, *where])


def show_table(name_or_path: str | Path, *, verify: bool = False) -> str:
    """Returns what :func:`describe` says of a table; with ``verify`` after reading all of it and comparing its SHA-256."""
    table = open_table(name_or_path)
    text = describe(table)
    if verify and table.path is not None:
        text += f"\n  verified    SHA-256 {verify_table_file(table.path)}"
    return text


def export_csv(name_or_path: str | Path, out: str | Path, *, test: bool = False) -> int:
    """Writes a table as CSV (architecture, its text, every value and column) and returns the number of rows.

    Args:
        name_or_path: see :func:`open_table`.
        out: the file, written atomically.
        test: also write test values.
    """
    table = open_table(name_or_path)
    splits = [split for split in table.splits if test or split != "test"]
    columns = {
        f"{split}_{fidelity.name}_run{run}": table.read(split, fidelity=fidelity.name, run=run)
        for split in splits
        for fidelity in table.fidelities
        for run in range(table.runs)
    }
    columns |= {name: table.column(name) for name in table.columns}
    write = getattr(table.space, "write", None)
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["arch", *(["text"] if write else []), *columns])
    for row, arch in enumerate(table.archs):
        texts = [str(arch), *([write(arch)] if write else [])]
        numbers = [column[row] for column in columns.values()]
        writer.writerow([*texts, *("" if n != n else repr(float(n)) for n in numbers)])
    write_atomic(Path(out), file.getvalue().encode())
    return len(table)
