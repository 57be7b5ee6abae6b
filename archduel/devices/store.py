"""Devices whose latencies are known here, by name: kept with the user's data, one file each, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from archduel.core import Arch, Scale
from archduel.core.disk import read_json, user_folder, write_atomic
from archduel.devices.measurements import (
    Kit,
    Measured,
    check_plausible,
    check_unit,
    kit_named,
    kit_of,
    kit_record,
    read_kit,
    read_measurements,
)
from archduel.errors import DataError, SettingError, brief, unknown

if TYPE_CHECKING:
    from archduel.devices.predictor import LatencyPredictor

__all__ = ["Device", "Expected", "add_device", "device_folder", "device_key", "known_devices", "open_device", "remember_kit", "remove_device"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SEPARATOR = "@"
"""Between a device's name and the digest of its measurements, in the settings of a run."""
SUFFIX = ".device.json"
KITS = "kits"
RESTLESS = 0.5
"""Distance of the quartiles over the median above which a measurement is said to be disturbed."""


class Expected(NamedTuple):
    """How long a network is expected to take on a device, in milliseconds a batch as it was measured.

    Attributes:
        ms: the most probable latency.
        low: exceeded with probability 0.95.
        high: not exceeded with probability 0.95.
    """

    ms: float
    low: float
    high: float


@dataclass(frozen=True)
class Device:
    """A device and what was measured on it.

    Attributes:
        name: what it is called.
        kit: the networks that were to be measured.
        measured: how long they took.
    """

    name: str
    kit: Kit
    measured: Measured

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change when anything measured does."""
        return hashlib.sha256(json.dumps(self.record(), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def key(self) -> str:
        """Name and digest, as the settings of a run name the device."""
        return f"{self.name}{SEPARATOR}{self.digest}"

    def record(self) -> dict[str, Any]:
        """Returns the device as JSON."""
        measured = self.measured
        return {
            "device": self.name, "kit": kit_record(self.kit), "median_ms": dict(measured.rows), "iqr_ms": dict(measured.spread),
            "facts": dict(measured.facts), "missing": list(measured.missing),
        }  # fmt: skip

    @cached_property
    def predictor(self) -> LatencyPredictor:
        """What the measurements tell of all other networks."""
        from archduel.devices.operators import operator_columns
        from archduel.devices.predictor import LatencyPredictor

        built = {entry.network: entry.built for entry in self.kit.networks}
        columns = np.array([operator_columns(*built[name]) for name in self.measured.rows])
        return LatencyPredictor(columns, list(self.measured.rows.values()))

    @cached_property
    def _expect(self) -> Any:
        from archduel.devices.operators import operator_columns

        def expect(arch: Arch, scale: Scale) -> Expected:
            found = self.predictor.predict(operator_columns(arch, scale)[None])
            return Expected(float(found.ms[0]), float(found.low[0]), float(found.high[0]))

        return lru_cache(maxsize=100_000)(expect)

    def latency(self, arch: Arch, scale: Scale) -> Expected:
        """Returns what is expected of a network, which is neither trained nor run; it takes milliseconds.

        Raises:
            InvalidArchError: for an architecture that its space does not hold.
        """
        expected: Expected = self._expect(arch, scale)
        return expected

    @property
    def sentences(self) -> list[str]:
        """What is to be said of the measurements: how good the prediction is, what is missing, what was disturbed."""
        n, predictor = len(self.measured.rows), self.predictor
        low, high = np.exp(-predictor.error), np.exp(predictor.error)
        told = [
            f"{n} of {len(self.kit.networks)} networks, {min(self.measured.rows.values()):.3g} to {max(self.measured.rows.values()):.3g} ms"
            f"{self._where}",
            f"left out one by one, they are foretold with a usual error of {100 * (high - 1):.0f} % ({low:.2f} to {high:.2f} times)",
        ]
        if self.measured.missing:
            told.append(f"not measured: {', '.join(self.measured.missing)}; fewer networks make wider intervals")
        restless = [name for name, spread in self.measured.spread.items() if spread > RESTLESS * self.measured.rows[name]]
        if restless:
            told.append(f"other programs disturbed {len(restless)} of them ({', '.join(restless[:3])} ...): measure again on an idle device for narrower intervals")
        return told

    @property
    def _where(self) -> str:
        facts = self.measured.facts
        runtime = f"onnxruntime {facts['onnxruntime']}" if facts.get("onnxruntime") else ""
        threads = f"{facts['threads']} thread{'s' * (facts['threads'] != '1')}" if facts.get("threads") else ""
        batch = f"{facts['batch']} images a pass" if facts.get("batch", "1") != "1" else ""
        parts = [part for part in (facts.get("machine", ""), runtime, threads, batch) if part]
        return f" ({'; '.join(parts)})" if parts else ""


# -- On disk ----------------------------------------------------------------------------------------------------------------


def device_folder() -> Path:
    """Returns the folder of this user's devices: ``$ARCHDUEL_DEVICES``, else ``archduel/devices`` among the user's data."""
    if folder := os.environ.get("ARCHDUEL_DEVICES"):
        return Path(folder).expanduser()
    return user_folder("XDG_DATA_HOME", ".local/share", "ARCHDUEL_DEVICES") / "archduel" / "devices"


def _path(name: str) -> Path:
    """Returns the file of a device; names cannot lead out of the folder.

    Raises:
        SettingError: for what is no name.
    """
    if not NAME.fullmatch(name):
        raise SettingError(f"{brief(name)} is no name for a device: up to 64 letters, digits, '_', '-' and '.', such as pi4")
    return device_folder() / f"{name}{SUFFIX}"


def known_devices() -> list[str]:
    """Returns the names of the devices that were added."""
    folder = device_folder()
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


def open_device(name: str) -> Device:
    """Returns a device by name, or by ``NAME@DIGEST``, which is this device with just these measurements.

    Raises:
        UnknownNameError: for a device that was not added.
        SettingError: if it was measured again since.
        DamagedError: if its file cannot be read.
    """
    name, _, digest = name.partition(SEPARATOR)
    path = _path(name)
    if not path.is_file():
        raise unknown("device", name, known_devices(), command="archduel device list")
    device = _of_record(read_json(path, {"device": str, "kit": dict, "median_ms": dict}, remedy=f"add it again: `archduel device add {name}`"))
    if digest and device.digest != digest:
        raise SettingError(f"device {name} was measured again since ({device.digest}, the run began with {digest}); start a new run, or add the former measurements again")
    return device


def device_key(name: str) -> str:
    """Returns ``NAME@DIGEST`` of a device, see :func:`open_device`."""
    return open_device(name).key


def _of_record(record: Mapping[str, Any]) -> Device:
    rows, spread = ({str(k): float(v) for k, v in record.get(part, {}).items()} for part in ("median_ms", "iqr_ms"))
    facts = {str(k): str(v) for k, v in record.get("facts", {}).items()}
    return Device(str(record["device"]), kit_of(record["kit"]), Measured(rows, spread, facts, tuple(map(str, record.get("missing", ())))))


def remember_kit(kit: Kit) -> None:
    """Keeps the list of a kit's networks, so that measurements that come back are compared with it."""
    write_atomic(device_folder() / KITS / f"{kit.kit}.json", json.dumps(kit_record(kit)).encode())


