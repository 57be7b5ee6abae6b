"""The examples of networks and tasks of one's own: short, and they run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from archduel import registry

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
SETTINGS: dict[str, dict[str, Any]] = {
    "own_images": {"evaluations": 4, "race": True, "max_images": 120, "workers": 1, "set": {"race.last_epochs": 10}},
    "own_signals": {"evaluations": 3}, "own_shapes": {"evaluations": 5}, "own_text": {"evaluations": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_an_example_runs_and_is_short(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setitem(registry.MENUS, "space", dict(registry.MENUS["space"]))
    lines = [line for line in (EXAMPLES / f"{name}.py").read_text().splitlines() if line.strip()]
    assert len(lines) < 60
    example = importlib.import_module(name)
    found = example.main(out=tmp_path / "out", quiet=True, **SETTINGS[name])
    if name == "own_images":
        assert isinstance(found, example.Mine)
        return
    assert len(found.evaluations) == SETTINGS[name]["evaluations"]
    assert not found.best.failed
    if name == "own_shapes":
        assert found.evaluations[-1].measures["inherited"] > 0
    if name == "own_text":
        assert 2 < found.best.measures["bits_a_character"] < 6
