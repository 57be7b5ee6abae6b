"""Tabular benchmarks by name or file: open, import, list, export."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from archduel import registry
from archduel.apps.cells import arch_columns, row_reader
from archduel.core import Space
from archduel.errors import SettingError, TableError, unknown
from archduel.estimators.importers.columns import ColumnMap, parse_spec, read_labels
from archduel.estimators.importers.labels import Labels
from archduel.estimators.table import Table
from archduel.estimators.table_build import make_table
from archduel.estimators.table_file import read_table_file
from archduel.estimators.table_header import TableHeader

__all__ = ["ImportPlan", "describe", "import_columns", "known_tables", "open_table", "save_labels", "table_folder", "table_path"]

SUFFIX = ".table"
ONE_BY_FINGERPRINT = ("nasbench101", "darts")
"""Spaces whose sources count architectures with one fingerprint as one (isomorphic cells; a DARTS node's two edges have no
order); in the others every architecture was trained for itself."""


def table_folder() -> Path:
    """Returns the folder of this user's tables: ``$ARCHDUEL_TABLES``, else ``archduel/tables`` among the user's data."""
    if folder := os.environ.get("ARCHDUEL_TABLES"):
        return Path(folder)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "archduel" / "tables"


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
        name_or_path: a ``.table`` file, or the name of one of :func:`known_tables`, such as ``digits201``.

    Raises:
        TableError: if the file is not a whole table file, or of a space that this program does not know.
        UnknownNameError: if there is no such file or name.
    """
    path = Path(name_or_path)
    if not path.is_file():
        known = known_tables()
        if str(name_or_path) not in known:
            raise unknown("table", str(name_or_path), known, command="archduel table list")
        path = known[str(name_or_path)]
    facts = TableHeader.read(read_table_file(path)[0])
    if facts.space not in registry.names("space"):
        raise TableError(f"{path} holds space {facts.space!r}; known: {', '.join(registry.names('space'))}")
    return Table.open(path, space=registry.make("space", facts.space, **facts.space_settings))


@dataclass(frozen=True)
class ImportPlan:
    """Where an imported table goes and what is noted in it.

    Attributes:
        out: the file; None = under ``name`` in the user's tables.
        name: what the table is called; empty = the file's name.
        provenance: further facts to keep (citation, licence, note).
    """

    out: Path | None = None
    name: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def target(self) -> Path:
        """Returns the file to write.

        Raises:
            SettingError: if neither ``out`` nor ``name`` is given.
        """
        if self.out is None and not self.name:
            raise SettingError("say where the table goes: `--out FILE.table` or `--name NAME`")
        return self.out if self.out is not None else table_path(self.name)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def source_facts(path: Path) -> dict[str, Any]:
    """Returns name, size and SHA-256 of a source file (of a folder: its name)."""
    if path.is_dir():
        return {"source": path.name}
    return {"source": path.name, "source_bytes": path.stat().st_size, "source_sha256": _sha256(path)}


def save_labels(
    labels: Labels, space: Space, source: Path, plan: ImportPlan, space_settings: Mapping[str, Any] | None = None
) -> Table:
    """Writes what a reader found as a table file and returns the table."""
    target = plan.target()
    table = make_table(
        labels.archs,
        labels.values,
        name=plan.name or target.name.removesuffix(SUFFIX),
        fidelities=labels.fidelities,
        columns=labels.columns,
        units=labels.units,
        space=space,
        fingerprints=labels.fingerprints,
        space_settings=space_settings,
        provenance={**source_facts(source), **labels.facts, **plan.provenance},
    )
    table.write(target)
    return Table.open(target, space=space)


def describe(table: Table) -> str:
    """Returns what a person wants to know of a table, a few lines of text."""
    best = table.best_validation
    lines = [
        f"{table.name or 'table'}: {len(table):,} architectures of {table.space_name}",
        f"  fidelities  {', '.join(f.name for f in table.fidelities)} (the last is the default)",
        f"  runs        {table.runs}",
        f"  values      {', '.join(table.splits)}",
        f"  best        {100 * best:.2f} % validation, mean of runs",
    ]
    if table.columns:
        lines.insert(-1, f"  columns     {', '.join(table.columns)}")
    facts = [f"  {key:<11} {value}" for key, value in table.provenance.items() if isinstance(value, (str, int, float))]
    where = [f"  file        {table.path}"] if table.path else []
    return "\n".join([*lines, *facts, *where])


def import_columns(
    source: Path,
    space_name: str,
    plan: ImportPlan,
    *,
    columns: Mapping[str, str] | None = None,
    values: Mapping[str, Sequence[str]],
    extra: Sequence[str] = (),
    percent: bool = False,
    repeats: str = "error",
    space_settings: Mapping[str, Any] | None = None,
) -> Table:
    """Writes a CSV or parquet file as a table file and returns the table.

    Args:
        source: the file.
        space_name: the space on the menu.
        plan: where the table goes.
        columns: which columns spell the architecture (see :func:`archduel.apps.cells.arch_columns`).
        values: split -> texts ``COLUMN``, ``COLUMN,COLUMN`` (runs) or ``FIDELITY=COLUMN,...``.
        extra: columns kept as numbers that a search may read.
        percent: accuracies are percentages.
        repeats: what to do with repeated architectures: ``error``, ``first``, ``mean``, ``runs``.
        space_settings: what the space's constructor is given.

    Raises:
        TableError: for a file, row or value that cannot be used.
        UnknownNameError: for a space or column that there is not.
    """
    plan.target()
    if "validation" not in values:
        raise SettingError("say which column holds validation accuracies: `--validation COLUMN`")
    space = registry.make("space", space_name, **(space_settings or {}))
    named = arch_columns(space_name, columns or {})
    specs = {split: parse_spec(texts) for split, texts in values.items()}
    map_ = ColumnMap(tuple(named.values()), specs, dict.fromkeys(extra, ""), percent, repeats)
    fingerprint = cache(space.fingerprint)
    identity = fingerprint if space_name in ONE_BY_FINGERPRINT else None
    labels = read_labels(source, map_, row_reader(space, named), identity=identity)
    labels = replace(labels, fingerprints=[fingerprint(arch) for arch in labels.archs])
    labels.facts.update({"format": "columns", "columns": specs, "percent": percent})
    return save_labels(labels, space, source, plan, space_settings)
