"""Trackers: where the numbers of a job go besides its own journal. Four functions; TensorBoard, MLflow, Weights & Biases and Optuna are built in."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from archduel.core.disk import read_json, write_atomic
from archduel.errors import SettingError

__all__ = ["Candidate", "CandidateTracker", "MLflow", "Service", "TensorBoard", "Tracker", "WeightsAndBiases", "flat"]


class Tracker(Protocol):
    """What a tracker can do; any object with these four methods is one."""

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        """Starts a job called ``name``; ``settings`` are nested JSON values. Called again when it continues."""

    def note(self, numbers: Mapping[str, float], epoch: float) -> None:
        """Takes the numbers of an epoch of a training (from 1; a fraction for a part of one), or of the n-th answer of another job."""

    def keep(self, path: Path) -> None:
        """Takes a file that the job wrote."""

    def end(self, result: Mapping[str, Any]) -> None:
        """Ends the job; ``result`` is empty if it did not finish."""


@dataclass(frozen=True)
class Candidate:
    """One network of a search, or one trial of a comparison, as far as it has got.

    Attributes:
        number: which, from 0, in its group.
        name: the architecture as text, or the trial.
        group: of a comparison the contestant, empty elsewhere.
        answers: decision -> (answer, all answers that there are); no answers where the answer is a number.
        curve: step (rung, query) -> score so far, higher is better.
        score: its last one; None = none yet, or failed.
        state: how far.
        measures: further numbers, such as ``params``.
        clock: seconds of the job when this was so; of ``seconds`` the candidate took.
        seconds: that it took.
    """

    number: int
    name: str
    group: str = ""
    answers: Mapping[str, tuple[Any, tuple[Any, ...]]] = field(default_factory=dict)
    curve: Mapping[int, float] = field(default_factory=dict)
    score: float | None = None
    state: Literal["running", "finished", "dropped", "failed"] = "running"
    measures: Mapping[str, Any] = field(default_factory=dict)
    clock: float = 0.0
    seconds: float = 0.0


@runtime_checkable
class CandidateTracker(Protocol):
    """A tracker that is told each network of a job too, before the numbers that it gave."""

    def candidate(self, candidate: Candidate) -> None:
        """Takes a network, again when it has got further."""


def _check_installed(package: str, called: str) -> None:
    """Refuses a tracker whose package is not there; before images are read, the package itself is imported when the job begins."""
    if find_spec(package) is None:
        raise SettingError(f"{called} is not installed; install it with `pip install 'archduel[{package}]'`")


class TensorBoard:
    """Writes scalars and settings for TensorBoard; a continued training goes on in the same folder.

    Args:
        folder: of the event files; a subfolder for each name is made.

    Raises:
        SettingError: if TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        _check_installed("tensorboard", "TensorBoard")
        self.folder = Path(folder)
        self._writer: Any = None

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        """Opens the event file and writes the settings as text."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder / name))  # type: ignore[no-untyped-call]
        lines = [f"    {key} = {value!r}" for key, value in flat(settings)]
        self._writer.add_text("settings", "\n".join(lines))

    def note(self, numbers: Mapping[str, float], epoch: float) -> None:
        """Writes a scalar a number; TensorBoard counts whole steps, so a part of an epoch counts as the whole."""
        step = _whole(epoch)
        for name, value in numbers.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, step)

    def keep(self, path: Path) -> None:
        """Writes where the file is."""
        self._writer.add_text("files", str(path))

    def end(self, result: Mapping[str, Any]) -> None:
        """Writes the numbers of the result and closes the file."""
        for name, value in _numbers(result):
            self._writer.add_scalar(f"result/{name}", value, 0)
        self._writer.close()


def _whole(epoch: float) -> int:
    """Returns the number of the epoch that a part of it belongs to."""
    return -int(-epoch // 1)


EVERY = 1.0
"""Seconds between two requests to a service, and between two notes of how far it was told, where a whole journal is told at once."""


class _Told:
    """What a tracker of a service was told of a job already, in a file: a continued job is told on, and nothing twice.

    Attributes:
        run: what the service calls the job's run, empty before it has one.
        last: the last epoch that was told.
    """

    def __init__(self, folder: Path, kind: str, name: str, settings: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
        self.path, self.key, self._written = folder / f"{kind}.json", f"{name} {digest}", -math.inf
        known = read_json(self.path, remedy="delete it, and everything is told again") if self.path.is_file() else {}
        self.run, self.last = known.get(self.key, ["", -1.0])

    def due(self) -> bool:
        """Returns whether enough time has passed since it was written."""
        return time.monotonic() - self._written >= EVERY

    def write(self) -> None:
        """Writes it down."""
        known = read_json(self.path) if self.path.is_file() else {}
        write_atomic(self.path, json.dumps({**known, self.key: [self.run, self.last]}).encode())
        self._written = time.monotonic()


class _Metric(NamedTuple):
    """What a client gets that is not MLflow's own."""

    key: str
    value: float
    timestamp: int
    step: int