def add_device(name: str, measurements: Path, *, kit: Path | None = None, unit: str = "ms", replace: bool = False) -> Device:
    """Checks measurements that came back from a device and keeps it under a name.

    Args:
        name: what the device will be called.
        measurements: the CSV file that the kit's ``measure.py`` wrote there.
        kit: folder of the kit; None = one that was made by this user, as the file says.
        unit: of the latencies in the file: ms, s or us.
        replace: whether a device of that name may be lost.

    Raises:
        DataError: for measurements of other networks, and values that cannot be.
        SettingError: for a name that is taken or none.
    """
    path = _path(name)
    if path.exists() and not replace:
        raise SettingError(f"there is a device {name!r} already; --replace takes its place, `archduel device show {name}` shows it")
    check_unit(unit)
    if not measurements.is_file():
        raise DataError(f"{measurements} is no file; expected the measurements.csv that a kit's measure.py wrote")
    made = read_kit(kit) if kit is not None else _remembered(measurements)
    device = Device(name, made, read_measurements(measurements, made, unit=unit))
    _check(device)
    write_atomic(path, json.dumps(device.record(), indent=1).encode())
    return device


def _remembered(measurements: Path) -> Kit:
    identity = kit_named(measurements)
    path = device_folder() / KITS / f"{identity}.json"
    if not re.fullmatch(r"[0-9a-f]{12}", identity) or not path.is_file():
        made = f"the kit {identity}, which was not made here" if identity else "a kit that it does not name"
        raise DataError(f"{measurements} is of {brief(made).strip(chr(39))}; say where its folder is: --kit FOLDER")
    return read_kit(path)


def _check(device: Device) -> None:
    """Refuses latencies that no device has, see :func:`archduel.devices.measurements.check_plausible`."""
    from archduel.devices.operators import COLUMNS, operator_columns

    built = {entry.network: entry.built for entry in device.kit.networks}
    sums: list[dict[str, float]] = []
    for what in ("/macs", "/number"):
        places = [i for i, name in enumerate(COLUMNS) if name.endswith(what)]
        sums.append({name: float(operator_columns(*built[name])[places].sum()) for name in device.measured.rows})
    check_plausible(device.measured, sums[0], sums[1], device.predictor.left_out())


def remove_device(name: str) -> None:
    """Removes a device; runs that were searched with it keep what they found.

    Raises:
        UnknownNameError: for a device that was not added.
    """
    path = _path(name)
    if not path.is_file():
        raise unknown("device", name, known_devices(), command="archduel device list")
    path.unlink()
