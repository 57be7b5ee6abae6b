"""Latencies that came back from another device: the file is read, compared with the kit it must belong to, and doubted where that pays."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Scale, parse
from archduel.core.disk import read_json
from archduel.errors import DataError, RunError, brief, in_one_line
from archduel.text import typed

__all__ = ["FEWEST", "UNITS", "Kit", "KitNetwork", "Measured", "check_plausible", "check_unit", "kit_named", "kit_of", "kit_record", "read_kit", "read_measurements"]

FEWEST = 10
"""Networks that must have been measured: of fewer, no interval can be told."""
UNITS = {"ms": 1.0, "s": 1000.0, "us": 0.001}
"""Unit of the latencies in a file -> milliseconds."""
LARGEST_FILE = 4 << 20
FORMAT = 1


@dataclass(frozen=True)
class KitNetwork:
    """A network of a kit.

    Attributes:
        network: its name; the file is ``NAME.onnx``.
        sha256: of the file.
        arch: the architecture as text.
        scale: fields of :class:`archduel.core.Scale`.
    """

    network: str
    sha256: str
    arch: str
    scale: Mapping[str, int]

    @property
    def built(self) -> tuple[Arch, Scale]:
        """Architecture and scale."""
        return parse(self.arch), Scale(**self.scale)


@dataclass(frozen=True)
class Kit:
    """The networks of a kit.

    Attributes:
        kit: short hash of its networks.
        networks: from small to large.
        facts: how they were chosen.
    """

    kit: str
    networks: tuple[KitNetwork, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


def kit_record(kit: Kit) -> dict[str, Any]:
    """Returns the content of ``kit.json``."""
    return {"format": FORMAT, "kit": kit.kit, "facts": dict(kit.facts), "networks": [asdict(each) for each in kit.networks]}


def kit_of(record: Mapping[str, Any]) -> Kit:
    """Returns what :func:`kit_record` wrote.

    Raises:
        DataError: if something of it is missing or no architecture.
    """
    try:
        entries = tuple(KitNetwork(str(e["network"]), str(e["sha256"]), str(e["arch"]), dict(e["scale"])) for e in record["networks"])
        for entry in entries:
            entry.built  # noqa: B018 - must be readable
        return Kit(str(record["kit"]), entries, dict(record.get("facts", {})))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the list of a kit's networks is damaged ({in_one_line(error)}); make the kit again") from error


def read_kit(place: Path) -> Kit:
    """Returns the kit in a folder, or in its ``kit.json``.

    Raises:
        DataError: if there is none.
        DamagedError: if the file cannot be read.
    """
    path = place / "kit.json" if place.is_dir() else place
    if not path.is_file():
        raise DataError(f"{place} is no kit (no kit.json); `archduel device kit {typed(place)}` makes one")
    return kit_of(read_json(path, {"kit": str, "networks": list}))


@dataclass(frozen=True)
class Measured:
    """How long networks took.

    Attributes:
        rows: network -> median in milliseconds.
        spread: network -> distance of the quartiles in milliseconds, where the file says it.
        facts: what the file says of machine, threads, runtime.
        missing: networks of the kit without a row.
    """

    rows: Mapping[str, float]
    spread: Mapping[str, float]
    facts: Mapping[str, str]
    missing: tuple[str, ...]


def _table(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file as texts.

    Raises:
        DataError: for what is none.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes; measurements of a kit are a few lines")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a CSV file: {in_one_line(error)}") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [row for row in csv.DictReader(io.StringIO(text), delimiter=delimiter) if any(value for value in row.values())]
    except csv.Error as error:
        raise DataError(f"{path} is no CSV file: {error}") from error
    if not rows:
        raise DataError(f"{path} has no rows; measure.py of the kit writes one for each network")
    return [{str(key).strip(): str(value or "").strip() for key, value in row.items() if key is not None} for row in rows]


def kit_named(path: Path) -> str:
    """Returns the kit that a file of measurements says it is of, empty where it does not say."""
    names = {row.get("kit", "") for row in _table(path)}
    if len(names) > 1:
        raise DataError(f"{path} mixes measurements of {len(names)} kits ({', '.join(sorted(names)[:3])}); give those of one")
    return names.pop()


def read_measurements(path: Path, kit: Kit, *, unit: str = "ms") -> Measured:
    """Returns the latencies in a file that a kit's ``measure.py`` wrote, checked against the kit.

    Args:
        path: a CSV file with the columns ``network``, ``sha256`` and ``median_ms``.
        kit: what was to be measured.
        unit: of the numbers in the file: ms, s or us.

    Raises:
        DataError: for other networks, repeated rows, values that are no latencies, or fewer than 10 networks.
    """
    rows = _table(path)
    _check_columns(path, rows[0])
    known = {entry.network: entry for entry in kit.networks}
    measured: dict[str, float] = {}
    spread: dict[str, float] = {}
    for row in rows:
        name = row["network"].removesuffix(".onnx")
        if name not in known:
            raise DataError(f"{path}: {brief(name)} is no network of the kit {kit.kit}, which has {kit.networks[0].network} to {kit.networks[-1].network}")
        if row.get("sha256") and row["sha256"].lower() != known[name].sha256:
            raise DataError(f"{path}: {name} was measured with another file than the kit's (SHA-256 {row['sha256'][:8]}, expected {known[name].sha256[:8]}); is it of another kit?")
        if name in measured:
            raise DataError(f"{path}: {name} stands there twice; give one row a network")
        measured[name] = _latency(path, name, row["median_ms"]) * UNITS[unit]
        if row.get("iqr_ms"):
            spread[name] = _latency(path, name, row["iqr_ms"], least=0.0) * UNITS[unit]
    if len(measured) < min(FEWEST, len(known)):
        raise DataError(f"{path} has {len(measured)} of the kit's {len(known)} networks, at least {FEWEST} are needed; run measure.py to its end")
    facts = {name: rows[0][name] for name in ("machine", "threads", "batch", "onnxruntime", "provider") if rows[0].get(name)}
    for name in facts:
        if len({row.get(name) for row in rows}) > 1:
            raise DataError(f"{path}: {name} differs from row to row; measure all networks on one device in one way")
    return Measured(measured, spread, facts, tuple(name for name in known if name not in measured))


def _check_columns(path: Path, row: Mapping[str, str]) -> None:
    for name in ("network", "median_ms"):
        if name not in row:
            raise DataError(f"{path} has no column {name!r}, it has {', '.join(map(repr, row))}; expected the file that measure.py writes")


def _latency(path: Path, name: str, text: str, least: float = 1e-9) -> float:
    """Returns a latency above 0."""
    try:
        value = float(text)
    except ValueError:
        comma = "; decimals are written with a point" if "," in text else ""
        raise DataError(f"{path}: {name} has the latency {brief(text)}, expected milliseconds as a number{comma}") from None
    if not math.isfinite(value) or value < least:
        raise DataError(f"{path}: {name} has the latency {brief(text)}, expected a finite number of milliseconds above 0; leave the row out where it failed")
    return value


SLOWEST, SLOWEST_WITH_RUNTIME, FASTEST = 1e3, 3e4, 2e9
"""Multiply-adds a millisecond that a device can make of the kit's largest network: a small microcontroller makes 10,000, the slowest machine that
onnxruntime runs on 100,000, a large GPU on one image 200 million."""
SHORTEST_OPERATOR = 1e-4
"""Milliseconds that an operator takes at least, however little it computes: to call it costs a thousand cycles or so."""
APART = 30.0
"""Factor between a latency and what all others lead one to expect above which a row is taken for one in another unit."""


def check_plausible(
    measured: Measured, macs: Mapping[str, float], numbers: Mapping[str, float], expected: NDArray[np.float64] | Sequence[float]
) -> None:
    """Refuses latencies that no device has, and single rows in another unit.

    Args:
        measured: the latencies.
        macs: network -> multiply-adds of one image.
        numbers: network -> operators.
        expected: milliseconds for each row, in order, as all others tell them.

    Raises:
        DataError: saying what was seen and what is probably meant.
    """
    rows = measured.rows
    ratios = {name: value / float(other) for (name, value), other in zip(rows.items(), expected)}
    worst = max(ratios, key=lambda name: abs(math.log(ratios[name])))
    if not 1 / APART <= ratios[worst] <= APART:
        much = f"{ratios[worst]:,.0f} times as long as" if ratios[worst] > 1 else f"{1 / ratios[worst]:,.0f} times shorter than"
        raise DataError(
            f"{worst} takes {rows[worst]:.3g} ms, {much} the other networks lead one to expect: is this row in another unit, or was it disturbed? "
            "Measure it again, or leave the row out"
        )
    largest = max(rows, key=lambda name: macs[name])
    rate = macs[largest] / rows[largest]
    hasty = rate > FASTEST or min(rows[name] / max(1.0, numbers[name]) for name in rows) < SHORTEST_OPERATOR
    if hasty or rate < (SLOWEST_WITH_RUNTIME if measured.facts.get("onnxruntime") else SLOWEST):
        unit, hint = ("seconds", "s") if hasty else ("microseconds", "us")
        raise DataError(
            f"{min(rows.values()):.3g} to {max(rows.values()):.3g} ms, where {largest} makes {macs[largest]:.3g} multiply-adds in {rows[largest]:.3g} ms, are no "
            f"latencies that a device has: are these {unit}? Then add --unit {hint}"
        )


def check_unit(unit: str) -> None:
    """Raises RunError for an unknown unit."""
    if unit not in UNITS:
        raise RunError(f"--unit {brief(unit)}: expected {', '.join(UNITS)}")
