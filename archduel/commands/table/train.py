"""A table of one's own: train many architectures with one recipe and several seeds, and keep the numbers."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from archduel import registry
from archduel.commands.progress import Progress
from archduel.core import Arch, Estimate, Query, Space
from archduel.core.job import TABLE, Job
from archduel.core.space import ENUMERABLE, sample_distinct
from archduel.core.storage import environment
from archduel.data import Dataset, load
from archduel.errors import RunError, SettingError
from archduel.estimators.judges import Groups, Judge
from archduel.estimators.training import check_fused
from archduel.execution import IDLE, Processes
from archduel.recipes import Source, base_recipe, changed, fitted, read
from archduel.tables.build import make_table
from archduel.tables.file import Fidelity
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

__all__ = ["train_table"]

BLOCK = 128
"""Architectures that get all of their runs before the next ones get any; they can be trained in groups of one seed."""


def train_table(
    data: Any,
    out: Path,
    *,
    space: str = "nasbench201",
    cells: int = 300,
    seeds: int = 3,
    seed: int = 0,
    mean_of: int = 1,
    recipe: Source = "",
    changes: Mapping[str, Any] | None = None,
    load_settings: Mapping[str, Any] | None = None,
    workers: int = 1,
    fused: int | str = "off",
    name: str = "",
    command: str = "",
    quiet: bool | None = None,
) -> Path:
    """Trains ``cells`` functionally different architectures with every seed, writes a table file and returns its path.

    The same call continues an interrupted one and extends a smaller one: answers are kept in ``OUT.jsonl``.

    Args:
        data: what :func:`archduel.data.load` takes.
        out: the ``.table`` file.
        space: a name on the menu of spaces.
        cells: how many architectures.
        seeds: runs of each. A run has one seed for all architectures, as in NAS-Bench-201: equal layers start alike and all
            see the same batches.
        seed: which architectures, and the seeds of their trainings.
        mean_of: trainings whose mean is one run: less noise at that many times the cost; seconds are their sum.
        recipe: what :func:`archduel.recipes.read` takes: a name, a file, a mapping; empty = the main job's.
        changes: settings of the recipe that differ.
        load_settings: of :func:`archduel.data.load`, such as ``max_images``.
        workers: trainings at a time, one thread each.
        fused: how many networks a worker trains at once: a number, ``auto`` = as measured, ``off`` = one by one. Each ends
            as it would alone, but for rounding (``docs/fused.md``).
        name: what the table is called; empty = the file's name.
        command: how it was started, for `archduel resume`.
        quiet: print nothing; None = print where a person watches, in a terminal or a notebook.

    Raises:
        RunError: if more than one training in twenty fails.
        SettingError: for another value of ``fused``, or less than one training a run.
    """
    if mean_of < 1:
        raise SettingError(f"mean_of must be at least 1, got {mean_of}")
    check_fused(fused)
    dataset = load(data, seed=seed, **(load_settings or {}))
    home: Space = registry.make("space", space)
    if recipe:
        chosen = changed(fitted(read(recipe, space), dataset.image_size, dataset.flip)[0], changes or {})
    else:
        chosen = changed(base_recipe(len(dataset.train), dataset.image_size, dataset.flip, space), changes or {})
    archs = sample_distinct(home, cells, np.random.default_rng(seed), enumerate_up_to=ENUMERABLE)
    jobs = [
        (archs[number], number, run)
        for start in range(0, cells, BLOCK)
        for run in range(seeds * mean_of)
        for number in range(start, min(start + BLOCK, cells))
    ]
    settings = {"data": dataset.fingerprint, "space": space, "seed": seed, "recipe": asdict(chosen)}
    with Job(out.with_suffix(".jsonl"), TABLE, settings, command=command, fsync=False) as job:
        done = _trained(dataset, chosen, jobs, job, seed, workers, fused, Progress(quiet=quiet))
    failed = sum(record["score"] is None for record in done.values())
    if 20 * failed > len(jobs):
        raise RunError(f"{failed} of {len(jobs)} trainings failed; see {out.with_suffix('.jsonl')}")
    _write(out, home, archs, done, chosen, dataset, name or out.stem, (seeds, mean_of))
    return out


def _trained(
    dataset: Dataset,
    recipe: Recipe,
    jobs: list[tuple[Arch, int, int]],
    job: Job,
    seed: int,
    workers: int,
    fused: int | str,
    progress: Progress,
) -> dict[tuple[str, int], dict[str, Any]]:
    """Returns (arch, run) -> record; what the journal holds is not trained again."""
    done = {(r["arch"], r["run"]): r for r in job.journal.records if r.get("event") == "estimate"}
    todo = [each for each in jobs if (str(each[0]), each[2]) not in done]
    mean, std = dataset.preprocessing.mean, dataset.preprocessing.std
    pixels = [
        Pixels(s.images, s.labels, mean, std) for s in (dataset.train, dataset.validation, dataset.test)
    ]
    scored = {"validation": pixels[1], "test": pixels[2]}  # a table needs both columns; a search on it sees one
    judge = Judge(pixels[0], scored, {"table": recipe}, dataset.n_classes, seed)
    runs = [run for _, _, run in todo]
    progress.stage("train", len(jobs))
    queries, ordinals = [Query(arch) for arch, _, _ in todo], [1_000 * number + run for _, number, run in todo]
    groups = Groups(fused, judge, workers, workers)
    groups.remember(job, progress.say)
    with Processes(judge, workers=workers, run_seed=seed, at_once=groups, idle=IDLE) as executor:

        def train(queries: Sequence[Query], _: Sequence[int]) -> Iterator[Estimate]:
            """Yields the estimates: a run's seed is its number's alone, whatever the architecture, so that a group has one."""
            return executor.run(queries, runs)

        trained = job.paid(train, queries, ordinals, values=[{"run": run} for run in runs])
        for n, estimate in enumerate(trained, len(jobs) - len(todo) + 1):
            progress.advance(n, f"last {estimate.score:.3f}")
    progress.end()
    return {(r["arch"], r["run"]): r for r in job.journal.records if r.get("event") == "estimate"}


def _write(
    out: Path,
    space: Space,
    archs: list[Arch],
    done: Mapping[tuple[str, int], Mapping[str, Any]],
    recipe: Recipe,
    dataset: Dataset,
    name: str,
    runs: tuple[int, int],
) -> None:
    seeds, mean_of = runs

    def grid(read: Callable[[Mapping[str, Any]], float | None]) -> np.ndarray[Any, Any]:
        values = [[read(done[str(arch), run]) for arch in archs] for run in range(seeds * mean_of)]
        grouped = np.array(values, dtype=np.float64).reshape(seeds, mean_of, len(archs))
        return grouped.mean(1)[None]  # (1, R, N)

    table = make_table(
        archs,
        {
            "validation": grid(lambda r: r["score"]),
            "test": grid(lambda r: r["values"].get("test")),
            "seconds": mean_of * grid(lambda r: r["seconds"]),
        },
        name=name,
        fidelities=(
            Fidelity("full", recipe.epochs, round(recipe.epochs * recipe.data_fraction * len(dataset.train))),
        ),
        space=space,
        provenance={
            "command": shlex.join(["archduel", *sys.argv[1:]]),
            "data": dataset.name,
            "splits": {split: len(getattr(dataset, split)) for split in ("train", "validation", "test")},
            "recipe": asdict(recipe),
            "mean_of": mean_of,
            **environment(),
        },
    )
    table.write(out)
