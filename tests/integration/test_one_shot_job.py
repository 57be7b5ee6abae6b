"""`archduel search --strategy spos|cnas|...` from the outside: it finishes, it continues, it says what its scores are worth."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clocked import slow_machine

import archduel
from archduel.commands.search import one_shot
from archduel.commands.search import run as job
from archduel.core.storage import load_state
from archduel.errors import SettingError, UnknownNameError
from archduel.execution import Sequential

SMALL: dict[str, Any] = {
    "evaluations": 4, "max_images": 200, "final_seeds": 1, "workers": 1, "quiet": True,
    "set": {
        "label.epochs": 1, "label.channels": 4, "label.depth": 1, "reevaluate.epochs": 1, "final.epochs": 1, "plan.channels": 4,
        "plan.depth": 1, "plan.shortlist": 2,
    },
}  # fmt: skip
FEW = {
    "spos": {"strategy.epochs": 2, "strategy.batches": 2, "strategy.population": 4, "strategy.generations": 2},
    "cnas": {"strategy.order": ["nor_conv_3x3", "skip_connect"], "strategy.batches": 2},
    "relativenas": {"strategy.population": 4, "strategy.generations": 2, "strategy.batches": 1, "supernet.residual": True},
    "darts": {"strategy.epochs": 2, "strategy.batches": 1},
    "ctnas-oneshot": {
        "strategy.epochs": 2, "strategy.batches": 2, "strategy.labels": 8, "strategy.iterations": 4, "strategy.samples": 8, "ranker.epochs": 5,
    },
}  # fmt: skip


def run(out: Path, name: str, **settings: Any) -> archduel.Run:
    """Returns a small run of a strategy."""
    return archduel.search("digits", out=out, strategy=name, **{**SMALL, **settings, "set": {**SMALL["set"], **FEW[name], **settings.get("set", {})}})


@pytest.fixture(scope="module", autouse=True)
def _here() -> Iterator[None]:
    """Trains in this process and exports nothing, which the tests of the main job do: what is tested lies before that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archduel.commands.search.executors.Processes", lambda factory, *, run_seed, **_: Sequential(factory(), run_seed=run_seed))
        patch.setattr(job, "hand_over", lambda folder, result, progress: folder.note("handed over"))
        yield


def timeless(value: object) -> object:
    """Returns a result without its times, which differ from run to run."""
    if isinstance(value, dict):
        times = {"clock", "core_seconds", "seconds"}
        return {key: timeless(item) for key, item in value.items() if key not in times}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def journal(folder: Path) -> list[dict[str, Any]]:
    """Returns the records of a run."""
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> archduel.Run:
    return run(tmp_path_factory.mktemp("runs") / "whole", "spos")


def test_a_run_compares_with_random_search_and_checks_its_scores(finished: archduel.Run) -> None:
    result, records = finished.result, journal(finished.folder)
    assert set(result["networks"]) == {"search", "random", "standard"}
    assert next((row["first"], row["second"], row["n"]) for row in result["agreement"]) == ("shared weights", "label", 4)
    assert sum(r["event"] == "one-shot step" for r in records) == 5  # 2 epochs, 3 generations
    assert [r["metrics"]["done"] for r in records if r["event"] == "one-shot step"][-1] == 1
    assert sum(r["event"] == "estimate" and r["stage"] in ("check", "random") for r in records) == SMALL["evaluations"]
    # in the order of accuracy, loss and size together, which is not that of the accuracies shown (test_one_shot_strategies.py)
    assert len({arch for arch, _ in result["search"]}) == len(result["search"])
    assert all(0 <= score <= 1 for _, score in result["search"])
    assert result["shortlists"][0] == [arch for arch, _ in result["search"]][:2]


def test_the_report_shows_the_search_and_how_well_it_ranks(finished: archduel.Run) -> None:
    page = finished.report().read_text()
    assert "shared weights may rank cells at random" in page or "rank cells better than chance" in page or "is not known" in page
    assert "diversity of the population" in page
    assert "Leading after step" in page
    assert "one-shot" in page


