"""`archduel search --time +30m`: a finished race's network is trained on."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from clocked import slow_machine

import archduel
from archduel.commands.runs.status import lines_of, state_of
from archduel.commands.search import same
from archduel.commands.search.dry import resume
from archduel.commands.search.more import _left, asked, begin, end
from archduel.commands.search.settings import read_settings
from archduel.core.job import Job
from archduel.data import Dataset, load
from archduel.errors import BudgetError, DataError, RunError, SettingError
from archduel.networks.trained import read_facts

CLOCKED = str(Path(__file__).with_name("clocked.py"))  # seconds of these runs are a slow machine's processor seconds
SMALL: dict[str, Any] = {
    "space": "stages", "strategy": "evolution", "max_images": 240, "max_params": 20_000, "evaluations": 4, "race": True, "workers": 1,
    "set": {"race.last_epochs": 10},
}  # fmt: skip


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of one finished race, of which each test gets a copy."""
    return archduel.search("digits", out=tmp_path_factory.mktemp("runs") / "race", quiet=True, **SMALL).folder


@pytest.fixture
def run(raced: Path, tmp_path: Path) -> archduel.Run:
    return archduel.Run(shutil.copytree(raced, tmp_path / "run"))


def winner(result: dict[str, Any]) -> dict[str, Any]:
    return dict(result["race"]["candidates"][result["race"]["winner"]])


def test_a_network_is_trained_on_in_steps(run: archduel.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_machine(monkeypatch)
    results = [run.result]
    page = (run.folder / "report.html").read_text()
    for number in (1, 2):
        began = time.monotonic()
        run = archduel.search("digits", out=run.folder, time="+12s", quiet=True)
        assert time.monotonic() - began < 22
        assert json.loads((run.folder / f"result-{number}.json").read_text()) == results[-1]
        results.append(run.result)
    passes = [winner(result)["passes"] for result in results]
    assert read_facts(run.folder / "networks/search-0")["recipe"]["passes"] == pytest.approx(passes[2], abs=0.01)
    assert passes[0] + 5 < passes[1] < passes[2] - 5
    assert [winner(result)["arch"] for result in results] == 3 * [winner(results[0])["arch"]]
    scores = [result["networks"]["search"]["test"]["accuracy"][0] for result in results]
    assert scores[2] > scores[0]
    assert [entry["test_before"]["accuracy"] for entry in results[2]["continued"]] == scores[:2]
    assert (run.folder / "report.html").read_text() != page
    test = load("digits", max_images=240).test
    with torch.no_grad():
        guesses = run.model()(torch.tensor(test.images).float() / 255).argmax(1).numpy()
    assert (guesses == test.labels).mean() == pytest.approx(scores[2])
    with pytest.raises(RunError, match="max_images"):
        archduel.search("digits", out=run.folder, time="+12s", quiet=True, max_images=100)


def test_a_continuation_that_is_killed_goes_on_within_its_time(run: archduel.Run) -> None:
    out = run.folder
    words = [sys.executable, CLOCKED, "search", "digits", "--out", str(out), "--time", "+20s", "--quiet"]
    process = subprocess.Popen(words)
    journal = out / "journal.jsonl"
    while process.poll() is None and '"saved"' not in journal.read_text():
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    records = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]
    with pytest.raises(RunError, match="in the middle of"):
        archduel.search("digits", out=out, time="+10s", quiet=True)
    subprocess.run(words, check=True)
    after = [json.loads(line) for line in journal.read_text().splitlines()]
    assert after[: len(records)] == records
    began = next(r["clock"] for r in after if r["event"] == "more")
    assert sum(r["event"] == "more" for r in after) == 1
    assert after[-1]["event"] == "more ends"
    assert after[-1]["clock"] - began <= 30  # as the race: within ten seconds on a machine that is busy
    trained = next(r["clock"] for r in reversed(after) if r["event"] == "test")
    assert trained - began <= 20


def test_a_continuation_that_was_too_short_is_none(run: archduel.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_machine(monkeypatch)
    with pytest.raises(BudgetError, match="too short to train on"):
        archduel.search("digits", out=run.folder, time="+2s", quiet=True)
    before = winner(run.result)["passes"]
    run = archduel.search("digits", out=run.folder, time="+10s", quiet=True)
    assert winner(run.result)["passes"] > before


@pytest.mark.parametrize(("time_", "error"), [("+2s", "give at least"), ("+40s", "has changed since the run")])
def test_a_continuation_that_is_refused_leaves_the_run_as_it_is(run: archduel.Run, time_: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_images(*given: Any, **values: Any) -> Dataset:
        assert time_ != "+2s", "too little time is said before images are read"
        return load("digits", max_images=200)

    slow_machine(monkeypatch)
    monkeypatch.setattr("archduel.commands.search.more.load", other_images)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file() and path.name != ".lock"}
    state = state_of(run.folder)
    with pytest.raises((BudgetError, DataError), match=error) as refused:
        archduel.search("digits", out=run.folder, time=time_, quiet=True)
    if isinstance(refused.value, BudgetError):
        with same.opened(run.folder, read_settings(run.folder), "archduel search", 0.0) as job:
            for clock in (0.0, 3.0, 30.0):  # of a start that takes so long
                more = {**asked(job, "+2s"), "began": job.clock - clock}
                with pytest.raises(BudgetError) as told:
                    _left(job, more, 0.0)
                assert _left(job, {**more, "seconds": math.ceil(told.value.needed) + 0.1}, 0.0) >= 5  # it is not refused again
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file() and path.name != ".lock"} == before
    assert state_of(run.folder) == state
    assert state["state"] == "finished"


def test_a_run_in_the_middle_of_a_continuation_is_not_finished(run: archduel.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def reached(*given: Any) -> None:
        raise RunError(f"trains on for {given[2]['seconds']:g} s")

    def opened() -> Job:
        return same.opened(run.folder, read_settings(run.folder), "archduel search", 0.0)

    recipe = read_facts(run.folder / "networks/search-0")["recipe"]
    assert recipe["passes"] == pytest.approx(winner(run.result)["passes"], abs=0.01)
    assert not {"epochs", "channels", "depth", "schedule"} & set(recipe)  # the race decided them
    with opened() as job:
        more = begin(job, asked(job, "+30s"))
    state = state_of(run.folder)
    assert state["state"] == "stopped"
    assert "test_accuracy" in state["result"]  # of before
    assert lines_of(state)[-1].endswith(f"archduel resume {run.folder} goes on")
    archduel.search("digits", out=run.folder, quiet=False, **SMALL)
    assert f"`archduel resume {run.folder}` goes on with --time +30s" in capsys.readouterr().out
    monkeypatch.setattr("archduel.commands.search.run.trained_on", reached)
    with pytest.raises(RunError, match="trains on for 30 s"):
        resume(run.folder, quiet=True)
    with opened() as job:
        end(job, more)
    assert state_of(run.folder)["state"] == "finished"
    resume(run.folder, quiet=False)
    assert "nothing to do" in capsys.readouterr().out


def test_what_cannot_go_on_is_said(run: archduel.Run, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--out"):
        archduel.search("digits", time="+12s", quiet=True)
    with pytest.raises(RunError, match="holds no run"):
        archduel.search("digits", out=tmp_path / "nothing", time="+12s", quiet=True)
    (run.folder / "result.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        archduel.search("digits", out=run.folder, time="+12s", quiet=True)
