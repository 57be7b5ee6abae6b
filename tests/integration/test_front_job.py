"""`archduel search --objective accuracy --objective macs`: a front, trained, validated and tested; resumed; members; bad input."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import archduel
from archduel.commands import app
from archduel.commands.search.audit import audit
from archduel.commands.search.objectives import checked_objectives
from archduel.commands.search.settings import make_settings
from archduel.core import Arch, Counts, Scale
from archduel.errors import RunError, SettingError, UnknownNameError
from archduel.race import Tradeoff
from archduel.race.fronts import FrontRace
from archduel.race.rungs import Rungs, Standing

pytestmark = pytest.mark.usefixtures("no_onnx")


def images(seed: int = 0) -> tuple[Any, Any]:
    """120 small images in three classes that a network can tell apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(120) % 3
    shades = rng.integers(0, 120, (120, 8, 8, 1)) + 45 * labels[:, None, None, None]
    return shades.astype(np.uint8), labels


GIVEN: dict[str, Any] = {
    "objectives": ["accuracy", "macs"], "evaluations": 5, "workers": 1, "start": "scratch", "max_macs": "60k", "quiet": True,
    "set": {"race.last_epochs": 10},
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with a front."""
    folder = tmp_path_factory.mktemp("front")
    data = folder / "images.npz"
    x, y = images()
    np.savez(data, images=x, labels=y)
    return archduel.search(data, out=folder / "run", **GIVEN).folder


def test_members_are_trained_validated_and_tested_once(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    found = result["front"]
    assert found["objectives"] == ["accuracy", "macs"]
    assert [row["member"] for row in found["members"]] == list(range(1, len(found["members"]) + 1))
    assert sum(row["knee"] for row in found["members"]) == 1
    events = [json.loads(line) for line in (finished / "journal.jsonl").read_text().splitlines()]
    choice = next(e for e in events if e["event"] == "choice")
    assert {row["number"] for row in found["members"]} == set(choice["numbers"])
    tests = [e for e in events if e["event"] == "test"]
    assert len(tests) == len(found["members"])
    # no test image is read before the last member was trained and validated
    order = [e["event"] for e in events]
    assert order.index("test") > max(i for i, event in enumerate(order) if event == "member")
    for row in found["members"]:
        assert row["costs"] == {"macs": row["macs"]}
        assert row["passes"] == pytest.approx(10, abs=1)
        assert (finished / row["folder"] / "model.json").is_file()
    knee = next(row for row in found["members"] if row["knee"])
    assert knee["arch"] == result["networks"]["search"]["arch"]
    assert knee["non_dominated"]
    volumes = [value for _, value in found["hypervolume"]]
    assert 0 < volumes[-1] <= 1.21
    assert "is handed over" in result["gain"]["race"]["sentence"]


def test_what_nothing_beats_is_marked(finished: Path) -> None:
    members = json.loads((finished / "result.json").read_text())["front"]["members"]
    for row in members:
        beaten = any(o["validation"]["score"] >= row["validation"]["score"] and o["macs"] < row["macs"] for o in members)
        assert row["non_dominated"] != beaten


def test_any_member_can_be_taken(finished: Path, tmp_path: Path) -> None:
    run = archduel.Run(finished)
    members = run.result["front"]["members"]
    x = torch.rand(2, 1, members[0]["recipe"]["image_size"], members[0]["recipe"]["image_size"])
    for row in members:
        model = run.model(member=row["member"])
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == row["params"]
        assert model(x).shape == (2, 3)
    last = members[-1]["member"]
    done = CliRunner().invoke(app, ["export", str(finished), "--member", str(last), "--to", str(tmp_path / "shipped")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "shipped" / "model.py").is_file()
    for wrong in (0, last + 1):
        with pytest.raises(RunError, match=f"members 1 to {last}"):
            run.model(member=wrong)


def test_the_report_draws_the_front(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert 'id="front"' in page
    assert "the knee" in page
    assert "multiply-adds" in page
    assert "archduel audit" not in page  # which refuses fronts
    assert "by the likelihood of the right classes" in page  # or a member that is beaten may show the higher accuracy
    result = json.loads((finished / "result.json").read_text())
    others = [row["member"] for row in result["front"]["members"] if not row["knee"]]
    assert [int(number) for number in re.findall(r"--member (\d+)", page)] == [others[0]] * 2 if others else "--member" not in page


def test_what_is_for_one_network_is_refused(finished: Path) -> None:
    with pytest.raises(RunError, match="several objectives"):
        audit(finished, quiet=True)
    data = finished.parent / "images.npz"
    with pytest.raises(RunError, match="several objectives"):
        archduel.search(data, time="+1m", out=finished, quiet=True)


class Killed(BaseException):
    """Stands in for kill -9: nothing of ours catches it."""


@pytest.mark.parametrize("after", ["rung", "choice", "begins", "member", "test"])
def test_a_killed_run_goes_on_and_comes_to_the_same(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    from archduel.core.storage import Journal

    data, append = finished.parent / "images.npz", Journal.append

    def until(self: Any, record: Any) -> Any:
        said = append(self, record)
        if record["event"] == after:
            raise Killed
        return said

    monkeypatch.setattr(Journal, "append", until)
    with pytest.raises(Killed):
        archduel.search(data, out=tmp_path / "run", **GIVEN)
    monkeypatch.setattr(Journal, "append", append)
    archduel.search(data, out=tmp_path / "run", **GIVEN)
    fields = ("arch", "costs", "knee", "test", "validation")
    one, two = (json.loads((p / "result.json").read_text())["front"]["members"] for p in (finished, tmp_path / "run"))
    assert [[row[f] for f in fields] for row in one] == [[row[f] for f in fields] for row in two]
    shutil.rmtree(tmp_path / "run")


# -- bad input, and decisions by hand ----------------------------------------------------------------------------------


def test_bad_objectives_are_explained() -> None:
    with pytest.raises(UnknownNameError, match="objective 'energy'"):
        checked_objectives(["accuracy", "energy"])
    with pytest.raises(SettingError, match="'macs' is there twice"):
        checked_objectives(["accuracy", "macs", "macs"])
    with pytest.raises(SettingError, match="accuracy is not among them"):
        checked_objectives(["params", "macs"])
    assert checked_objectives(["accuracy"]) is None
    assert checked_objectives(["macs", "accuracy"]) == ["accuracy", "macs"]


def test_settings_of_a_front() -> None:
    assert make_settings(data="digits").objectives is None
    made = make_settings(data="digits", objectives="macs,accuracy", front=3)
    assert (made.objectives, made.strategy, made.ranker, made.race) == (["accuracy", "macs"], "best", "gp", True)
    with pytest.raises(SettingError, match="front: expected at least 1, got 0"):
        make_settings(data="digits", objectives=["accuracy", "macs"], front=0)
    with pytest.raises(SettingError, match="one objective"):
        make_settings(data="digits", front=3)
    with pytest.raises(SettingError, match="for races"):
        make_settings(data="digits", objectives=["accuracy", "macs"], race=False)


def test_rungs_promote_what_nothing_beats() -> None:
    rungs = Rungs(first=1.0, level=100.0)
    standings = {
        0: Standing([0.9], costs=(5.0,)), 1: Standing([0.5], costs=(1.0,)), 2: Standing([0.8], costs=(6.0,)),
        3: Standing([0.4], costs=(2.0,)), 4: Standing([0.7], costs=(7.0,)), 5: Standing([0.3], costs=(3.0,)),
    }  # fmt: skip
    # two of six deserve it: the two that nothing beats, though 2 and 4 have better scores than 1
    first = rungs.next_move(standings, [100.0, 0.0, 1e9], newcomers=False)
    standings[first.number].scores.append(0.9)  # type: ignore[union-attr]
    second = rungs.next_move(standings, [100.0, 0.0, 1e9], newcomers=False)
    assert {first.number, second.number} == {0, 1}  # type: ignore[union-attr]


def test_a_cost_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from archduel.race.newcomers import Entry
    from archduel.race.race import Race

    entry = Entry("search", Arch("toy", (0, 1)), Scale(4, 1, 8, 1, 2), Counts(10, 20))
    monkeypatch.setattr(Race, "_sized", lambda *_: entry)
    race = object.__new__(FrontRace)
    for cost, kept in ((2.0, True), (float("nan"), False), (float("inf"), False), (0.0, False)):
        race.tradeoff = Tradeoff(lambda *_, cost=cost: {"latency_ms": cost})  # type: ignore[misc]
        assert (race._sized(None, "search", entry.arch, 0, None) is not None) == kept  # type: ignore[arg-type]
