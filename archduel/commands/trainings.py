"""Many architectures under many recipes: trained once, journalled, continued by the same call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from archduel.commands.progress import Progress
from archduel.core import Arch, Estimate, Executor, Query
from archduel.core.disk import read_json
from archduel.core.job import PROXY, Job
from archduel.data import Dataset, load
from archduel.estimators.judges import Groups, Judge
from archduel.execution import IDLE, Processes, Sequential
from archduel.execution.devices import device_environments
from archduel.spaces.family import check_depth
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe, recipe_text
from archduel.training.runtime import visible_devices

__all__ = ["Bench", "BuiltWith", "JobOptions", "environments_for", "executor_for"]

BuiltWith = Mapping[str, Mapping[str, Any]]
"""Space -> options of its networks, such as ``{"pool_norm": True}``."""
PER_RECIPE = 10_000
"""Ordinals a recipe: its number times this, plus the architecture's number."""


def environments_for(device: str) -> list[dict[str, str]]:
    """Returns what the worker processes of this machine find in their environment, in turn: where ``device`` means all GPUs, one of them each."""
    return device_environments(device, visible_devices(device), os.environ)


def executor_for(
    dataset: Dataset,
    folder: Path,
    *,
    seed: int,
    metric: str = "accuracy",
    device: str = "cpu",
    workers: int = 1,
    fused: int | str = "off",
    built_with: BuiltWith | None = None,
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
        built_with: space -> options of its networks.

    Raises:
        SettingError: for another value of ``fused``.
    """
    look = dataset.preprocessing
    parts = [Pixels(s.images, s.labels, look.mean, look.std, device=device) for s in (dataset.train, dataset.validation)]
    judge = Judge(
        parts[0], {"validation": parts[1]}, {}, dataset.n_classes, seed, metric=metric, device=device, checkpoints=folder / "checkpoints",
        built_with=built_with or {},
    )  # fmt: skip
    groups = Groups(fused, judge, workers, -(-workers // visible_devices(device)))
    if workers == 1:
        return Sequential(judge(), run_seed=seed, at_once=groups)
    return Processes(judge, workers=workers, run_seed=seed, at_once=groups, idle=IDLE, environments=environments_for(device))


class Bench:
    """Trains architectures under recipes, each once, as records of a job.

    Args:
        job: the folder; it and the executor are closed with the bench.
        executor: trains.
        progress: says what happens.

    Attributes:
        settings: what decides the results.
    """

    def __init__(self, job: Job, executor: Executor, progress: Progress) -> None:
        self.job, self.executor, self.progress = job, executor, progress
        if isinstance(groups := getattr(executor, "at_once", None), Groups):
            groups.remember(job, progress.say)
        self.settings: Mapping[str, Any] = job.settings["settings"]

    def number(self, name: str, recipe: Recipe) -> int:
        """Returns the number of a recipe in this folder; a new one is written down."""
        text, numbers = recipe_text(recipe), [r["number"] for r in self.job.journal.records if r["event"] == "recipe"]
        make = {"number": len(numbers), "name": name, "recipe": asdict(recipe)}
        return int(self.job.once("recipe", lambda: make, text=text)["number"])

    def train(self, name: str, recipe: Recipe, archs: Sequence[Arch], *, first: int = 0) -> list[Estimate]:
        """Returns one estimate an architecture; those in the journal are not trained again.

        Args:
            name: what the recipe is called in the journal and the progress.
            recipe: how to train.
            archs: what.
            first: number of the first architecture among all that this recipe trains (it decides the seeds).

        Raises:
            SettingError: for a depth at which networks of their space could not tell them apart.
        """
        for space in {arch.space for arch in archs}:
            check_depth(space, recipe.depth)
        start, text = PER_RECIPE * self.number(name, recipe) + first, recipe_text(recipe)
        queries, ordinals = [Query(arch, text) for arch in archs], range(start, start + len(archs))
        self.progress.stage(name[:40], len(archs))
        estimates = []
        for estimate in self.job.paid(self.executor.run, queries, ordinals):
            estimates.append(estimate)
            last = "last failed" if estimate.failed else f"last {estimate.score:.4f}"
            self.progress.advance(len(estimates), last)
        self.progress.end()
        return estimates

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.end()
        self.executor.close()
        self.job.close()


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
        quiet: print nothing; None = print where a person watches, in a terminal or a notebook.
    """

    seed: int = 0
    metric: str = "accuracy"
    device: str = "cpu"
    workers: int = 1
    fused: int | str = "off"
    load_settings: Mapping[str, Any] | None = None
    quiet: bool | None = None

    def dataset(self, data: Any) -> Dataset:
        """Returns the images, with splits of this seed."""
        return load(data, seed=self.seed, **(self.load_settings or {}))

    def bench(
        self, dataset: Dataset, out: str | Path, job: str, settings: Mapping[str, Any], *, built_with: BuiltWith | None = None
    ) -> Bench:
        """Returns the opened folder of a job.

        Args:
            dataset: the images.
            out: the folder.
            job: which kind of job it is.
            settings: what else decides its results.
            built_with: space -> options of its networks; a folder of an older version, which knew none, goes on without.

        Raises:
            RunError: for a folder that holds something else, is in use, or cannot be written.
            SettingError: for a value of ``fused`` that there is not.
        """
        file = Path(out) / PROXY.file
        older = file.is_file() and "built_with" not in read_json(file).get("settings", {})
        built_with = {} if older else built_with or {}
        settings = dict(settings) if older else {**settings, "built_with": built_with}
        executor = executor_for(
            dataset, Path(out), seed=self.seed, metric=self.metric, device=self.device, workers=self.workers, fused=self.fused,
            built_with=built_with,
        )  # fmt: skip
        all_settings = {"job": job, "data": dataset.fingerprint, **settings, "seed": self.seed, "metric": self.metric}
        return Bench(Job(Path(out), PROXY, {"settings": all_settings}), executor, Progress(quiet=self.quiet))
