"""What comes back from a device: read, compared with the kit, kept, and refused in one clear sentence where it cannot be right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from simulated import N, Rows, kit, right, written
from typer.testing import CliRunner

from archduel.commands import app
from archduel.core import Scale, sample
from archduel.devices import add_device, known_devices, open_device, operator_columns, remove_device
from archduel.devices.measurements import kit_record
from archduel.devices.operators import COLUMNS
from archduel.devices.store import remember_kit
from archduel.errors import ArchduelError, DamagedError, DataError, SettingError, UnknownNameError
from archduel.spaces.family import family


@pytest.fixture(autouse=True)
def _own_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHDUEL_DEVICES", str(tmp_path / "devices"))


def added(rows: Rows, tmp_path: Path, **options: object) -> object:
    """Returns the device made of rows, of a kit that is remembered."""
    remember_kit(kit())
    return add_device("pi4", written(rows, tmp_path / "m.csv"), **options)  # type: ignore[arg-type]


def test_a_device_is_kept_foretells_and_is_forgotten(tmp_path: Path) -> None:
    device = added(right(kit()), tmp_path)
    assert known_devices() == ["pi4"]
    again = open_device("pi4")
    assert again.record() == device.record()  # type: ignore[attr-defined]
    assert open_device(again.key).digest == again.digest
    arch, scale = sample(family("stages")(), np.random.default_rng(9)), Scale(24, 1, 32, 3, 10)
    found = again.latency(arch, scale)
    real = 0.1 + operator_columns(arch, scale)[[i for i, name in enumerate(COLUMNS) if name.endswith("/macs")]].sum() / 1e7
    assert found.low < found.ms < found.high
    assert found.low < real < found.high
    remove_device("pi4")
    assert known_devices() == []
    with pytest.raises(UnknownNameError, match="archduel device list"):
        open_device("pi4")


def test_other_measurements_are_another_digest(tmp_path: Path) -> None:
    first = added(right(kit()), tmp_path)
    rows = right(kit())
    rows[3]["median_ms"] = str(1.2 * float(rows[3]["median_ms"]))
    with pytest.raises(SettingError, match="--replace"):
        added(rows, tmp_path)
    added(rows, tmp_path, replace=True)
    with pytest.raises(SettingError, match="measured again since"):
        open_device(first.key)  # type: ignore[attr-defined]


def test_ten_rows_are_enough_and_it_is_said(tmp_path: Path) -> None:
    device = added(right(kit())[:10], tmp_path)
    assert any("not measured: network11" in sentence for sentence in device.sentences)  # type: ignore[attr-defined]


def scaled(rows: Rows, factor: float) -> Rows:
    return [{**row, "median_ms": f"{factor * float(row['median_ms']):.9g}", "iqr_ms": ""} for row in rows]


def changed(number: int, **values: str) -> Callable[[Rows], Rows]:
    return lambda rows: [{**row, **values} if i == number else row for i, row in enumerate(rows)]


WRONG: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "another network": (changed(2, network="network77"), "'network77' is no network of the kit"),
    "another file": (changed(2, sha256="f" * 64), "network03 was measured with another file"),
    "twice": (lambda rows: [*rows, rows[0]], "network01 stands there twice"),
    "not a number": (changed(1, median_ms="nan"), "network02 has the latency 'nan', expected a finite number"),
    "infinite": (changed(1, median_ms="inf"), "expected a finite number"),
    "below zero": (changed(1, median_ms="-3"), "expected a finite number of milliseconds above 0"),
    "zero": (changed(1, median_ms="0"), "above 0"),
    "a word": (changed(1, median_ms="fast"), "'fast', expected milliseconds as a number"),
    "a comma": (changed(1, median_ms="3,5"), "decimals are written with a point"),
    "too few": (lambda rows: rows[:9], "has 9 of the kit's 14 networks, at least 10 are needed"),
    "all in seconds": (lambda rows: scaled(rows, 1e-3), "are these seconds\\? Then add --unit s"),
    "all in microseconds": (lambda rows: scaled(rows, 1e3), "are these microseconds\\? Then add --unit us"),
    "one in seconds": (lambda rows: scaled(rows[:1], 1e-3) + rows[1:], "network01 takes .* is this row in another unit"),
    "two devices": (changed(1, machine="another"), "machine differs from row to row"),
    "two kits": (changed(1, kit="ba9876543210"), "mixes measurements of 2 kits"),
    "a kit from elsewhere": (lambda rows: [{**row, "kit": "ba9876543210"} for row in rows], "was not made here; say where its folder is: --kit FOLDER"),
    "no kit": (lambda rows: [{**row, "kit": "../../etc"} for row in rows], "--kit FOLDER"),
    "no column": (lambda rows: [{"network": row["network"], "ms": row["median_ms"]} for row in rows], "--kit FOLDER"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_measurements_are_one_clear_error_and_nothing_is_kept(name: str, tmp_path: Path) -> None:
    change, message = WRONG[name]
    with pytest.raises(DataError, match=message) as caught:
        added(change(right(kit())), tmp_path)
    assert "\n" not in str(caught.value)
    assert known_devices() == []


def test_units_that_are_said_are_converted(tmp_path: Path) -> None:
    seconds = added(scaled(right(kit()), 1e-3), tmp_path, unit="s")
    rows = right(kit())
    assert seconds.measured.rows["network05"] == pytest.approx(float(rows[4]["median_ms"]))  # type: ignore[attr-defined]
    with pytest.raises(ArchduelError, match="--unit"):
        added(rows, tmp_path, unit="min", replace=True)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00garbage", b"network,median_ms\n"])
def test_files_that_are_no_table_are_refused(content: bytes, tmp_path: Path) -> None:
    remember_kit(kit())
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(DataError):
        add_device("pi4", tmp_path / "m.csv")


def test_a_kit_in_a_folder_and_a_damaged_one(tmp_path: Path) -> None:
    made = kit()
    folder = tmp_path / "kit"
    folder.mkdir()
    (folder / "kit.json").write_text(json.dumps(kit_record(made)))
    add_device("other", written(right(made), tmp_path / "m.csv"), kit=folder)
    (folder / "kit.json").write_text('{"kit": "0123", "networks": [{"network": "a"}]}')
    with pytest.raises(DataError, match="make the kit again"):
        add_device("third", tmp_path / "m.csv", kit=folder)
    with pytest.raises(DataError, match=r"no kit\.json"):
        add_device("third", tmp_path / "m.csv", kit=tmp_path)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "x" * 65, "a@b"])
def test_names_cannot_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    remember_kit(kit())
    with pytest.raises(SettingError, match="no name for a device"):
        add_device(name, written(right(kit()), tmp_path / "m.csv"))


def test_a_damaged_device_is_said_to_be_that(tmp_path: Path) -> None:
    added(right(kit()), tmp_path)
    (tmp_path / "devices" / "pi4.device.json").write_text("{")
    with pytest.raises(DamagedError, match="archduel device add pi4"):
        open_device("pi4")


def test_the_commands(tmp_path: Path) -> None:
    remember_kit(kit())
    file = written(right(kit()), tmp_path / "m.csv")
    run = CliRunner().invoke
    assert "none yet" in run(app, ["device", "list"]).output
    assert "foretold with a usual error" in run(app, ["device", "add", "pi4", "--measurements", str(file)]).output
    assert "Cortex-A72" in run(app, ["device", "list"]).output
    assert json.loads(run(app, ["device", "list", "--json"]).output)["networks"] == N
    assert "network14" in run(app, ["device", "show", "pi4"]).output
    assert run(app, ["device", "remove", "pi4"]).exit_code == 0
    assert run(app, ["device", "remove", "pi4"]).exit_code != 0
