"""`archduel search` as a race, from the outside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archduel
from archduel.commands.search.race import constraint_of
from archduel.commands.search.settings import make_settings
from archduel.core import Scale, sample
from archduel.core.storage import load_state
from archduel.data import load
from archduel.errors import ArchduelError, InfeasibleError, SettingError
from archduel.spaces.family import count
from archduel.spaces.stages.space import Stages

pytestmark = pytest.mark.usefixtures("no_onnx")
CLOCKED = str(Path(__file__).with_name("clocked.py"))  # seconds of these runs are a slow machine's processor seconds
SMALL = {
    "space": "stages", "strategy": "evolution", "max_images": 240, "max_params": 20_000, "evaluations": 4, "race": True,
    "workers": 1,  # the threads of one network, which spin where others compute
    "set": {"race.last_epochs": 12},
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> archduel.Run:
    return archduel.search("digits", out=tmp_path_factory.mktemp("runs") / "race", quiet=True, **SMALL)


def test_a_race_leaves_everything_a_person_needs(finished: archduel.Run) -> None:
    for name in ("run.toml", "journal.jsonl", "result.json", "report.html", "export/model.py", "export/predict.py"):
        assert (finished.folder / name).is_file(), name
    result = finished.result
    race = result["race"]
    assert len(race["candidates"]) == 4
    assert sum(race["shares"].values()) == pytest.approx(1.0)
    assert 0 < race["time_share"] < race["shares"]["handed over"]
    assert "time in this network" in (finished.folder / "report.html").read_text()
    winner = race["candidates"][race["winner"]]
    assert winner["arch"] == result["networks"]["search"]["arch"]
    assert winner["params"] == result["networks"]["search"]["params"] <= 20_000
    assert winner["passes"] == pytest.approx(12, abs=0.6)
    assert "validation images was" in result["gain"]["race"]["sentence"]
    assert 0 <= result["networks"]["search"]["test"]["accuracy"][0] <= 1


def test_test_images_are_read_after_the_choice_and_once(finished: archduel.Run) -> None:
    events = [json.loads(line)["event"] for line in (finished.folder / "journal.jsonl").read_text().splitlines()]
    assert events.count("test") == 1
    assert events.index("test") > events.index("trained") > events.index("choice")


def test_the_model_is_the_one_that_was_tested(finished: archduel.Run) -> None:
    test = load("digits", max_images=240).test
    with torch.no_grad():
        said = finished.model()(torch.tensor(test.images).float() / 255).argmax(1).numpy()
    assert (said == test.labels).mean() == pytest.approx(finished.result["networks"]["search"]["test"]["accuracy"][0])


def test_a_race_in_evaluations_repeats_exactly(finished: archduel.Run, tmp_path: Path) -> None:
    again = archduel.search("digits", out=tmp_path / "again", quiet=True, **SMALL)
    for key in ("search", "random", "reevaluated"):
        assert again.result[key] == finished.result[key]
    assert again.result["networks"]["search"]["test"] == finished.result["networks"]["search"]["test"]


def killed_when(words: list[str], ready: Callable[[], bool]) -> None:
    """Runs a command and kills it as soon as something is there."""
    process = subprocess.Popen(words)
    while process.poll() is None and not ready():
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_timed_race_that_is_killed_twice_goes_on_and_keeps_to_its_time(tmp_path: Path) -> None:
    out = tmp_path / "killed"
    words = [sys.executable, CLOCKED, "search", "digits", "--time", "30s", "--space", "stages", "--strategy", "evolution"]
    words += ["--start", "scratch", "--max-images", "240", "--workers", "1", "--quiet", "--out", str(out)]
    journal, saved = out / "journal.jsonl", out / "checkpoints"
    killed_when(words, lambda: journal.exists() and '"rung"' in journal.read_text())
    before = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]
    killed_when(words, lambda: any(saved.glob("last-*.safetensors")))
    facts = load_state(next(saved.glob("last-*.safetensors")))["progress"]
    subprocess.run(words, check=True)
    result = archduel.Run(out).result
    after = [json.loads(line) for line in journal.read_text().splitlines()]
    assert after[: len(before)] == before
    assert sum(r["event"] == "enter" and r["number"] == 0 for r in after) == 1
    assert sum(r["event"] == "choice" for r in after) == 1
    winner = result["race"]["candidates"][result["race"]["winner"]]
    assert winner["steps"] >= facts["steps"]  # it went on from what was saved, as far as there was time on this machine
    assert facts["clock"] <= result["race"]["seconds"] <= 31
    assert (out / "export" / "model.onnx").is_file()  # which the other runs here leave out


def test_limits_that_only_the_narrowest_networks_meet_are_accepted() -> None:
    digits, space = load("digits", max_images=240), Stages()
    constraint = constraint_of(make_settings(data="digits", max_params=1_500), space, digits)
    assert constraint is not None
    allowed = [arch for arch in (sample(space, np.random.default_rng(i)) for i in range(300)) if constraint(arch)]
    assert allowed
    assert all(count(arch, Scale(8, 1, 8, 1, 10)).params > 1_500 for arch in allowed)  # none at the width that was looked at before
    with pytest.raises(InfeasibleError, match="at 4 channels, depth 1 and 8 px"):
        constraint_of(make_settings(data="digits", max_params=100), space, digits)


def test_the_export_is_called_by_the_words_of_its_network(finished: archduel.Run) -> None:
    words = finished.result["networks"]["search"]["text"]
    assert (finished.folder / "export" / "README.md").read_text().splitlines()[0] == f"# {words}"
    assert words in (finished.folder / "export" / "model.py").read_text().splitlines()[0]


def test_shared_weights_do_not_race(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="do not race"):
        archduel.search("digits", out=tmp_path / "x", quiet=True, strategy="spos", time="60s", race=True)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"set": {"label.epochs": 3}}, "a race has no use for 'label'"),
        ({"set": {"final.epochs": 50}}, "a race decides sizes, and lengths by the time"),
        ({"set": {"final.lrr": 3}}, "'lrr' is unknown"),
        ({"set": {"plan.channels": 2}}, "the plan of a race has labels and iterations"),
        ({"final_seeds": 5}, "a race trains one network to the end"),
    ],
)
def test_what_a_race_would_not_do_is_refused(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ArchduelError, match=said):
        archduel.search("digits", time="20s", out=tmp_path / "run", quiet=True, **asked)
