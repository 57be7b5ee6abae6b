"""BPE's searches on the DARTS space under a cheap recipe: random search, reinforcement learning, evolution, DARTS.

Each ends in a cell with two inputs a node, ready for final training. Reinforcement learning and evolution search super-cells, which
keep all edges: afterwards reinforcement learning keeps, for each node, the two edges whose operations the policy was surest of
when it drew the best super-cell (the very first sample does not count), and evolution trains ten random prunings of its best.

Source: Zheng et al., CVPR 2020, released ``run_rl.py``, ``run_evolution.py`` and ``random_darts_generator.py``. Different here:
scores are of validation images, never of test images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from archduel import registry
from archduel.apps.assemble import assemble
from archduel.apps.proxy_bench import Bench
from archduel.apps.proxy_darts import darts_cell, supernet_recipe
from archduel.apps.proxy_job import JobOptions
from archduel.apps.proxy_recipes import changed, fitted, read_recipe, recipe_text
from archduel.core import Arch, Budget, Estimate, Executor, Query, Result, Space, Told, search
from archduel.core.checkpoint import write_atomic
from archduel.core.journal import Records
from archduel.data import Dataset
from archduel.errors import RunError, SettingError, StateError, unknown
from archduel.proxies.readings import READINGS, readings
from archduel.proxies.readings import reading as read_one
from archduel.spaces.supercell import masked, pruned
from archduel.training.recipe import Recipe

__all__ = ["METHODS", "search_cell"]

METHODS = {
    "random": ("darts", "random"), "rl": ("darts_supercell", "bpe_rl"), "ea": ("darts_supercell", "bpe_evolution"),
    "darts": ("darts", "darts"),
}  # fmt: skip
"""Method -> (space, strategy)."""


class _SearchRecords:
    """The part of the journal that the search wrote."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @property
    def records(self) -> list[dict[str, Any]]:
        """The search's evaluations, oldest first."""
        return [record for record in self.bench.journal.records if record.get("stage") == "search"]

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record."""
        self.bench.journal.append({**record, "stage": "search"})


class _WithRecipe:
    """Trains what a strategy asks for with the recipe of the search, and reads the answer as it says."""

    def __init__(self, executor: Executor, recipe: Recipe, kind: str) -> None:
        self.executor, self.text, self.kind = executor, recipe_text(recipe), kind

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query, in order."""
        for estimate in self.executor.run([Query(query.arch, self.text) for query in queries], ordinals):
            yield replace(estimate, score=read_one(estimate, self.kind))

    def close(self) -> None:
        """Nothing to end: the bench ends the executor."""


