"""From lists of architectures and numbers to a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archduel.core import Arch, Space
from archduel.errors import SettingError, TableError
from archduel.tables.file import SPLITS, Fidelity, TableHeader
from archduel.tables.table import PAD, Table, build_index, digest

__all__ = ["REPEATS", "Identity", "Labels", "make_table", "merge_repeats", "pack_choices"]

# -- What every reader returns: architectures and their numbers, before they become a table -----------------------------


Identity = Callable[[Arch], Hashable] | None
REPEATS = ("error", "first", "mean", "runs")


@dataclass(frozen=True)
class Labels:
    """Architectures and numbers as a reader found them.

    Attributes:
        archs: N architectures.
        values: split -> (F, R, N) float, accuracies as fractions, nan = missing.
        fidelities: F trainings, cheapest first.
        columns: name -> (N,) further numbers.
        units: column -> unit.
        fingerprints: N texts where the file has them.
        facts: what to note about the source.
    """

    archs: list[Arch]
    values: dict[str, NDArray[Any]]
    fidelities: list[Fidelity]
    columns: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    fingerprints: list[str] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def merge_repeats(labels: Labels, rule: str, identity: Identity = None) -> Labels:
    """Returns the labels with each architecture once, where it first stands.

    Args:
        labels: what a reader found; fingerprints are not kept.
        rule: ``error``; ``first`` keeps the first row; ``mean`` averages the numbers; ``runs`` makes each further row
            another run (its columns are averaged).
        identity: what makes two architectures the same; None = equality.

    Raises:
        TableError: for repeated architectures under ``error``.
        SettingError: for another rule.
    """
    if rule not in REPEATS:
        raise SettingError(f"repeats is {rule!r}, expected one of {', '.join(REPEATS)}")
    groups: dict[Hashable, list[int]] = {}
    for row, arch in enumerate(labels.archs):
        groups.setdefault(identity(arch) if identity else arch, []).append(row)
    if len(groups) == len(labels.archs):
        return labels
    if rule == "error":
        row = next(rows[1] for rows in groups.values() if len(rows) > 1)
        raise TableError(
            f"row {row + 1} repeats {labels.archs[row]} ({len(labels.archs) - len(groups)} repeated rows); "
            "say what to do with them: `--repeats first`, `mean` or `runs`"
        )
    rows_of = list(groups.values())
    most = 1 if rule == "first" else max(map(len, rows_of))
    which = np.full((most, len(rows_of)), -1)  # (K, M): the k-th row of each architecture, -1 = there is none
    for place, rows in enumerate(rows_of):
        which[: min(most, len(rows)), place] = rows[:most]
    return Labels(
        archs=[labels.archs[rows[0]] for rows in rows_of],
        values={split: _merged(values, which, rule) for split, values in labels.values.items()},
        fidelities=labels.fidelities,
        columns={name: _mean(column[which], which >= 0) for name, column in labels.columns.items()},
        units=labels.units,
        facts={**labels.facts, "repeated_rows": len(labels.archs) - len(rows_of), "repeats": rule},
    )


def _merged(values: NDArray[Any], which: NDArray[np.int64], rule: str) -> NDArray[np.float64]:
    """Returns (F, R, M), or (F, K * R, M) where repeated rows are further runs."""
    fidelities, runs, _ = values.shape
    rows = np.where(which >= 0, values[:, :, which], np.nan)  # (F, R, K, M)
    if rule == "runs":
        return rows.swapaxes(1, 2).reshape(fidelities, -1, which.shape[1])  # (F, K * R, M)
    return _mean(rows.reshape(fidelities * runs, *which.shape).swapaxes(0, 1)).reshape(fidelities, runs, -1)


def _mean(values: NDArray[np.float64], there: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Returns the mean over the first axis of what is there and not nan; nan where nothing is."""
    known = ~np.isnan(values) if there is None else there & ~np.isnan(values)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


ROUNDING = 1e-6
"""Accuracies are kept as float32, so one may exceed 1 by this much."""


def pack_choices(archs: Sequence[Arch]) -> NDArray[np.uint8]:
    """Returns the choices (N, W) uint8, shorter ones filled with 255.

    Raises:
        TableError: if there are none, of more than one space, or with a choice above 254.
    """
    if not archs:
        raise TableError("a table needs at least one architecture, none was given")
    names = {arch.space for arch in archs}
    if len(names) > 1:
        raise TableError(f"a table holds one space, these architectures belong to {sorted(names)}")
    width = max(1, max(len(arch.choices) for arch in archs))
    try:
        data = b"".join(bytes(arch.choices).ljust(width, b"\xff") for arch in archs)
    except ValueError:
        data = b"\xff"
    if data.count(b"\xff") != sum(width - len(arch.choices) for arch in archs):
        raise TableError(f"a choice is above {PAD - 1}; table files hold smaller ones only")
    return np.frombuffer(data, np.uint8).reshape(len(archs), width)


