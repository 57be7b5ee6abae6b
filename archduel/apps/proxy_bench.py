"""Many architectures under many recipes: trained once, journalled, continued by the same call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from archduel.apps.folder import environment
from archduel.apps.lock import lock_folder
from archduel.apps.progress import Progress
from archduel.apps.proxy_recipes import recipe_text, text_recipe
from archduel.core import Arch, Estimate, Executor, Journal, Query, evaluation_seed
from archduel.core.checkpoint import write_atomic
from archduel.core.journal import estimate_record, record_estimate, record_query
from archduel.data import Dataset
from archduel.errors import RunError, SettingError
from archduel.estimators.training import TrainingEstimator
from archduel.execution.local import Sequential
from archduel.execution.processes import Processes
from archduel.training.pixels import Pixels
from archduel.training.recipe import Recipe

__all__ = ["Bench", "RecipeJudge", "Together", "executor_for"]

PER_RECIPE = 10_000
"""Ordinals a recipe: its number times this, plus the architecture's number."""


@dataclass(frozen=True)
class RecipeJudge:
    """Trains a query with the recipe that its fidelity spells out (:func:`~archduel.apps.proxy_recipes.recipe_text`).

    Attributes:
        train: training images.
        validation: images that scores are read from.
        n_classes: outputs.
        run_seed: of the run.
        metric: what a score is.
        device: where networks are trained.
        threads: of torch on a CPU.
        checkpoints: folder for unfinished trainings; None = they start again.
    """

    train: Pixels
    validation: Pixels
    n_classes: int
    run_seed: int
    metric: str = "accuracy"
    device: str = "cpu"
    threads: int = 1
    checkpoints: Path | None = None

    def estimator(self, fused: int | str = "off") -> TrainingEstimator:
        """Returns the estimator; its recipes are added as they are asked for."""
        return TrainingEstimator(
            self.train,
            self.validation,
            {"": Recipe()},
            n_classes=self.n_classes,
            run_seed=self.run_seed,
            metric=self.metric,
            device=self.device,
            threads=self.threads,
            default="",
            checkpoints=self.checkpoints,
            fused=fused,
        )

    def __call__(self) -> Callable[[Query, int], Estimate]:
        """Returns ``judge(query, seed)``."""
        estimator = self.estimator()

        def judge(query: Query, seed: int) -> Estimate:
            text = query.fidelity or "{}"
            estimator.recipes[text] = text_recipe(text)
            return estimator.judge(Query(query.arch, text, query.group), seed)

        return judge


class Together:
    """An executor that trains waiting queries of one recipe at once (:mod:`archduel.estimators.fused`), in this process.

    Args:
        estimator: trains; how many at once is its setting ``fused``.
        run_seed: with the ordinal it gives the seed of an evaluation.
    """

    def __init__(self, estimator: TrainingEstimator, *, run_seed: int) -> None:
        self.estimator, self.run_seed = estimator, run_seed

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query, in order, group by group."""
        place = 0
        while place < len(queries):
            text = queries[place].fidelity or "{}"
            self.estimator.recipes[text] = text_recipe(text)
            waiting = list(takewhile(lambda query: query.fidelity == text, queries[place:]))  # noqa: B023
            group = waiting[: self.estimator.at_once(waiting)]
            seeds = [evaluation_seed(self.run_seed, ordinals[place + i]) for i in range(len(group))]
            yield from self.estimator.judge_together(group, seeds)
            place += len(group)

    def close(self) -> None:
        """Nothing to end."""


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
        fused: how many are trained at once in this process: a number, ``auto`` (measured) or ``off``. Groups depend on what is
            left to do, so a continued job with groups agrees with an uninterrupted one only up to rounding.

    Raises:
        SettingError: for fused training in several processes.
    """
    if fused != "off" and workers > 1:
        raise SettingError(f"fused training works in one process; give workers=1 (got {workers}) or fused='off'")
    look = dataset.preprocessing
    parts = [Pixels(s.images, s.labels, look.mean, look.std, device=device) for s in (dataset.train, dataset.validation)]
    factory = RecipeJudge(
        parts[0], parts[1], dataset.n_classes, seed, metric=metric, device=device, checkpoints=folder / "checkpoints"
    )
    if fused != "off":
        return Together(factory.estimator(fused), run_seed=seed)
    if workers == 1:
        return Sequential(factory(), run_seed=seed)
    return Processes(factory, workers=workers, run_seed=seed)


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
