"""One ranker on one split of a table, and many of them over the cores; finished ones are kept in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archduel.apps.rank_protocol import Entrant, Protocol, Sides
from archduel.apps.tables import open_table
from archduel.core import Arch, Space
from archduel.errors import TableError
from archduel.execution.pool import as_they_finish
from archduel.reporting.rank_quality import rank_quality

__all__ = ["Field", "RankTrial", "open_field", "run_rank_trial", "run_rank_trials"]

Job = tuple[Entrant, int, int]
Key = tuple[str, int, int]


@dataclass(frozen=True)
class RankTrial:
    """One ranker on one split.

    Attributes:
        ranker: its title.
        labels: how many it learned from.
        split: number of the split.
        quality: measures on the judged architectures.
        distinct: the same measures without functionally equal architectures.
        judged: how many architectures were judged.
        judged_distinct: and how many without equal ones.
        fit_seconds: how long learning took; measurements that were read from a cache count as if they were made.
        query_seconds: how long scoring all judged architectures took, their encoding included.
        fit_cpu_seconds: processor time of the former, which other work on the machine does not lengthen.
        query_cpu_seconds: and of the latter.
    """

    ranker: str
    labels: int
    split: int
    quality: dict[str, float]
    distinct: dict[str, float]
    judged: int
    judged_distinct: int
    fit_seconds: float
    query_seconds: float
    fit_cpu_seconds: float
    query_cpu_seconds: float


@dataclass(frozen=True)
class Field:
    """A table as arrays: architectures, labels (N,), truth (N,), classes of equal architectures (N,)."""

    space: Space
    archs: list[Arch]
    labels: NDArray[np.float64]
    truth: NDArray[np.float64]
    classes: NDArray[np.int64]
    judged_by: str


@lru_cache(1)
def open_field(table_name: str, learn: str, run: int | None) -> Field:
    """Returns the table's architectures with both labels; the truth is mean test accuracy, validation if there is none."""
    table = open_table(table_name)
    if table.space is None:
        raise TableError(f"table {table.name!r} does not say which space its architectures are of")
    judged_by = "test" if "test" in table.splits else "validation"
    if learn not in table.splits:
        raise TableError(f"table {table.name!r} has no {learn} values to learn from, it has {', '.join(table.splits)}")
    labels, truth = table.read(learn, run=run), table.read(judged_by)
    there = np.flatnonzero(np.isfinite(labels) & np.isfinite(truth))
    archs = [table.archs[row] for row in there.tolist()]
    return Field(table.space, archs, labels[there], truth[there], table.classes[there], judged_by)


def run_rank_trial(protocol: Protocol, entrant: Entrant, labels: int, split: int) -> RankTrial:
    """Returns one ranker's result on one split; it gets labelled architectures and their labels and nothing else."""
    from threadpoolctl import threadpool_limits

    field = open_field(protocol.table, protocol.learn, protocol.run)
    sides = protocol.sides(len(field.archs), labels, split)
    learned = [field.archs[i] for i in sides.labelled.tolist()]
    judged = [field.archs[i] for i in sides.judged.tolist()]
    with threadpool_limits(1):
        clock = [_clock()]
        ranker = entrant.make(field.space, int(np.random.SeedSequence([protocol.seed, split]).generate_state(1)[0]))
        ranker.fit(learned, field.labels[sides.labelled])
        clock.append(_clock() + getattr(ranker, "saved_seconds", 0.0))
        scores = ranker.predict(judged)
        clock.append(_clock() + getattr(ranker, "saved_seconds", 0.0))
    (fit, fit_cpu), (query, query_cpu) = (clock[1] - clock[0], clock[2] - clock[1])
    trial = RankTrial(entrant.title, labels, split, {}, {}, 0, 0, fit, query, fit_cpu, query_cpu)
    return _judge(field, sides, scores, trial)


def _clock() -> NDArray[np.float64]:
    """Returns (2,) seconds on the wall and of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def _judge(field: Field, sides: Sides, scores: NDArray[np.float64], trial: RankTrial) -> RankTrial:
    """Returns the trial with the quality of its scores."""
    truth = field.truth[sides.judged]
    distinct = sides.distinct(field.classes)
    found = {
        "quality": rank_quality(scores, truth)._asdict(),
        "distinct": rank_quality(scores[distinct], truth[distinct])._asdict(),
        "judged": len(truth),
        "judged_distinct": int(distinct.sum()),
    }
    return RankTrial(**{**asdict(trial), **found})


def run_rank_trials(
    protocol: Protocol,
    entrants: Sequence[Entrant],
    workers: int,
    path: Path | None,
    on_trial: Callable[[int, int], None] | None,
) -> dict[Key, RankTrial]:
    """Returns the trials of all rankers, numbers of labels and splits, by (ranker, labels, split).

    Args:
        protocol: table, labels, splits.
        entrants: the rankers.
        workers: processes; 0 = this one.
        path: a file of finished trials, which are not run again; new ones are added to it.
        on_trial: called with (finished, all) after each trial.
    """
    jobs = [(e, n, s) for n in protocol.labels for s in range(protocol.splits) for e in entrants]
    key = json.dumps({**asdict(protocol), "labels": 0, "splits": 0}, sort_keys=True)
    found: dict[Key, RankTrial] = {}
    if path is not None and path.is_file():
        for line in path.read_text().splitlines():
            told = json.loads(line)
            if told.pop("protocol") == key:
                found[told["ranker"], told["labels"], told["split"]] = RankTrial(**told)
    missing = [(e, n, s) for e, n, s in jobs if (e.title, n, s) not in found]
    trials = as_they_finish(partial(run_rank_trial, protocol), missing, workers=workers)
    for done, trial in enumerate(trials, len(jobs) - len(missing) + 1):
        found[trial.ranker, trial.labels, trial.split] = trial
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a") as file:
                file.write(json.dumps({"protocol": key, **asdict(trial)}) + "\n")
        if on_trial is not None:
            on_trial(done, len(jobs))
    return found
