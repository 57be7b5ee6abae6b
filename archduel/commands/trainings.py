"""Many architectures under many recipes: trained once, journalled, continued by the same call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from archduel.commands.progress import Progress
from archduel.core import Arch, Estimate, Executor, Journal, Query
from archduel.core.storage import (
    environment,
    estimate_record,
    lock_folder,
    record_estimate,
    record_query,
    write_atomic,
)
from archduel.data import Dataset, load
from archduel.errors import RunError
from archduel.estimators.judges import Groups, Judge
from archduel.execution import Processes, Sequential
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe, recipe_text

__all__ = ["Bench", "JobOptions", "executor_for"]

PER_RECIPE = 10_000
"""Ordinals a recipe: its number times this, plus the architecture's number."""


def executor_for(
    dataset: Dataset,
    folder: Path,
    *,
    seed: int,
    metric: str = "accuracy",
    device: str = "cpu",
    workers: int = 1,
    fused: int | str = "off",
) -> Executor:
    """Returns what trains queries whose fidelities are recipe texts: here, or in worker processes of one thread each.

    Args:
        dataset: the images.
        folder: of the job.
        seed: of the run.
        metric: what a score is.
        device: where to train.
        workers: trainings at a time, in processes.
        fused: how many each process trains at once: a number, ``auto`` (measured) or ``off``. Groups depend on what is left to do, so
            a continued job with groups agrees with an uninterrupted one only up to rounding.

    Raises:
        SettingError: for another value of ``fused``.
    """
    look = dataset.preprocessing
    parts = [Pixels(s.images, s.labels, look.mean, look.std, device=device) for s in (dataset.train, dataset.validation)]
    judge = Judge(
        parts[0], {"validation": parts[1]}, {}, dataset.n_classes, seed, metric=metric, device=device, checkpoints=folder / "checkpoints"
    )
    groups = Groups(fused, judge, workers)
    if workers == 1:
        return Sequential(judge(), run_seed=seed, at_once=groups)
    return Processes(judge, workers=workers, run_seed=seed, at_once=groups)


class Bench:
    """A folder with a journal of trainings; one process works on it at a time.

    Args:
        folder: where everything goes.
        settings: what decides the results; a folder with other settings is refused.
        executor: trains.
        progress: says what happens.

    Raises:
        RunError: if the folder holds something else, is in use, or cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], executor: Executor, progress: Progress) -> None:
        self.folder, self.executor, self.progress, self.settings = folder, executor, progress, settings
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(folder)
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {error.strerror}; give another --out") from error
        try:
            _check(folder, json.loads(json.dumps(dict(settings))))
            self.journal = Journal(folder / "journal.jsonl")
        except BaseException:
            self._lock.close()
            raise
        self._numbers = {r["text"]: int(r["number"]) for r in self.journal.records if r["event"] == "recipe"}
        self._done = {
            (int(r["ordinal"]), record_query(r)): record_estimate(r)
            for r in self.journal.records
            if r["event"] == "estimate"
        }

    def number(self, name: str, recipe: Recipe) -> int:
        """Returns the number of a recipe in this folder; a new one is written down."""
        text = recipe_text(recipe)
        if text not in self._numbers:
            self._numbers[text] = len(self._numbers)
            number = self._numbers[text]
            self.journal.append({"event": "recipe", "number": number, "name": name, "text": text, "recipe": asdict(recipe)})
        return self._numbers[text]

    def train(self, name: str, recipe: Recipe, archs: Sequence[Arch], *, first: int = 0) -> list[Estimate]:
        """Returns one estimate an architecture; those in the journal are not trained again.

        Args:
            name: what the recipe is called in the journal and the progress.
            recipe: how to train.
            archs: what.
            first: number of the first architecture among all that this recipe trains (it decides the seeds).
        """
        start, text = PER_RECIPE * self.number(name, recipe) + first, recipe_text(recipe)
        jobs = [(start + i, Query(arch, text)) for i, arch in enumerate(archs)]
        new = [job for job in jobs if job not in self._done]
        self.progress.stage(name[:40], len(jobs))
        answers = self.executor.run([query for _, query in new], [ordinal for ordinal, _ in new]) if new else iter(())
        for n, ((ordinal, query), estimate) in enumerate(zip(new, answers), 1):
            self.journal.append(estimate_record(ordinal, query, estimate))
            self._done[ordinal, query] = estimate
            said = "last failed" if estimate.failed else f"last {estimate.score:.4f}"
            self.progress.advance(len(jobs) - len(new) + n, said)
        self.progress.end()
        return [self._done[job] for job in jobs]

    def note(self, event: str, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Returns what was noted under ``event``; the first time ``make()`` is noted."""
        for record in self.journal.records:
            if record["event"] == event:
                return record
        record = {"event": event, **make()}
        self.journal.append(record)
        return record

    def write_json(self, name: str, value: Any) -> Path:
        """Writes a JSON file atomically and returns its path."""
        path = self.folder / name
        write_atomic(path, json.dumps(value, indent=1).encode() + b"\n")
        return path

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.end()
        self.executor.close()
        self.journal.close()
        self._lock.close()


def _check(folder: Path, settings: dict[str, Any]) -> None:
    """Writes the settings down, or refuses a folder with others.

    Raises:
        RunError: with the differences.
    """
    path = folder / "settings.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))["settings"]
        differing = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
        if differing:
            listed = "\n".join(f"  {key}: it has {before.get(key)!r}, now {settings.get(key)!r}" for key in differing)
            raise RunError(f"{folder} holds another job:\n{listed}\ngive another --out, or the same settings")
        return
    if [entry.name for entry in folder.iterdir() if entry.name != ".lock"]:
        raise RunError(f"{folder} is not empty and holds no such job; give another --out")
    write_atomic(path, json.dumps({"settings": settings, **environment()}, indent=1).encode())


# -- What all jobs of cheap trainings are told in the same words: who trains, where, on which part of the data ----------


@dataclass(frozen=True)
class JobOptions:
    """Options that every function of ``archduel proxy`` takes besides its own, by these names.

    Attributes:
        seed: of everything that is drawn: splits, architectures, trainings.
        metric: what a score is: ``accuracy``, ``balanced_accuracy`` or ``macro_f1``.
        device: where to train.
        workers: trainings at a time.
        fused: how many each process trains at once: a number, ``auto`` or ``off``.
        load_settings: of :func:`archduel.data.load`.
        quiet: print nothing.
    """

    seed: int = 0
    metric: str = "accuracy"
    device: str = "cpu"
    workers: int = 1
    fused: int | str = "off"
    load_settings: Mapping[str, Any] | None = None
    quiet: bool = False

    def dataset(self, data: Any) -> Dataset:
        """Returns the images, with splits of this seed."""
        return load(data, seed=self.seed, **(self.load_settings or {}))

    def bench(self, dataset: Dataset, out: str | Path, job: str, settings: Mapping[str, Any]) -> Bench:
        """Returns the opened folder of a job.

        Args:
            dataset: the images.
            out: the folder.
            job: which kind of job it is.
            settings: what else decides its results.

        Raises:
            RunError: for a folder that holds something else, is in use, or cannot be written.
            SettingError: for a value of ``fused`` that there is not.
        """
        executor = executor_for(
            dataset, Path(out), seed=self.seed, metric=self.metric, device=self.device, workers=self.workers, fused=self.fused
        )
        all_settings = {"job": job, "data": dataset.fingerprint, **settings, "seed": self.seed, "metric": self.metric}
        return Bench(Path(out), all_settings, executor, Progress(quiet=self.quiet))
