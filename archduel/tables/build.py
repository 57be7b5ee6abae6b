"""From lists of architectures and numbers to a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archduel.core import Arch, Space
from archduel.errors import TableError
from archduel.tables.file import SPLITS, Fidelity, TableHeader
from archduel.tables.table import PAD, Table, build_index, digest

__all__ = ["make_table", "pack_choices"]

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
