"""What every reader returns: architectures and their numbers, before they become a table."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch
from archduel.errors import SettingError, TableError
from archduel.tables.file import Fidelity

__all__ = ["REPEATS", "Identity", "Labels", "merge_repeats"]

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