@pytest.mark.parametrize(("name", "checkpoints"), [("spos", 0.0), ("relativenas", 0.0), ("cnas", math.inf)])
def test_a_stopped_run_ends_like_an_uninterrupted_one(
    name: str, checkpoints: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", name, baselines=False)
    monkeypatch.setattr(one_shot, "CHECKPOINT_SECONDS", checkpoints)
    note, seen = one_shot.Steps.note, list[int]()

    def stopping(self: Any, report: Any) -> None:
        note(self, report)
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(one_shot.Steps, "note", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", name, baselines=False)
    page = archduel.Run(tmp_path / "stopped").report().read_text()  # of the unfinished run
    assert "images one-shot" in page
    stopped = run(tmp_path / "stopped", name, baselines=False)
    assert timeless(whole.result) == timeless(stopped.result)
    if name == "cnas":
        assert (stopped.folder / "checkpoints" / "one-shot-stage2.safetensors").is_file()
    weights = load_state(stopped.folder / "checkpoints" / "one-shot.safetensors")["strategy"]["shared"]["weights"]
    assert any(".main." in key for key in weights) == (name == "relativenas")  # which asks for residual blocks
    numbers = [r["number"] for r in journal(stopped.folder) if r["event"] == "one-shot step"]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("name", ["darts", "ctnas-oneshot"])
def test_other_strategies_run_too(name: str, tmp_path: Path) -> None:
    found = run(tmp_path / name, name, baselines=False, max_params="1M")
    assert found.settings.strategy == name.replace("-", "_")
    assert found.result["networks"]["search"]["params"] <= 1_000_000


def test_a_paper_s_own_variant_of_the_space_is_searched_and_drawn(tmp_path: Path) -> None:
    few = {"space.preset": "cnas", "strategy.grow": "nodes", "strategy.order": ["sep_conv_3x3"], "strategy.warmup_epochs": 0, "strategy.stage_epochs": 1}
    found = run(tmp_path / "nodes", "cnas", space="darts", baselines=False, set={**few, "plan.depth": 3, "label.depth": 3, "plan.shortlist": 1})
    assert found.result["networks"]["search"]["text"].startswith("Genotype(")
    stages = [r["metrics"]["stage"] for r in journal(found.folder) if r["event"] == "one-shot step"]
    assert stages == [1, 2, 3, 4]  # nodes
    assert "Leading after step" in found.report().read_text()


def test_what_cannot_be_searched_with_shared_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="supernet of space 'nasbench101' is unknown"):
        run(tmp_path / "space", "spos", space="nasbench101")
    with pytest.raises(UnknownNameError, match="operation 'conv9' is unknown"):
        run(tmp_path / "order", "cnas", set={"strategy.order": ["conv9"]})
    with pytest.raises(SettingError, match="even"):
        run(tmp_path / "odd", "relativenas", set={"strategy.population": 5})
    with pytest.raises(SettingError, match="a recipe has no such setting"):
        run(tmp_path / "recipe", "spos", set={"supernet.rate": 5})
    with pytest.raises(SettingError, match="expected a value like false"):
        run(tmp_path / "option", "spos", set={"supernet.residual": "maybe"})


def test_a_time_budget_is_planned_from_measured_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_machine(monkeypatch)
    out = tmp_path / "timed"
    timed = run(out, "cnas", evaluations=None, time="25s", baselines=False, set={"strategy.order": ["nor_conv_3x3"], "final.epochs": 1})
    plan = next(r["plan"] for r in journal(out) if r["event"] == "one-shot plan")
    assert plan["settings"]["warmup_epochs"] >= 1
    assert plan["recipe"]["schedule"] == "constant"
    assert timed.result["core_seconds"]["one-shot"] > 0
