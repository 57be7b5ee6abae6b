"""`model.json` of a stranger: whatever stands there, the answer is a line, and nothing is built that no weights are for."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from archduel.errors import ArchduelError, DamagedError
from archduel.networks.trained import facts_at, is_whole, load_trained, shipped

ARCH = "nasbench201:1.2.3.4.0.1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small trained network."""
    shutil.copytree(shipped("ctnas_darts.digits"), tmp_path / "net")
    return tmp_path / "net"


def changed(folder: Path, path: str, value: Any) -> None:
    """Writes ``value`` at a dotted place of the facts; ``...`` takes it away."""
    facts = json.loads((folder / "model.json").read_text())
    *above, last = path.split(".")
    place = facts
    for key in above:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    (folder / "model.json").write_text(json.dumps(facts))


WRONG: list[tuple[str, Any]] = [
    ("arch", 5), ("arch", []), ("arch", "nowhere:1"), ("arch", "darts:1.2"), ("arch", "darts"), ("arch", "x" * 300_000), ("arch", ...),
    ("scale", None), ("scale", []), ("scale.depth", 10**6), ("scale.depth", 10**30), ("scale.depth", -1), ("scale.depth", 1.5), ("scale.depth", True),
    ("scale.depth", 900), ("scale.channels", 0), ("scale.channels", "8"), ("scale.channels", 8000), ("scale.image_size", 10**9), ("scale.image_size", None),
    ("scale.n_classes", 11), ("scale.in_channels", 3), ("scale.more", 1), ("scale.channels", 16),
    ("classes", "abcdefghij"), ("classes", ["a"]), ("classes", None), ("classes", list(range(10))), ("classes", {}), ("classes", [None] * 10),
    ("preprocessing", []), ("preprocessing.size", 30_000), ("preprocessing.size", 0), ("preprocessing.size", "8"), ("preprocessing.mode", "CMYK"),
    ("preprocessing.mode", "RGB"), ("preprocessing.rule", "stretch"), ("preprocessing.rule", None), ("preprocessing.rule", ["crop"]),
    ("preprocessing.mean", [float("nan")]), ("preprocessing.mean", [0.1, 0.2]), ("preprocessing.mean", 0.5), ("preprocessing.std", [0]),
    ("preprocessing.std", [-1.0]), ("preprocessing.std", ["1"]), ("preprocessing.std", ...), ("preprocessing.unheard_of", 1),
    ("options", []), ("options", {"unheard_of": True}), ("options", {"pool_norm": {"a": [1]}}), ("sha256", 5), ("sha256", "0" * 64), ("name", {}),
    ("data", "digits"), ("test", 3),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), WRONG, ids=lambda value: str(value)[:30])
def test_wrong_facts_are_named_in_a_line(path: str, value: Any, folder: Path) -> None:
    changed(folder, path, value)
    began = time.process_time()
    with pytest.raises(ArchduelError) as error:
        load_trained(folder)
    assert time.process_time() - began < 2
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("text", ["", "null", "[]", "5", '"x"', "{", "\x00\x00", "[" * 100_000, '{"a": ' * 10_000, "{}", '{"arch": NaN}'])
def test_files_that_are_no_facts(text: str, folder: Path) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(ArchduelError):
        facts_at(folder)
    assert not is_whole(folder)


@pytest.mark.parametrize("how", ["empty", "cut", "flipped", "longer", "header"])
def test_damaged_weights(how: str, folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    assert is_whole(folder)
    if how == "flipped":
        data[-5] ^= 1
    damaged = {"empty": b"", "cut": data[: len(data) // 2], "flipped": data, "longer": data + b"x", "header": b"\xff" * 8 + data[8:]}[how]
    path.write_bytes(damaged)
    assert not is_whole(folder)
    with pytest.raises(ArchduelError, match="is not the file that model.json speaks of"):
        load_trained(folder)
    changed(folder, "sha256", "")  # older files have none
    if how not in ("flipped",):
        with pytest.raises(ArchduelError, match="damaged"):
            load_trained(folder)


RESULT: list[Any] = [
    {}, [], None, {"networks": []}, {"networks": {"search": None}}, {"networks": {"search": {"arch": 5}}}, {"networks": {"search": {}}},
    {"networks": {"search": {"arch": ARCH, "folders": []}}}, {"networks": {"search": {"arch": ARCH, "folders": ["/etc"]}}},
    {"networks": {"search": {"arch": ARCH, "folders": ["../.."]}}}, {"networks": {"search": {"arch": ARCH, "folders": "x"}}},
    {"networks": {"search": {"arch": ARCH, "weights": ["../secret.safetensors"]}}}, {"networks": {"search": {"arch": ARCH, "folders": [None]}}},
]  # fmt: skip


@pytest.mark.parametrize("result", RESULT, ids=str)
def test_a_result_that_is_none_or_points_elsewhere(result: Any, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[run]\ndata = "digits"\n')
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(DamagedError if not isinstance(result, dict) or "networks" not in result else ArchduelError) as error:
        load_trained(tmp_path)
    assert "\n" not in str(error.value)
