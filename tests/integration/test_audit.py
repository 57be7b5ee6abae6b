"""`archduel audit`, from the outside."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clocked import slow_machine

import archduel
from archduel.commands.search.audit import audit
from archduel.errors import BudgetError, RunError

pytestmark = pytest.mark.usefixtures("no_onnx")
CLOCKED = str(Path(__file__).with_name("clocked.py"))  # seconds of these runs are a slow machine's processor seconds
SMALL: dict[str, Any] = {
    "space": "stages", "strategy": "evolution", "max_images": 240, "max_params": 20_000, "evaluations": 4, "race": True, "workers": 1, "start": "scratch",
    "set": {"race.last_epochs": 12},
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archduel.search("digits", out=tmp_path_factory.mktemp("runs") / "race", quiet=True, **SMALL).folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@dataclass
class Audited:
    """A finished run after one audit: what it found, what it printed and how long it took."""

    folder: Path
    found: dict[str, Any]
    printed: str
    seconds: float


@pytest.fixture(scope="module")
def audited(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """Returns the one audit that most tests look at: without a time, so of the least that says much."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("audited") / "run"))
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        slow_machine(patch)
        found = audit(folder, time="half", quiet=False)
        seconds = time.monotonic()
    return Audited(folder, found, printed.getvalue(), seconds)


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit" / "journal.jsonl").read_text().splitlines()]


def test_an_audit_trains_all_alike_within_its_time(audited: Audited) -> None:
    run, found = audited.folder, audited.found
    assert audited.seconds < 31
    assert json.loads((run / "audit.json").read_text()) == found
    scores = [network["test"] for network in found["networks"]]
    assert {len(score) for score in scores} == {found["seeds"]}
    assert found["seeds"] >= 2
    trained = [r for r in events(run) if r["event"] == "trained"]
    assert len(trained) == found["seeds"] * len(scores)
    for number in range(found["seeds"]):
        seconds = [r["seconds"] for r in trained if r["set"] == number]
        assert max(seconds) - min(seconds) < 0.5
    ours, theirs = found["networks"][0]["test"], found["networks"][1]["test"]
    gain = found["gain"][found["networks"][1]["role"]]
    assert gain["differences"] == pytest.approx([a - b for a, b in zip(ours, theirs)])
    assert gain["interval"]["low"] <= gain["interval"]["value"] <= gain["interval"]["high"]
    page = (run / "report.html").read_text()
    assert gain["sentence"].split(".")[0] in page
    assert found["conditions"].split(".")[0] in page
    again = audit(run, time="30s", quiet=True)  # nothing is trained or tested a second time
    assert again["networks"] == found["networks"]
    assert [r for r in events(run) if r["event"] == "trained"] == trained


def test_random_search_gets_what_the_search_had(audited: Audited) -> None:
    found = audited.found
    assert found["random_seconds"] == pytest.approx(max(2.0, min(found["search_seconds"], 0.4 * 27.0)), abs=0.3)
    entered = [r for r in events(audited.folder) if r["event"] == "enter"]
    assert {r["role"] for r in entered} == {"random"}
    assert found["random_networks"] == len(entered)


def test_an_audit_that_is_killed_goes_on_and_keeps_to_its_time(run: Path) -> None:
    words = [sys.executable, CLOCKED, "audit", str(run), "--time", "40s", "--quiet"]
    process = subprocess.Popen(words)
    journal = run / "audit" / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and '"trained"' in journal.read_text()):
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]
    subprocess.run(words, check=True)
    assert events(run)[: len(before)] == before
    found = json.loads((run / "audit.json").read_text())
    assert found["seeds"] >= 2
    assert found["clock"] <= 41


def test_an_audit_without_a_time_has_half_of_the_runs_and_says_so(audited: Audited) -> None:
    assert audited.found["seconds"] == 30.0  # half of a run of seconds would be too short to say anything
    assert audited.found["clock"] <= 31
    assert "audit for 30 s, the least that says much" in audited.printed


def test_what_cannot_be_audited_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="at least --time"):
        audit(run, time="3s", quiet=True)
    (run / "result.json").rename(run / "elsewhere.json")
    with pytest.raises(RunError, match="is not finished"):
        audit(run, time="25s", quiet=True)
    (run / "result.json").write_text('{"networks": {}}')
    with pytest.raises(RunError, match="an audit is of races"):
        audit(run, time="25s", quiet=True)
    with pytest.raises(RunError, match="holds no run"):
        audit(tmp_path / "nothing", time="25s", quiet=True)
