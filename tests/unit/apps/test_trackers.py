"""Trackers for every job: what MLflow and Weights & Biases are sent, nothing twice, a failing one does not end a job."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner
from watch import long_race

from archduel.commands import app
from archduel.commands.journals import place_of
from archduel.commands.tracking import Steps, Teller, following, replay, tracking_folder
from archduel.core.storage import Journal
from archduel.errors import RunError, SettingError
from archduel.training import MLflow, WeightsAndBiases


class FakeMLflow:
    """A client in memory."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, Any] = {}

    def get_experiment_by_name(self, name: str) -> Any:
        return self.experiments.get(name)

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        self.experiments[name] = SimpleNamespace(experiment_id="7", place=artifact_location)
        return "7"

    def create_run(self, experiment: str, run_name: str) -> Any:
        assert experiment == "7"
        self.runs[f"r{len(self.runs)}"] = {"name": run_name, "params": {}, "metrics": [], "files": [], "status": "RUNNING"}
        return SimpleNamespace(info=SimpleNamespace(run_id=f"r{len(self.runs) - 1}"))

    def update_run(self, run: str, status: str) -> None:
        self.runs[run]["status"] = status

    def log_param(self, run: str, key: str, value: str) -> None:
        assert key not in self.runs[run]["params"]
        self.runs[run]["params"][key] = value

    def log_batch(self, run: str, metrics: list[Any]) -> None:
        self.runs[run]["metrics"] += [(metric.key, metric.value, metric.step) for metric in metrics]

    def log_artifact(self, run: str, path: str) -> None:
        self.runs[run]["files"].append(Path(path).name)

    def set_terminated(self, run: str, status: str) -> None:
        self.runs[run]["status"] = status


class FakeWandb:
    """The module in memory."""

    def __init__(self) -> None:
        self.opened: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []
        self.saved: list[str] = []
        self.summary: dict[str, Any] = {}
        self.code: int | None = None

    def init(self, **settings: Any) -> Any:
        self.opened.append(settings)
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "epoch")

    def log(self, numbers: dict[str, Any]) -> None:
        self.logged.append(numbers)

    def save(self, path: str, base_path: str, policy: str) -> None:
        assert Path(path).parent == Path(base_path)
        self.saved.append(Path(path).name)

    def finish(self, exit_code: int) -> None:
        self.code = exit_code


@pytest.fixture
def race(tmp_path: Path) -> Path:
    """Returns the folder of a race that is finished but for its report."""
    long_race(tmp_path / "race", 9).close()
    winner = {"arch": "stages:1", "params": 7, "macs": 9, "test": {"accuracy": [0.5, 0.7]}}
    (tmp_path / "race" / "result.json").write_text(json.dumps({"networks": {"search": winner}}))
    return tmp_path / "race"


def test_mlflow_gets_settings_metrics_files_and_result_once(race: Path, tmp_path: Path) -> None:
    client = FakeMLflow()
    assert replay(race, MLflow(tmp_path / "out", client)) == 6
    (run,) = client.runs.values()
    assert (run["name"], run["status"], run["files"]) == ("race", "FINISHED", ["result.json"])
    assert run["params"]["run.seconds"] == "7200.0"
    assert [step for key, _, step in run["metrics"] if key == "validation accuracy"] == [1, 2, 3, 4, 5, 6]
    best = [value for key, value, _ in run["metrics"] if key == "best validation accuracy"]
    assert best == sorted(best)
    assert ("result/test_accuracy", 0.6, 0) in run["metrics"]
    assert client.experiments["archduel"].place == (tmp_path / "out" / "files").as_uri()
    known = len(run["metrics"])
    replay(race, MLflow(tmp_path / "out", client))  # told again: the result alone, in the same run
    assert len(client.runs) == 1
    assert len(run["metrics"]) == known + 3
    (race / "run.toml").write_text((race / "run.toml").read_text().replace("random", "best"))
    replay(race, MLflow(tmp_path / "out", client))
    assert len(client.runs) == 2


