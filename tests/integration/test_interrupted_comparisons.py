"""Comparisons, tables and studies that were stopped and went on: each is what it would have been uninterrupted, and trackers are told each answer once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import archduel
from archduel.commands import app
from archduel.commands.again import words_of
from archduel.commands.tracking import tracking_folder
from archduel.core.storage import read_journal
from archduel.errors import RunError, SettingError, UnknownNameError

LINES = {
    "search": "bench search --table digits201 --strategies random,evolution --queries 12 --runs 3 --workers 0 -q",
    "rank": "bench rank --table digits201 --rankers extratrees --labels 20,30 --splits 2 -q",
    "oneshot": "bench oneshot digits --table digits201 --cells 6 --passes 1,2 --sampling uniform,fair --channels 4 --depth 1 --max-images 200 --device cpu -q",
    "table": "table train digits --space nasbench201 --cells 3 --seeds 2 --set epochs=1 --set channels=4 --set depth=1 -q",
}


def answers(path: Path) -> list[dict[str, Any]]:
    """Returns what a journal holds but for what clocks and commands say, in an order of its own."""
    kept = [record for record in read_journal(path) if record.get("event") in ("trial", "estimate", "settings")]
    plain = [{key: _quiet(value) for key, value in record.items() if not _of_a_clock(key)} for record in kept]
    return sorted(plain, key=lambda record: json.dumps(record, sort_keys=True))


def _quiet(value: Any) -> Any:
    return {key: item for key, item in value.items() if not _of_a_clock(key)} if isinstance(value, dict) else value


def _of_a_clock(name: str) -> bool:
    """Whether a value is what a clock said: that differs between two runs of the same."""
    return name == "clock" or name.endswith("seconds")


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.usefixtures("in_this_process")
def test_a_stopped_job_is_resumed_from_its_file_alone(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, ending = ("mine.table", ".jsonl") if kind == "table" else ("out.json", ".trials.jsonl")
    words, place = [*LINES[kind].split(), "--out", out], tmp_path / "stopped"
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    monkeypatch.setattr(sys, "argv", ["archduel", *words])
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tmp_path / "whole", place)
    journal = (place / out).with_suffix(ending)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-2]) + lines[-2][: len(lines[-2]) // 2])  # killed in the middle of a record
    (place / out).unlink()
    moved = tmp_path / "moved"
    place.rename(moved)
    resumed = ["resume", f"moved/{out}", "--quiet"]
    if kind == "search":  # by a process that knows nothing else
        subprocess.run([sys.executable, "-m", "archduel", *resumed], check=True)
    else:
        assert CliRunner().invoke(app, resumed, catch_exceptions=False).exit_code == 0
    assert (moved / out).is_file()
    assert answers((moved / out).with_suffix(ending)) == answers((tmp_path / "whole" / out).with_suffix(ending))


def test_what_was_asked_for_last_is_what_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for runs in ("2", "3"):
        words = ["bench", "search", "--table", "digits201", "--strategies", "random", "--queries", "5", "--runs", runs, "--workers", "0", "-q", "--out=out.json"]
        monkeypatch.setattr(sys, "argv", ["archduel", *words])
        assert CliRunner().invoke(app, words).exit_code == 0
    for named in ("out.json", "out.trials.jsonl"):
        again = words_of(Path(named))
        assert again is not None
        assert again[again.index("--runs") + 1] == "3"
        assert again[-2:] == ["--out", "out.json"]


def test_a_comparison_from_python_says_so(tmp_path: Path) -> None:
    trials = tmp_path / "out.trials.jsonl"
    archduel.compare(["random"], "digits201", queries=5, runs=2, workers=0, trials=trials)
    with pytest.raises(RunError, match="began in Python"):
        words_of(trials)


class Heard:
    """A tracker in memory."""

    heard: list[tuple[str, Any]] = []

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, name: str, settings: Any) -> None:
        self.heard.append(("begin", name))

    def note(self, numbers: Any, step: float) -> None:
        self.heard.append(("note", step))

    def keep(self, path: Path) -> None:
        self.heard.append(("keep", path.name))

    def end(self, result: Any) -> None:
        self.heard.append(("end", dict(result)))


def squared(options: Any) -> float:
    """Returns how near to 3."""
    return -float((options["x"] - 3) ** 2)


SPACE = {"x": [0, 1, 2, 3, 4, 5]}


def test_studies_and_comparisons_are_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archduel.commands.tracking.make_tracker", lambda name, folder: Heard(folder))
    Heard.heard = []
    archduel.search_space(SPACE, squared, strategy="random", evaluations=4, out=tmp_path / "study", track="heard", quiet=True)
    assert Heard.heard[0] == ("begin", "study")
    assert [step for what, step in Heard.heard if what == "note"] == [1, 2, 3, 4]
    assert Heard.heard[-1][0] == "end"
    assert Heard.heard[-1][1]["evaluations"] == 4
    Heard.heard = []
    archduel.compare(["random", "evolution"], "digits201", queries=5, runs=2, workers=0, trials=tmp_path / "out.trials.jsonl", track="heard")
    assert [step for what, step in Heard.heard if what == "note"] == [1, 2, 3, 4]
    assert Heard.heard[-1][0] == "end"


def test_what_cannot_be_tracked_says_why_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="what is tracked is what the journal holds"):
        archduel.search_space(SPACE, squared, evaluations=4, track="tensorboard", quiet=True)
    with pytest.raises(UnknownNameError, match="tracker 'tensorbord' is unknown"):
        archduel.search_space(SPACE, squared, evaluations=4, out=tmp_path / "study", track="tensorbord", quiet=True)
    with pytest.raises((UnknownNameError, SettingError)):
        archduel.compare(["random"], "digits201", queries=5, runs=2, workers=0, trials=tmp_path / "out.trials.jsonl", track="tensorbord")
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_tells_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra 'tensorboard')")
    out = tmp_path / "out.json"
    done = CliRunner().invoke(app, [*LINES["search"].split(), "--out", str(out), "--track", "tensorboard"], catch_exceptions=False)
    assert done.exit_code == 0
    assert any("tfevents" in path.name for path in tracking_folder(out.with_suffix(".trials.jsonl")).rglob("*"))


STUDY = """
import sys, time
import archduel

