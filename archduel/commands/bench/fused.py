"""Candidates a second, fused against one by one: same cells, same recipe, same machine, both using all of its cores."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from archduel import registry
from archduel.core import Arch, Scale, Space
from archduel.core.space import ENUMERABLE, sample_distinct
from archduel.core.storage import environment
from archduel.data import load
from archduel.errors import SettingError, unknown
from archduel.fusing.judging import SIZES, FusedPlan, plan_fused, train_together
from archduel.fusing.networks import fuse
from archduel.fusing.training import train_fused
from archduel.spaces import family as nets
from archduel.training.images import Pixels
from archduel.training.loop import train
from archduel.training.metrics import evaluate
from archduel.training.recipe import Recipe
from archduel.training.runtime import seeded_build

__all__ = ["ROWS", "Row", "bench_fused", "line", "with_facts"]

# -- What the benchmark of fused training hands over --------------------------------------------------------------------


def line(record: dict[str, Any]) -> str:
    """Returns a record as a line for people."""
    how = f"{record['k']} at once" if record["k"] > 1 else "one by one (a group is not faster)"
    return (
        f"{record['row']:15} {how}: {record['fused_per_second']:.2f} a second, "
        f"{record['sequential_per_second']:.2f} one by one ({record['sequential']}): ratio {record['ratio']:.2f} "
        f"({record['cpu_ratio']:.2f} in processor time), "
        f"largest difference of a weight after 5 steps {record['max_abs_difference']:.1e}"
    )


def with_facts(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the records with versions and hardware."""
    ratios = [record["ratio"] for record in records]
    return {
        **environment(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "ratio": {"min": min(ratios), "median": median(ratios)},
        "records": list(records),
    }


CELLS = 200  # different cells a row draws from
ALIKE = 4  # networks whose weights are compared after five steps


@dataclass(frozen=True)
class Row:
    """One setting of the benchmark, on the digits.

    Attributes:
        space: of the cells.
        recipe: how they are trained.
    """

    space: str
    recipe: Recipe

    @property
    def scale(self) -> Scale:
        """Of the networks."""
        return Scale(self.recipe.channels, self.recipe.depth, self.recipe.image_size, 1, 10)


def _recipe(channels: int, depth: int, size: int, batch: int, epochs: float, **more: Any) -> Recipe:
    return Recipe(
        epochs=epochs, batch_size=batch, lr=0.05, channels=channels, depth=depth, image_size=size, crop_pad=1,
        flip=False, **more,
    )  # fmt: skip


_RECIPES = {
    "nasbench201-4": _recipe(4, 1, 8, 32, 6),
    "nasbench201-8": _recipe(8, 1, 8, 64, 4),
    "nasbench201-16": _recipe(16, 1, 16, 128, 1),
    "darts-4": _recipe(4, 3, 8, 64, 2),
}
ROWS = {name: Row(name.partition("-")[0], recipe) for name, recipe in _RECIPES.items()}
"""Name -> setting."""


def bench_fused(
    rows: Sequence[str] = tuple(ROWS),
    *,
    cores: int = 2,
    seconds: float = 5.0,
    repeats: int = 2,
    k: int | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Returns a record a row, see ``docs/fused.md``.

    Args:
        rows: names of :data:`ROWS`.
        cores: of the machine that may be used.
        seconds: of each measurement, at least.
        repeats: of each measurement; the ways take turns and the median counts.
        k: networks at once; None = as measured, one by one where that is faster.
        on_row: called with each record.

    Raises:
        UnknownNameError: for a row that does not exist.
        SettingError: for fewer than one core, repeat or network.
    """
    for name in rows:
        if name not in ROWS:
            raise unknown("row", name, ROWS)
    for what, value in (("cores", cores), ("repeats", repeats), ("k", 1 if k is None else k)):
        if value < 1:
            raise SettingError(f"{what} must be at least 1, got {value}")
    records = []
    for name in rows:
        record = _row(name, cores, seconds, repeats, k)
        records.append(record)
        if on_row:
            on_row(record)
    return records


def _row(name: str, cores: int, seconds: float, repeats: int, k: int | None) -> dict[str, Any]:
    row = ROWS[name]
    plan = _plan(row) if k is None else FusedPlan(k, math.nan, {}, 0)
    wide = {"processes": (cores, 1), "threads": (1, cores), "fused": (cores, 1)}
    found: dict[str, list[Throughput]] = {way: [] for way in wide}
    for _ in range(repeats):
        for way in wide if plan.k > 1 else ("processes", "threads"):
            found[way].append(throughput(name, *wide[way], plan.k if way == "fused" else 1, seconds))
    if plan.k == 1:  # one by one is what is done then, in the faster way
        found["fused"] = max(
            found["processes"], found["threads"], key=lambda way: median(t.rate for t in way)
        )
    middle = {way: median(t.rate for t in several) for way, several in found.items()}
    spent = {way: median(t.cpu for t in several) for way, several in found.items()}
    sequential = max(middle["processes"], middle["threads"])
    return {
        "row": name,
        "space": row.space,
        "recipe": asdict(row.recipe),
        "k": plan.k,
        "device": "cpu",
        "fused_per_second": middle["fused"],
        "sequential_per_second": sequential,
        "ratio": middle["fused"] / sequential,
        **_differences(row),
        "sequential": f"{cores} processes" if sequential == middle["processes"] else f"{cores} threads",
        "repeats": {way: [t.rate for t in several] for way, several in found.items()},
        "cpu_seconds": spent,
        "peak_bytes": {way: max(t.peak for t in several) for way, several in found.items()},
        "cpu_ratio": min(spent["processes"], spent["threads"]) / spent["fused"],
        "plan": plan.record(),
    }


def _pixels(row: Row) -> tuple[Pixels, Pixels]:
    """Returns the training and validation digits at the row's size."""
    data = load("digits", seed=0)
    mean, std = data.preprocessing.mean, data.preprocessing.std
    return tuple(  # type: ignore[return-value]
        Pixels(part.images, part.labels, mean, std).resized(row.recipe.image_size)
        for part in (data.train, data.validation)
    )


@lru_cache(8)  # listing a space takes a second
def _cells(space: str, seed: int) -> list[Arch]:
    home: Space = registry.make("space", space)
    return sample_distinct(home, CELLS, np.random.default_rng(seed), enumerate_up_to=ENUMERABLE)


def _network(row: Row, arch: Arch, seed: int) -> nn.Module:
    return seeded_build(lambda: nets.build(arch, row.scale), seed)


def _plan(row: Row) -> FusedPlan:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    networks = [_network(row, arch, number) for number, arch in enumerate(_cells(row.space, 0)[: max(SIZES)])]
    plan = plan_fused(networks, row.scale, _pixels(row)[0], row.recipe)
    torch.set_num_threads(before)
    return plan


class Throughput(NamedTuple):
    """What was measured.

    Attributes:
        rate: candidates a second of all processes together.
        cpu: processor seconds a candidate.
        peak: most bytes that one of the processes held, interpreter and libraries included; 0 where it cannot be asked for.
    """

    rate: float
    cpu: float
    peak: int


def throughput(name: str, processes: int, threads: int, k: int, seconds: float) -> Throughput:
    """Returns how fast ``processes`` are that train at the same time, ``k`` networks at once."""
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(processes), context.Queue()
    jobs = [
        context.Process(target=_work, args=(name, number, threads, k, seconds, start, answers), daemon=True)
        for number in range(processes)
    ]
    for job in jobs:
        job.start()
    found = [answers.get(timeout=600) for _ in jobs]
    for job in jobs:
        job.join()
    done, walls, spent, peaks = zip(*found)
    return Throughput(sum(d / wall for d, wall in zip(done, walls)), sum(spent) / sum(done), max(peaks))


def _work(name: str, number: int, threads: int, k: int, seconds: float, start: Any, answers: Any) -> None:
    """Trains candidate after candidate for a while; answers how many, wall and processor seconds, peak bytes."""
    torch.set_num_threads(threads)
    row = ROWS[name]
    train_set, validation = _pixels(row)
    groups = _groups(row, number, k)
    _judge(
        row, next(groups), train_set, validation, row.recipe.with_(epochs=0.2)
    )  # imports, measures, takes memory
    start.wait()
    began, spent, done = time.perf_counter(), time.process_time(), 0
    while not done or time.perf_counter() - began < seconds:
        done += _judge(row, next(groups), train_set, validation, row.recipe)
    answers.put((done, time.perf_counter() - began, time.process_time() - spent, _peak()))


def _peak() -> int:
    """Returns the most memory that this process ever held, in bytes; 0 where the system does not say."""
    try:  # first what counts from this program's own start on: what getrusage says includes the parent's peak
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _groups(row: Row, number: int, k: int) -> Iterator[list[Arch]]:
    """Yields groups of ``k`` different cells, other ones for every process."""
    cells, start = _cells(row.space, number), 0
    while True:
        yield [cells[(start + place) % len(cells)] for place in range(k)]
        start += k


def _judge(row: Row, archs: list[Arch], train_set: Pixels, validation: Pixels, recipe: Recipe) -> int:
    """Builds, trains and judges candidates; returns how many."""
    networks = [_network(row, arch, number) for number, arch in enumerate(archs)]
    if len(networks) > 1:
        train_together(networks, row.scale, train_set, recipe, seeds=[0], validations=[validation])
        return len(networks)
    train(networks[0], train_set, recipe, seed=0)
    evaluate(networks[0], validation)
    return 1


def _differences(row: Row) -> dict[str, float]:
    """Returns largest differences of a weight after five steps in float32, over a few networks.

    Alone means in the memory layout of plain tensors. How far the library's two layouts are from each other stands beside it:
    where an activation is zero but for rounding, a ReLU lets one through and not the other.
    """
    archs, (images, _) = _cells(row.space, 0)[:ALIKE], _pixels(row)
    recipe = row.recipe.with_(epochs=5 * row.recipe.batch_size / len(images))
    plain, layout, together = ([_network(row, arch, n) for n, arch in enumerate(archs)] for _ in range(3))
    for one, other in zip(plain, layout):
        train(one, images, recipe.with_(channels_last=False), seed=0)
        train(other, images, recipe, seed=0)
    group = fuse(together, row.scale)
    train_fused(group, images, recipe, seeds=[0])
    group.extract()
    return {"max_abs_difference": _apart(plain, together), "layouts_difference": _apart(plain, layout)}


def _apart(ones: Sequence[nn.Module], others: Sequence[nn.Module]) -> float:
    pairs = [pair for two in zip(ones, others) for pair in zip(two[0].parameters(), two[1].parameters())]
    return max(float((a - b).detach().abs().max()) for a, b in pairs)
