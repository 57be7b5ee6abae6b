"""The kit: networks spread over sizes, written whole or not at all, measured by a script that needs nothing of archduel."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from archduel.commands.device.kit import make_kit
from archduel.core import Scale
from archduel.devices import write_kit
from archduel.devices.kit import Source, choose
from archduel.devices.measurements import read_kit, read_measurements
from archduel.errors import DataError, ExportError, SettingError, UnknownNameError
from archduel.spaces.family import count, family

onnx = pytest.mark.skipif(not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="a kit needs onnx, onnxscript and onnxruntime")
IMAGE = Scale(1, 1, 16, 3, 4)


def source() -> Source:
    """Returns small networks."""
    return Source(family("stages")(), (4, 8, 16, 32), (1,))


def test_networks_are_spread_over_sizes_and_the_same_for_a_seed() -> None:
    first, second = (choose(source(), 12, IMAGE, np.random.default_rng(3)) for _ in range(2))
    assert first == second
    assert len(set(first)) == 12
    macs = [count(*network).macs for network in first]
    assert macs[-1] > 30 * macs[0]
    assert {scale.channels for _, scale in first} == {4, 8, 16, 32}


def test_a_space_with_too_few_networks_says_so() -> None:
    with pytest.raises(SettingError, match="take fewer"):
        choose(source(), 12, IMAGE, np.random.default_rng(3), within=lambda arch, scale: False)


@onnx
def test_a_kit_is_measured_by_its_script_alone(tmp_path: Path) -> None:
    folder = tmp_path / "pi4"
    networks = choose(source(), 2, IMAGE, np.random.default_rng(0))
    made = write_kit(folder, networks, facts={"why": "a test"}, say=lambda text: None)
    assert {path.name for path in folder.iterdir()} == {"network01.onnx", "network02.onnx", "kit.json", "measure.py", "README.md"}
    assert read_kit(folder) == made
    assert [entry.built for entry in made.networks] == networks
    arguments = ["--seconds", "0.05", "--rounds", "1", "--passes", "6", "--out", str(tmp_path / "m.csv")]
    # -I: neither this folder's packages nor PYTHONPATH; the script must not need them
    subprocess.run([sys.executable, "-I", str(folder / "measure.py"), *arguments], check=True, capture_output=True)
    assert "archduel" not in {line.split()[1] for line in (folder / "measure.py").read_text().splitlines() if line.startswith("import ")}
    measured = read_measurements(tmp_path / "m.csv", made)
    assert len(measured.rows) == 2
    assert measured.facts["threads"] == "1"
    with open(tmp_path / "m.csv", newline="") as file:
        assert [row["sha256"] for row in csv.DictReader(file)] == [entry.sha256 for entry in made.networks]
    (folder / "network02.onnx").write_bytes(b"other")
    stopped = subprocess.run([sys.executable, "-I", str(folder / "measure.py"), *arguments], check=False, capture_output=True, text=True)
    assert stopped.returncode == 1
    assert "copy the folder again" in stopped.stderr


@onnx
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="holds files already"):
        write_kit(tmp_path, choose(source(), 2, IMAGE, np.random.default_rng(0)), facts={}, say=lambda text: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@onnx
def test_a_kit_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise ExportError("no")

    monkeypatch.setattr("archduel.export.folder.write_onnx", fails)
    with pytest.raises(ExportError, match="no"):
        write_kit(tmp_path / "kit", choose(source(), 2, IMAGE, np.random.default_rng(0)), facts={}, say=lambda text: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("given", "error"), [({"n": 9}, SettingError), ({"space": "stagez"}, UnknownNameError), ({"sides": ()}, SettingError), ({"classes": 0}, SettingError)])
def test_wrong_questions_are_refused(given: dict[str, object], error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error):
        make_kit(tmp_path / "kit", quiet=True, **given)  # type: ignore[arg-type]
    assert not (tmp_path / "kit").exists()


def test_what_is_no_kit_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "kit.json").write_text(json.dumps({"kit": "x", "networks": [{"network": "a", "sha256": "b", "arch": "none", "scale": {}}]}))
    with pytest.raises(DataError, match="make the kit again"):
        read_kit(tmp_path)
