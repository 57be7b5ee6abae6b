"""From published benchmark files, and from any CSV or parquet file, to table files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from archduel import registry
from archduel.core import Arch, Family, Space
from archduel.core.family import family_of
from archduel.errors import SettingError, TableError, reading, unknown
from archduel.tables.build import Labels, make_table
from archduel.tables.readers.bpe import read_bpe_workbook
from archduel.tables.readers.columns import (
    ColumnMap,
    arch_columns,
    column_names,
    parse_spec,
    read_columns,
    read_labels,
    row_reader,
)
from archduel.tables.readers.nasbench101 import read_ctnas_json, read_nasbench101
from archduel.tables.readers.nats import read_nats
from archduel.tables.readers.renas import read_renas_shards
from archduel.tables.store import ENDINGS, SUFFIX, table_path
from archduel.tables.table import Table
from archduel.text import printable

__all__ = ["FORMATS", "ImportPlan", "find_format", "import_columns", "import_published"]

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


@dataclass(frozen=True)
class _Source:
    """What a reader of a published format is given."""

    path: Path
    dataset: str
    halfway: bool


def _spaces(format_name: str) -> list[tuple[Family, Space]]:
    """Returns the spaces whose architectures a published format holds."""
    homes = (family_of(registry.entry("space", name)) for name in registry.names("space"))
    return [(home, home()) for home in homes if format_name in home.formats]


def _space(format_name: str) -> Any:
    """Returns the one space of a format."""
    ((_, space),) = _spaces(format_name)
    return space


def _nats(source: _Source) -> Labels:
    spaces = _spaces("nats")

    def read_arch(text: str) -> Arch:
        space: Any = next((space for home, space in spaces if re.match(home.text_pattern, text)), spaces[0][1])
        arch: Arch = space.read(text)
        return arch

    return read_nats(source.path, source.dataset, read_arch)


def _tfrecord(source: _Source) -> Labels:
    space = _space("tfrecord")
    return read_nasbench101(source.path, space.from_matrix, space.fingerprint, halfway=source.halfway)


def _ctnas(source: _Source) -> Labels:
    space = _space("ctnas")
    return read_ctnas_json(source.path, space.from_matrix, space.fingerprint)


def _renas(source: _Source) -> Labels:
    space = _space("renas")
    return read_renas_shards(source.path, space.from_matrix, space.fingerprint)


def _bpe(source: _Source) -> Labels:
    return read_bpe_workbook(source.path, _space("bpe").read)


FORMATS: dict[str, tuple[Callable[[_Source], Labels], str]] = {
    "tfrecord": (_tfrecord, "nasbench_full.tfrecord, nasbench_only108.tfrecord"),
    "ctnas": (_ctnas, "CTNAS's nas_bench.json"),
    "nats": (_nats, "NAS-Bench-201 .pth, NATS-Bench .pickle.pbz2, a folder or .tar of cells"),
    "bpe": (_bpe, "BPE's .xlsx workbooks"),
    "renas": (_renas, "ReNAS's folder of data_*.npy and label_*.npy"),
}
"""Name -> (reader, what it reads)."""


def find_format(path: Path) -> str:
    """Returns the format of a file or folder by its name: one of ``FORMATS``, or ``columns``.

    Raises:
        TableError: if there is no such file, or nothing known by that name.
    """
    if path.is_dir():
        names = [child.name for child in path.iterdir()]
        if any(re.fullmatch(r"data_\d+\.npy", name) for name in names):
            return "renas"
        if any(re.fullmatch(r"\d{1,6}(\.pickle\.pbz2|-FULL\.pth)", name) for name in names):
            return "nats"
        raise TableError(
            f"{path} holds neither cells of NATS-Bench (000011.pickle.pbz2) nor ReNAS's data_0.npy"
        )
    if not path.is_file():
        raise TableError(f"{path} does not exist")
    for ending in reversed(path.suffixes):
        if ending.lower() in ENDINGS:
            return ENDINGS[ending.lower()]
    known = "; ".join(what for _, what in FORMATS.values())
    raise TableError(f"{path}: nothing is known by that ending; known: CSV, parquet; {known}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _facts(path: Path) -> dict[str, Any]:
    """Returns name, size and SHA-256 of a source file (of a folder: its name)."""
    if path.is_dir():
        return {"source": printable(path.name)}
    return {"source": printable(path.name), "source_bytes": path.stat().st_size, "source_sha256": _sha256(path)}


def _save(
    labels: Labels, source: Path, plan: ImportPlan, space: Any, space_settings: Mapping[str, Any]
) -> Table:
    """Writes what a reader found as a table file and returns the table."""
    target = plan.target()
    empty = [
        split
        for split, values in labels.values.items()
        if split != "validation" and not (values == values).any()
    ]
    table = make_table(
        labels.archs,
        {split: values for split, values in labels.values.items() if split not in empty},
        name=plan.name or target.name.removesuffix(SUFFIX),
        fidelities=labels.fidelities,
        columns=labels.columns,
        units=labels.units,
        space=space,
        fingerprints=labels.fingerprints,
        space_settings=space_settings,
        provenance={**_facts(source), **labels.facts, **plan.provenance},
    )
    table.write(target)
    return Table.open(target, space=space)


def import_published(
    source: Path, plan: ImportPlan, *, format_: str = "", dataset: str = "cifar10", halfway: bool = False
) -> Table:
    """Writes a published benchmark file as a table file and returns the table.

    Args:
        source: the file or folder.
        plan: where the table goes.
        format_: one of ``FORMATS``; empty = by the file's name.
        dataset: of NAS-Bench-201 and NATS-Bench: ``cifar10``, ``cifar100``, ``ImageNet16-120``.
        halfway: of NAS-Bench-101: also keep what was measured after half of the epochs.

    Raises:
        TableError: for a damaged or hostile file; nothing is written then.
        UnknownNameError: for a format or data set that there is not.
    """
    plan.target()
    name = format_ or find_format(source)
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    with reading(source, TableError):
        labels = FORMATS[name][0](_Source(source, dataset, halfway))
    space = registry.make("space", labels.archs[0].space)
    return _save(labels, source, replace(plan, provenance={"format": name, **plan.provenance}), space, {})


def _space_settings(source: Path, columns: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the space: a mobile space decides the resolution if the file has several."""
    settings = dict(given)
    if "resolution" in columns and "resolutions" not in settings:
        cells = set(map(str, read_columns(source, [columns["resolution"]])[columns["resolution"]]))
        if len(cells) > 1 and all(cell.isdecimal() for cell in cells):
            settings["resolutions"] = sorted(map(int, cells))
    return settings


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
    join: tuple[Path, str] | None = None,
    space_settings: Mapping[str, Any] | None = None,
) -> Table:
    """Writes a CSV or parquet file as a table file and returns the table.

    Args:
        source: the file.
        space_name: the space on the menu.
        plan: where the table goes.
        columns: which columns spell the architecture (see :func:`archduel.tables.readers.columns.arch_columns`).
        values: split -> texts ``COLUMN``, ``COLUMN,COLUMN`` (runs) or ``FIDELITY=COLUMN,...``.
        extra: columns kept as numbers that a search may read.
        percent: accuracies are percentages.
        repeats: what to do with repeated architectures: ``error``, ``first``, ``mean``, ``runs``.
        join: a second file with further columns, and the column that tells which rows belong together.
        space_settings: what the space's constructor is given.

    Raises:
        TableError: for a file, row or value that cannot be used; nothing is written then.
        UnknownNameError: for a space or column that there is not.
    """
    plan.target()
    if "validation" not in values:
        raise SettingError("say which column holds validation accuracies: `--validation COLUMN`")
    if not space_name:
        raise SettingError(
            "say which space the architectures are of: `--space SPACE` (`archduel list spaces`)"
        )
    if not source.is_file():
        raise TableError(f"{source} does not exist, or is a folder")
    with reading(source, TableError):
        named = arch_columns(space_name, columns or {}, column_names(source))
        settings = _space_settings(source, named, space_settings or {})
    try:
        space = registry.make("space", space_name, **settings)
    except TypeError as error:
        raise SettingError(f"space {space_name!r} has no such setting: {error}") from error
    specs = {split: parse_spec(texts) for split, texts in values.items()}
    map_ = ColumnMap(tuple(named.values()), specs, dict.fromkeys(extra, ""), percent, repeats, join)
    fingerprint = cache(space.fingerprint)
    identity = fingerprint if family_of(registry.entry("space", space_name)).one_by_fingerprint else None
    with reading(source, TableError):
        labels = read_labels(source, map_, row_reader(space, named), identity=identity)
    labels = replace(labels, fingerprints=[fingerprint(arch) for arch in labels.archs])
    facts = {"format": "columns", "columns": specs, "percent": percent}
    return _save(labels, source, replace(plan, provenance={**facts, **plan.provenance}), space, settings)