def _split_values(name: str, given: ArrayLike, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Returns ``given`` as (F, R, N) float32 after checking shape and range."""
    values = np.asarray(given, np.float64)
    if values.size == math.prod(shape) and values.ndim == 1:
        values = values.reshape(shape)
    if values.shape != shape:
        raise TableError(
            f"{name} has shape {values.shape}, expected {shape} (fidelities, runs, architectures)"
        )
    top = math.inf if name == "seconds" else 1 + ROUNDING
    wrong = ~(((values >= 0) & (values <= top) & np.isfinite(values)) | np.isnan(values))
    if wrong.any():
        row = int(np.argmax(wrong.any(axis=(0, 1))))
        got = values[wrong][0]
        hint = "" if name == "seconds" else "; accuracies are fractions of 1 (percent: say so when importing)"
        raise TableError(f"{name} of row {row} is {got:g}, expected 0 to {top:.0f}{hint}")
    return values.astype(np.float32)


def _check_given(
    archs: Sequence[Arch], values: Mapping[str, ArrayLike], fidelities: Sequence[Fidelity]
) -> None:
    if len(set(archs)) < len(archs):
        raise TableError(f"{len(archs) - len(set(archs))} of {len(archs)} architectures are there twice")
    if "validation" not in values or not set(values) <= set(SPLITS):
        known = ", ".join(SPLITS)
        raise TableError(f"got values of {sorted(values)}, expected validation and some of {known}")
    if len({fidelity.name for fidelity in fidelities}) < len(fidelities):
        raise TableError(f"fidelities {[fidelity.name for fidelity in fidelities]} have equal names")


def _identity(
    archs: Sequence[Arch], space: Space | None, fingerprints: Sequence[str] | None
) -> dict[str, NDArray[Any]]:
    """Returns the arrays by which an architecture is found."""
    choices = pack_choices(archs)
    arrays: dict[str, NDArray[Any]] = {"choices": choices, "index": build_index(choices)}
    if fingerprints is None and space is not None:
        fingerprints = [space.fingerprint(arch) for arch in archs]
    if fingerprints is not None:
        if len(fingerprints) != len(archs):
            raise TableError(f"{len(fingerprints)} fingerprints for {len(archs)} architectures")
        packed = np.frombuffer(b"".join(map(digest, fingerprints)), np.uint8).reshape(-1, 16)
        arrays |= {"fingerprints": packed, "fingerprint_index": build_index(packed)}
    return arrays


def _column(name: str, given: ArrayLike, n: int) -> NDArray[np.float64]:
    numbers = np.asarray(given, np.float64)
    if numbers.shape != (n,):
        raise TableError(f"column {name!r} has shape {numbers.shape}, expected ({n},)")
    return numbers


def make_table(
    archs: Sequence[Arch],
    values: Mapping[str, ArrayLike],
    *,
    name: str = "",
    fidelities: Sequence[Fidelity] = (Fidelity("full"),),
    columns: Mapping[str, ArrayLike] | None = None,
    units: Mapping[str, str] | None = None,
    space: Space | None = None,
    fingerprints: Sequence[str] | None = None,
    space_settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Table:
    """Returns a table in memory; ``Table.write`` puts it in a file.

    Args:
        archs: N distinct architectures of one space.
        values: split -> (F, R, N) numbers, or (N,) where there is one fidelity and run; nan = missing.
        name: what the table is called.
        fidelities: F trainings, cheapest first.
        columns: name -> (N,) numbers; a search may read them, so none may come from test images.
        units: column -> unit.
        space: gives fingerprints where ``fingerprints`` does not; then equal architectures are found too.
        fingerprints: N texts.
        space_settings: what the space's constructor is given.
        provenance: where the numbers are from, JSON values.

    Raises:
        TableError: for repeated architectures, wrong shapes, or values out of range.
    """
    _check_given(archs, values, fidelities)
    first = np.asarray(values["validation"])
    shape = (len(fidelities), first.shape[1] if first.ndim == 3 else 1, len(archs))
    splits = tuple(split for split in SPLITS if split in values)
    arrays = _identity(archs, space, fingerprints)
    arrays |= {f"value/{split}": _split_values(split, values[split], shape) for split in splits}
    arrays |= {
        f"column/{column}": _column(column, some, len(archs)) for column, some in (columns or {}).items()
    }
    facts = TableHeader(
        name=name,
        space=archs[0].space,
        fidelities=tuple(fidelities),
        runs=shape[1],
        splits=splits,
        space_settings=dict(space_settings or {}),
        columns={column: (units or {}).get(column, "") for column in columns or {}},
        provenance=dict(provenance or {}),
    )
    return Table(facts.write(), arrays, space=space)