def test_wandb_gets_them_offline_and_goes_on_where_it_was(race: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    wandb = FakeWandb()
    replay(race, WeightsAndBiases(tmp_path / "out", wandb))
    (opened,) = wandb.opened
    assert (opened["mode"], opened["name"], opened["project"], opened["dir"]) == ("offline", "race", "archduel", str(tmp_path / "out"))
    assert opened["config"]["run.strategy"] == "random"
    assert [entry["epoch"] for entry in wandb.logged] == [1, 2, 3, 4, 5, 6]
    assert wandb.summary == {"result/test_accuracy": 0.6, "result/params": 7, "result/macs": 9}
    assert (wandb.saved, wandb.code) == (["result.json"], 0)
    first = json.loads((race / "journal.jsonl").read_text().splitlines()[1])
    journal = Journal(race / "journal.jsonl")
    journal.append({name: value for name, value in first.items() if name != "crc32"})
    journal.close()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    replay(race, WeightsAndBiases(tmp_path / "out", wandb))
    assert [entry["epoch"] for entry in wandb.logged] == [1, 2, 3, 4, 5, 6, 7]
    assert wandb.opened[1]["id"] == opened["id"]
    assert wandb.opened[1]["mode"] == "disabled"


def test_a_long_journal_is_told_in_few_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_race(tmp_path / "race", 2_000).close()
    client, sent = FakeMLflow(), []
    monkeypatch.setattr("archduel.training.tracking.EVERY", 1e9)
    monkeypatch.setattr(client, "log_batch", lambda run, metrics: sent.append(len(metrics)))
    assert replay(tmp_path / "race", MLflow(tmp_path / "out", client)) == 1_200
    assert max(sent) < 1_000  # more than MLflow takes at a time
    assert len(sent) < 20


def record(event: str, **values: Any) -> dict[str, Any]:
    """Returns a record of a journal."""
    return {"event": event, "clock": 2.0, **values}


def test_every_kind_of_answer_is_numbers_at_a_step() -> None:
    steps = Steps()
    estimate = {"arch": "a:1", "seconds": 3.0, "reason": "", "values": {"params": 5, "history": []}}
    assert steps(record("estimate", score=0.5, **estimate)) == ({"score": 0.5, "best score": 0.5, "seconds": 3.0, "params": 5, "clock": 2.0}, 1.0)
    assert steps(record("estimate", score=None, **estimate)) is None
    numbers, step = steps(record("estimate", score=-0.7, **{**estimate, "values": {"val_metric": 0.25}}))  # type: ignore[misc]
    assert (numbers["validation accuracy"], numbers["best validation accuracy"], step) == (0.25, 0.5, 2.0)
    assert steps(record("trial", title="a", scores=[0.1, float("nan"), 0.3], run=2)) == ({"a/run": 2, "a/best score": 0.3, "clock": 2.0}, 3.0)
    assert steps(record("trial", ranker="gp", labels=9, quality={"kendall_tau": 0.4})) == ({"gp/labels": 9, "gp/kendall_tau": 0.4, "clock": 2.0}, 4.0)
    assert steps(record("one-shot step", number=3, metrics={"loss": 1.5}, seconds=2.0)) == ({"loss": 1.5, "seconds": 2.0, "clock": 2.0}, 5.0)
    assert steps(record("rung", number=1, rung=0, point={})) is None
    assert steps(record("plan")) is None
    assert steps({"epoch": 1.5, "train_loss": 0.25, "note": "x"}) == ({"epoch": 1.5, "train_loss": 0.25}, 1.5)


class Listener:
    """A tracker that remembers, or breaks."""

    heard: list[Any] = []
    broken = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, name: str, settings: Any) -> None:
        self.heard.append(("begin", name))

    def note(self, numbers: Any, epoch: float) -> None:
        if self.broken:
            raise OSError("the service is gone")
        self.heard.append(("note", epoch))

    def keep(self, path: Path) -> None:
        self.heard.append(("keep", path.name))

    def end(self, result: Any) -> None:
        self.heard.append(("end", result.get("params")))


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Returns what a tracker hears whose name is ``listener``."""
    monkeypatch.setattr("archduel.commands.tracking.make_tracker", lambda name, folder: Listener(folder))
    monkeypatch.setattr("archduel.commands.tracking.LOOKS", 0.01)
    monkeypatch.setattr(Listener, "heard", heard := [])
    return heard


def test_a_job_is_told_while_it_works(tmp_path: Path, heard: list[Any]) -> None:
    with following("listener", tmp_path / "race"):
        long_race(tmp_path / "race", 9).close()
    assert heard == [("begin", "race"), *(("note", float(n)) for n in range(1, 7)), ("end", None)]
    with following("", None):
        pass
    with pytest.raises(RunError, match="give --out"), following("listener", None):
        pass
    heard.clear()
    with following("listener", tmp_path / "nothing"):  # a job that ended before it began
        pass
    assert heard == []


def test_a_tracker_that_fails_is_given_up_and_the_job_goes_on(race: Path, heard: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listener, "broken", True)
    said: list[str] = []
    with following("listener", race, said.append):
        pass
    (line,) = said
    assert line.startswith("warning: the tracker is given up")
    assert "the service is gone" in line


def test_a_journal_that_is_made_anew_is_told_anew(race: Path, heard: list[Any]) -> None:
    teller = Teller(Listener(race), place_of(race))
    assert teller.catch_up() == 6
    journal = Journal(race / "journal.jsonl")
    journal.drop(lambda record: record["number"] > 0)
    journal.close()
    teller.catch_up()
    assert heard[-1] == ("note", 1.0)


def test_the_command_tells_any_job(race: Path, heard: list[Any]) -> None:
    done = CliRunner().invoke(app, ["track", str(race), "--to", "listener", "--follow"])
    assert done.exit_code == 0, done.output
    assert "6 steps told to listener" in done.output
    assert heard[-2:] == [("keep", "result.json"), ("end", 7)]


def test_where_a_tracker_writes() -> None:
    assert tracking_folder(Path("runs/v1.2")) == Path("runs/v1.2/tracking")
    assert tracking_folder(Path("runs/c10.trials.jsonl")) == Path("runs/c10.tracking")


@pytest.mark.parametrize(("tracker", "extra"), [(MLflow, "mlflow"), (WeightsAndBiases, "wandb")])
def test_a_missing_package_is_named(tracker: Any, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archduel.training.tracking.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=rf"archduel\[{extra}\]"):
        tracker(tmp_path)


def test_mlflow_reads_what_was_written(race: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    replay(race, MLflow(tmp_path / "out"))
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("archduel").experiment_id])
    assert run.data.metrics["result/test_accuracy"] == 0.6
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "validation accuracy")] == [1, 2, 3, 4, 5, 6]


def test_wandb_writes_a_run_offline(race: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    replay(race, WeightsAndBiases(tmp_path / "out"))
    assert list((tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb"))