def _strategy_settings(method: str, steps: int) -> dict[str, Any]:
    """Returns BPE's numbers; a shorter evolution has a smaller population."""
    if method == "random":
        return {}
    if method == "rl":
        return {"steps": steps}
    population = min(50, max(2, steps // 2))
    return {"steps": steps, "population": population, "tournament": min(10, population)}


def search_cell(
    data: Any,
    out: str | Path,
    *,
    method: str = "random",
    recipe: str = "bpe1",
    changes: Mapping[str, Any] | None = None,
    steps: int = 100,
    masks: int = 10,
    reading: str = "score",
    **options: Any,
) -> dict[str, Any]:
    """Returns the chosen cell of a search and how it came about; the same call continues an interrupted one.

    ``out/result.json`` has what is returned, ``out/genotype.txt`` the cell, one line that ``archduel proxy train --file`` reads.

    Args:
        data: what :func:`archduel.data.load` takes.
        out: folder of the job.
        method: ``random``, ``rl``, ``ea`` or ``darts`` (for which ``steps``, ``masks``, ``reading`` and ``workers`` mean nothing).
        recipe: a name or a file.
        changes: settings of the recipe that differ.
        steps: trainings of the search.
        masks: prunings of evolution's best super-cell that are trained.
        reading: what of a training is its score, see :mod:`archduel.proxies.readings`.
        **options: fields of :class:`archduel.apps.proxy_job.JobOptions`: ``seed``, ``device``, ``workers`` ...; what is found
            depends on ``workers`` for ``rl`` and ``ea``, which are asked as many at a time.

    Raises:
        UnknownNameError: for another method.
        RunError: for a folder that cannot be used, or if every training fails.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if reading not in READINGS:
        raise unknown("reading", reading, READINGS)
    if steps < 2 or masks < 1:
        raise SettingError(f"a search needs at least 2 steps and 1 mask, got {steps} and {masks}")
    job = JobOptions(**options)
    dataset = job.dataset(data)
    chosen, notes = fitted(changed(read_recipe(recipe), changes or {}), dataset)
    chosen = supernet_recipe(chosen) if method == "darts" else chosen
    settings = {
        "method": method, "recipe": asdict(chosen), "steps": steps, "masks": masks, "reading": reading, "window": job.workers,
    }  # fmt: skip
    with job.bench(dataset, out, "search", settings) as bench:
        for note in notes:
            bench.progress.say(note)
        result = _darts(bench, dataset, chosen, job.device) if method == "darts" else _Cell(bench, chosen, method).run(job.workers)
        bench.write_json("result.json", result)
        write_atomic(Path(out) / "genotype.txt", (result["genotype"] + "\n").encode())
    return result


def _darts(bench: Bench, dataset: Dataset, recipe: Recipe, device: str) -> dict[str, Any]:
    """Returns the result of DARTS as JSON values; its cell is derived, so it has no score of its own."""
    cell, how = darts_cell(bench, dataset, recipe, seed=bench.settings["seed"], device=device)
    darts: Any = registry.make("space", "darts")
    return {"settings": dict(bench.settings), "arch": str(cell), "genotype": darts.write(cell), "score": None, **how}


class _Cell:
    """A search, the pruning, the choice."""

    def __init__(self, bench: Bench, recipe: Recipe, method: str) -> None:
        self.bench, self.recipe, self.method, self.settings = bench, recipe, method, bench.settings
        space_name, self.strategy_name = METHODS[method]
        self.space: Space = registry.make("space", space_name)

    def run(self, window: int) -> dict[str, Any]:
        """Returns the result as JSON values.

        Raises:
            RunError: if every training fails.
        """
        steps, seed = self.settings["steps"], self.settings["seed"]
        strategy = assemble(self.strategy_name, self.space, seed=seed, settings=_strategy_settings(self.method, steps))
        records: Records = _SearchRecords(self.bench)
        self.bench.progress.stage(f"search {self.method}", steps)
        best = [float("-inf")]

        def on_told(told: Told) -> None:
            """Says how far the search is."""
            best[0] = max(best[0], told.estimate.score) if not told.estimate.failed else best[0]
            self.bench.progress.advance(told.ordinal + 1, f"best {best[0]:.4f}")

        executor = _WithRecipe(self.bench.executor, self.recipe, self.settings["reading"])
        try:
            result = search(
                strategy, executor, budget=Budget(evaluations=steps), window=window, journal=records, on_told=on_told
            )
        except StateError as error:
            raise RunError(f"no training succeeded: {error}; see the reasons in {self.bench.journal.path}") from error
        self.bench.progress.end()
        found = {"random": self._best_told, "rl": self._surest, "ea": self._masked}[self.method](strategy, result)
        return self._report(result, *found)

    def _best_told(self, strategy: Any, result: Result) -> tuple[Arch, Arch, float | None, list[Estimate]]:
        best = _best(result.told)
        return best.query.arch, best.query.arch, best.estimate.score, []

    def _surest(self, strategy: Any, result: Result) -> tuple[Arch, Arch, float | None, list[Estimate]]:
        best = _best(result.told[1:])  # the weights are those of the best sample but the first
        return pruned(best.query.arch, strategy.weights()), best.query.arch, None, []

    def _masked(self, strategy: Any, result: Result) -> tuple[Arch, Arch, float | None, list[Estimate]]:
        best = _best(result.told).query.arch
        rng = np.random.default_rng([self.settings["seed"], 63])
        archs = [masked(best, rng) for _ in range(self.settings["masks"])]
        estimates = self.bench.train("prunings", self.recipe, archs, first=self.settings["steps"])
        read = readings(estimates, self.settings["reading"])
        scores = [-1.0 if score != score else score for score in read]
        if max(scores) < 0:
            raise RunError(f"every pruned cell failed to train: {estimates[0].reason}")
        place = int(np.argmax(scores))
        return archs[place], best, scores[place], estimates

    def _report(
        self, result: Result, cell: Arch, searched: Arch, score: float | None, prunings: list[Estimate]
    ) -> dict[str, Any]:
        cost = sum((estimate.cost for estimate in prunings), result.cost)
        darts: Any = registry.make("space", "darts")
        return {
            "settings": dict(self.settings),
            "arch": str(cell),
            "genotype": darts.write(cell),
            "score": score,
            "searched": str(searched),
            "searched_score": max(told.estimate.score for told in result.told if told.query.arch == searched),
            "trajectory": [None if told.estimate.failed else told.estimate.score for told in result.told],
            "prunings": [None if score != score else score for score in readings(prunings, self.settings["reading"])],
            "trainings": len(result.told) + len(prunings),
            "seconds": cost.seconds,
            "images": cost.images,
        }


def _best(told: Sequence[Told]) -> Told:
    """Returns the first evaluation with the highest score.

    Raises:
        RunError: if all failed.
    """
    alive = [each for each in told if not each.estimate.failed]
    if not alive:
        raise RunError(f"every training failed; the first said: {told[0].estimate.reason if told else 'nothing'}")
    return max(alive, key=lambda each: (each.estimate.score, -each.ordinal))