def squared(options):
    time.sleep({wait})
    return -float((options["x"] - 3) ** 2 + options["y"])

if __name__ == "__main__":
    archduel.search_space({{"x": list(range(8)), "y": [0, 1, 2]}}, squared, strategy={strategy!r}, evaluations=12, out=sys.argv[1], seed=4, quiet=True)
"""


@pytest.mark.parametrize("strategy", ["evolution", "best"])
def test_a_killed_study_goes_on_as_if_nothing_had_been(strategy: str, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(STUDY.format(wait=0.0, strategy=strategy))
    subprocess.run([sys.executable, script, "whole"], cwd=tmp_path, check=True)
    script.write_text(STUDY.format(wait=0.3, strategy=strategy))
    begun = subprocess.Popen([sys.executable, script, "stopped"], cwd=tmp_path)
    journal, limit = tmp_path / "stopped" / "journal.jsonl", time.monotonic() + 120
    while time.monotonic() < limit and begun.poll() is None and (not journal.is_file() or journal.read_text().count('"estimate"') < 5):
        time.sleep(0.05)
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    assert 5 <= journal.read_text().count('"estimate"') < 12
    with pytest.raises(RunError) as said:
        words_of(tmp_path / "stopped")
    assert "run `mine.py stopped` again" in str(said.value).replace(f"{tmp_path}/", "")
    script.write_text(STUDY.format(wait=0.0, strategy=strategy))
    subprocess.run([sys.executable, script, "stopped"], cwd=tmp_path, check=True)
    assert answers(journal) == answers(tmp_path / "whole" / "journal.jsonl")
