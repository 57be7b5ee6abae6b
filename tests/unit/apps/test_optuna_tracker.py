"""Jobs as studies of Optuna: a trial a network, a study a contestant, nothing twice, and the dashboard reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from watch import long_race

from archduel.commands.candidates import Candidates
from archduel.commands.tracking import follow, make_tracker, replay
from archduel.core.storage import Journal
from archduel.training import Optuna

optuna = pytest.importorskip("optuna", reason="optuna is not installed (extra 'optuna')")


def studies(folder: Path) -> dict[str, Any]:
    """Returns the studies in a folder's journal file."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "optuna.log")))
    return {name: optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)}


@pytest.fixture
def race(tmp_path: Path) -> Path:
    """Returns the folder of a race that goes on."""
    long_race(tmp_path / "race", 9).close()
    return tmp_path / "race"


def finish(race: Path) -> None:
    """Writes what a race ends with."""
    journal = Journal(race / "journal.jsonl")
    journal.append({"event": "choice", "clock": 9.0, "number": 1})
    journal.close()
    winner = {"arch": "stages:1", "params": 7, "macs": 9, "test": {"accuracy": [0.5, 0.7]}}
    (race / "result.json").write_text(json.dumps({"networks": {"search": winner}}))


def test_a_race_is_a_trial_a_network(race: Path, tmp_path: Path) -> None:
    replay(race, Optuna(tmp_path / "out"))
    (study,) = studies(tmp_path / "out").values()
    assert study.study_name == "race"
    assert study.user_attrs["run.strategy"] == "random"
    assert {trial.state.name for trial in study.trials} == {"RUNNING"}
    assert [sorted(trial.intermediate_values) for trial in study.trials] == [[0], [0, 1], [0], [0, 1]]
    assert study.trials[1].params["stages stem"] == "conv2"
    assert study.trials[1].user_attrs["kind"] == "random"
    finish(race)
    replay(race, make_tracker("optuna", tmp_path / "out"))  # goes on in the same study, from another process
    (study,) = studies(tmp_path / "out").values()
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "COMPLETE", "PRUNED", "PRUNED"]
    assert study.best_trial.value == study.best_trial.intermediate_values[1]
    assert study.user_attrs["result/test_accuracy"] == 0.6
    before = (tmp_path / "out" / "optuna.log").read_text().count("\n")
    replay(race, Optuna(tmp_path / "out"))
    assert (tmp_path / "out" / "optuna.log").read_text().count('"op_code":4') == 4  # trials made: none twice
    assert (tmp_path / "out" / "optuna.log").read_text().count("\n") <= before + 8


def test_another_job_of_the_same_name_is_another_study(race: Path, tmp_path: Path) -> None:
    replay(race, Optuna(tmp_path / "out"))
    (race / "run.toml").write_text((race / "run.toml").read_text().replace("random", "best"))
    replay(race, Optuna(tmp_path / "out"))
    assert [name.partition(" ")[0] for name in studies(tmp_path / "out")] == ["race", "race"]


def test_a_comparison_is_a_study_a_contestant(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "c.trials.jsonl")
    journal.append({"event": "settings", "settings": {"table": "t"}, "clock": 0.0})
    for run in range(2):
        for title in ("best", "random"):
            journal.append({"event": "trial", "clock": 1.0, "title": title, "run": run, "scores": [0.25, float("nan"), 0.125 * (run + 3), 0.1]})
    journal.append({"event": "trial", "clock": 2.0, "ranker": "gp", "labels": 9, "quality": {"kendall_tau": 0.5}})
    journal.close()
    assert follow(tmp_path / "c.trials.jsonl", Optuna(tmp_path / "out")) == 5
    found = studies(tmp_path / "out")
    assert sorted(found) == ["c", "c / best", "c / gp", "c / random"]
    assert [trial.value for trial in found["c / best"].trials] == [0.375, 0.5]
    assert found["c / best"].trials[1].intermediate_values == {1: 0.25, 2: 0.25, 3: 0.5, 4: 0.5}
    assert found["c / random"].trials[1].params == {"run": 1}
    assert (found["c / gp"].best_value, found["c / gp"].best_params) == (0.5, {"labels": 9})


def test_evaluations_are_trials_and_failures_fail() -> None:
    found = Candidates()
    estimate = {"event": "estimate", "clock": 5.0, "seconds": 2.0, "ordinal": 0}
    (one,) = found({**estimate, "arch": "nasbench201:1.0.4.2.2.3", "score": 0.5, "reason": "", "values": {"params": 9}})
    assert (one.number, one.state, one.score, one.seconds, one.measures["params"]) == (0, "finished", 0.5, 2.0, 9)
    words = [answer for answer, options in one.answers.values() if answer in options]
    assert len(words) == 6
    (two,) = found({**estimate, "arch": "mine:1", "score": None, "reason": "no memory", "values": {"answers": {"width": 24, "act": "silu"}}})
    assert (two.number, two.state, two.measures["reason"]) == (1, "failed", "no memory")
    assert two.answers == {"width": (24, ())}
    assert two.measures["answer act"] == "silu"
    (three,) = found({**estimate, "arch": "somebody.elses:1", "score": 0.25, "reason": "", "values": {}})
    assert three.answers == {}
    assert list(found.rest()) == []


def test_a_training_is_one_trial_that_goes_on(tmp_path: Path) -> None:
    def tell(epochs: range, result: dict[str, Any]) -> Any:
        """Tells some epochs and an end."""
        tracker = Optuna(tmp_path / "out")
        tracker.begin("net", {"recipe": {"epochs": 3}})
        for epoch in epochs:
            tracker.note({"epoch": epoch, "val_accuracy": 0.25 * epoch}, epoch)
        tracker.keep(tmp_path / "model.json")
        tracker.end(result)
        ((study),) = studies(tmp_path / "out").values()
        return study

    study = tell(range(1, 3), {})
    assert [(trial.state.name, trial.intermediate_values) for trial in study.trials] == [("RUNNING", {1: 0.25, 2: 0.5})]
    study = tell(range(1, 4), {"test": {"accuracy": 0.5}})
    assert [(trial.state.name, trial.value) for trial in study.trials] == [("COMPLETE", 0.75)]
    assert study.user_attrs["result/test.accuracy"] == 0.5
    assert study.user_attrs["file model.json"].endswith("model.json")


def test_a_database_can_be_named(race: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'studies.db'}")
    replay(race, Optuna(tmp_path / "out"))
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'studies.db'}") == ["race"]