class Service(ABC):
    """What trackers of a service share: the folder, the client that is imported when a job begins, and what it was told already.

    Args:
        folder: of what is written.
        client: what is called; None = it is imported.
    """

    PACKAGE, CALLED = "", ""

    def __init__(self, folder: str | Path, client: Any = None) -> None:
        if client is None:
            _check_installed(self.PACKAGE, self.CALLED)
        self.folder, self._client = Path(folder).resolve(), client
        self._told: Any = None

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        """Makes the run with its settings, or goes on with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._client is None:
            self._client = self._imported()
        self._told = _Told(self.folder, self.PACKAGE, name, settings)
        self._told.run = self._opened(name, settings)
        self._told.write()

    @abstractmethod
    def _imported(self) -> Any:
        """Returns the client, made now."""

    @abstractmethod
    def _opened(self, name: str, settings: Mapping[str, Any]) -> str:
        """Opens the run and returns what the service calls it."""


class MLflow(Service):
    """Writes metrics, settings and files for MLflow: to the server of ``MLFLOW_TRACKING_URI``, else into a database in the folder.

    `mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db` shows it.

    Args:
        folder: of the database and the files.
        client: an ``MlflowClient``; None = one is made.

    Raises:
        SettingError: if MLflow is not installed.
    """

    PACKAGE, CALLED = "mlflow", "MLflow"
    EXPERIMENT = "archduel"
    LONGEST = 500  # characters of a parameter, and the parameters of one request
    MOST = 100

    def __init__(self, folder: str | Path, client: Any = None) -> None:
        super().__init__(folder, client)
        self._metric: Any = _Metric
        self._waiting: list[Any] = []

    def _imported(self) -> Any:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self._metric = Metric
        return MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.folder / 'mlflow.db'}")

    def _opened(self, name: str, settings: Mapping[str, Any]) -> str:
        if self._told.run:
            self._client.update_run(self._told.run, status="RUNNING")
            return str(self._told.run)
        experiment = self._client.get_experiment_by_name(self.EXPERIMENT)
        # files beside the database, unless a server says where
        place = None if os.environ.get("MLFLOW_TRACKING_URI") else (self.folder / "files").as_uri()
        number = experiment.experiment_id if experiment else self._client.create_experiment(self.EXPERIMENT, artifact_location=place)
        run: str = self._client.create_run(number, run_name=name).info.run_id
        for key, value in flat(settings)[: self.MOST]:
            self._client.log_param(run, _plain(key), str(value)[: self.LONGEST])
        return run

    def note(self, numbers: Mapping[str, float], epoch: float) -> None:
        """Writes a metric a number; MLflow counts whole steps, so a part of an epoch counts as the whole."""
        if epoch <= self._told.last:
            return
        now = int(time.time() * 1000)
        self._waiting += [
            self._metric(_plain(name), float(value), now, _whole(epoch)) for name, value in numbers.items() if name != "epoch" and math.isfinite(value)
        ]
        self._told.last = epoch
        if self._told.due() or len(self._waiting) >= self.LONGEST:
            self._send()

    def _send(self) -> None:
        self._client.log_batch(self._told.run, metrics=self._waiting)
        self._waiting = []
        self._told.write()

    def keep(self, path: Path) -> None:
        """Copies the file to the run's."""
        self._client.log_artifact(self._told.run, str(path))

    def end(self, result: Mapping[str, Any]) -> None:
        """Writes the numbers of the result; a job without one is killed, so far."""
        now = int(time.time() * 1000)
        self._waiting += [self._metric(_plain(f"result/{name}"), float(value), now, 0) for name, value in _numbers(result)][: self.LONGEST]
        self._send()
        self._client.set_terminated(self._told.run, status="FINISHED" if result else "KILLED")


def _plain(name: str) -> str:
    """Returns a name that MLflow takes."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)


class WeightsAndBiases(Service):
    """Writes metrics, settings and files for Weights & Biases, offline unless ``WANDB_MODE`` says otherwise; `wandb sync FOLDER` sends them.

    Args:
        folder: of the run's files.
        client: what is called, the module ``wandb``; None = it is imported.

    Raises:
        SettingError: if wandb is not installed.
    """

    PACKAGE, CALLED = "wandb", "Weights & Biases"
    PROJECT = "archduel"
    _run: Any = None

    def _imported(self) -> Any:
        import wandb

        return wandb

    def _opened(self, name: str, settings: Mapping[str, Any]) -> str:
        run: str = self._told.run or hashlib.sha256(self._told.key.encode()).hexdigest()[:12]
        self._run = self._client.init(
            project=self.PROJECT, name=name, id=run, resume="allow", dir=str(self.folder), config=dict(flat(settings)),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )  # fmt: skip
        self._run.define_metric("*", step_metric="epoch")
        return run

    def note(self, numbers: Mapping[str, float], epoch: float) -> None:
        """Logs the numbers; charts have the epoch below them."""
        if epoch <= self._told.last:
            return
        self._run.log({**{name: value for name, value in numbers.items() if math.isfinite(value)}, "epoch": epoch})
        self._told.last = epoch
        if self._told.due():
            self._told.write()

    def keep(self, path: Path) -> None:
        """Copies the file to the run's."""
        self._run.save(str(path), base_path=str(path.parent), policy="now")

    def end(self, result: Mapping[str, Any]) -> None:
        """Writes the numbers of the result and closes the run."""
        self._run.summary.update({f"result/{name}": value for name, value in _numbers(result)})
        self._run.finish(exit_code=0 if result else 1)
        self._told.write()


def _numbers(result: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Returns the finite numbers of a nested result."""
    return [(name, value) for name, value in flat(result) if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)]


def flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Returns (``section.key``, value) of nested values."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += flat(value, f"{before}{key}.") if isinstance(value, Mapping) else [(f"{before}{key}", value)]
    return found
