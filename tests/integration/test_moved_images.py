"""A run whose images lie somewhere else by now: what it is told, and what goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clocked import slow_machine

import archduel
from archduel.commands import int8
from archduel.commands.network.evaluate import evaluate_network
from archduel.commands.search.audit import audit
from archduel.commands.search.dry import resume
from archduel.errors import AbsentError, BudgetError, DataError, RunError
from archduel.networks.trained import open_network

pytestmark = pytest.mark.usefixtures("no_onnx")
SMALL: dict[str, Any] = {
    "space": "stages", "strategy": "evolution", "max_params": 20_000, "evaluations": 4, "race": True, "workers": 1, "start": "scratch", "set": {"race.last_epochs": 10},
}  # fmt: skip


def write(path: Path, seed: int = 0) -> str:
    """Writes 90 images of three colours and returns the file's name."""
    rng = np.random.default_rng(seed)
    labels = np.arange(90) % 3
    images = (rng.integers(0, 60, (90, 8, 8, 3)) + (labels * 60)[:, None, None, None]).astype(np.uint8)
    np.savez(path, images=images, labels=labels)
    return str(path)


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("moved")
    archduel.search(write(root / "here.npz"), out=root / "run", quiet=True, **SMALL)
    (root / "here.npz").rename(root / "there.npz")
    return root


@pytest.fixture
def root(raced: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(raced, tmp_path / "copy"))


def test_what_needs_the_images_says_how_to_name_their_new_place(root: Path) -> None:
    with pytest.raises(AbsentError, match=r"no file .*here.npz; the network was trained on these images: --data says where they are now"):
        evaluate_network(root / "run")
    with pytest.raises(AbsentError, match="--data says where they are now"):
        int8._images(open_network(root / "run"), None)
    with pytest.raises(AbsentError, match="--data says where they are now"):
        audit(root / "run", time="30s", quiet=True)
    with pytest.raises(AbsentError, match=r"no file .*elsewhere.npz$"):  # what was typed just now was never there
        evaluate_network(root / "run", root / "elsewhere.npz")
    (root / "run" / "result.json").unlink()
    with pytest.raises(AbsentError, match="repeat the run's command with the place where they are now"):
        resume(root / "run", quiet=True)


def test_an_audit_takes_the_images_from_their_new_place_and_no_others(root: Path) -> None:
    with pytest.raises(BudgetError, match="too short"):  # which is looked at once the images are known to be the same
        audit(root / "run", time="2s", data=str(root / "there.npz"), quiet=True)
    with pytest.raises(DataError, match="has changed since the run"):
        audit(root / "run", time="30s", data=write(root / "others.npz", seed=1), quiet=True)


def test_a_network_is_trained_on_with_its_images_wherever_they_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_machine(monkeypatch)
    with pytest.raises(DataError, match="has changed since the run"):
        archduel.search(write(root / "others.npz", seed=1), out=root / "run", time="+12s", quiet=True)
    with pytest.raises(RunError, match="seed: the run has 0, the command says 1"):
        archduel.search(str(root / "there.npz"), out=root / "run", time="+12s", quiet=True, seed=1)
    archduel.search(str(root / "there.npz"), out=root / "run", time="+12s", quiet=True)
    assert len(json.loads((root / "run" / "result.json").read_text())["continued"]) == 1
