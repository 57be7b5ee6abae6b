"""BPE's searches on the DARTS space under a cheap recipe: random search, reinforcement learning, evolution, DARTS.

Each ends in a cell with two inputs a node, ready for final training. Reinforcement learning and evolution search super-cells, which
keep all edges: afterwards reinforcement learning keeps, for each node, the two edges whose operations the policy was surest of
once the best super-cell had taught it (the very first sample does not count), and evolution trains ten random prunings of its best.

Source: Zheng et al., CVPR 2020, released ``run_rl.py``, ``run_evolution.py`` and ``random_darts_generator.py``. Different here:
scores are of validation images, never of test images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archduel.assemble import assemble, check_keys, declaration, derived_seed
from archduel.commands.trainings import Bench, JobOptions
from archduel.core import Arch, Budget, Estimate, Executor, Query, Result, Scale, Space, Told, search
from archduel.core.disk import write_atomic
from archduel.core.storage import if_whole, load_state, save_state
from archduel.data import Dataset
from archduel.errors import RunError, SettingError, StateError, unknown
from archduel.estimators.shared import SharedWeights
from archduel.proxies.agreement import READINGS, readings
from archduel.proxies.agreement import reading as read_one
from archduel.recipes import Source, fitted, read
from archduel.spaces.darts.space import DARTS
from archduel.spaces.darts.supercell import SuperCell, masked, pruned
from archduel.spaces.family import check_depth, supernet
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe, recipe_text

__all__ = ["METHODS", "darts_cell", "search_cell", "supernet_recipe"]

# -- BPE's DARTS under a recipe: second-order DARTS whose supernet has the recipe's epochs, batch, learning rate, size and images 
#
# As in BPE's released ``search.py``: Adam with 3e-4 and weight decay 1e-3 for alpha, SGD down to 0.001 for the weights, neither drop
# path nor auxiliary head. Different here: alpha descends on the validation images (BPE: half of the training images).


LR_MIN = 0.001


def supernet_recipe(recipe: Recipe) -> Recipe:
    """Returns how the supernet is trained under ``recipe``."""
    return recipe.with_(
        drop_path=0.0, auxiliary_weight=0.0, cutout=0, mixup=0.0, ema=0.0, lr_min=min(LR_MIN, recipe.lr), epochs=max(1, round(recipe.epochs))
    )  # fmt: skip


def darts_cell(
    bench: Bench, dataset: Dataset, recipe: Recipe, *, seed: int, device: str = "cpu", order: int = 2
) -> tuple[Arch, dict[str, Any]]:
    """Returns the derived cell and how the search went; continues from the last epoch that was saved.

    Args:
        bench: the folder; the state stands in ``darts.safetensors``, an epoch a record in the journal.
        dataset: the images.
        recipe: of the supernet, see :func:`supernet_recipe`.
        seed: of weights, batches and alphas.
        device: where it is trained.
        order: 2, or 1 for a third of the cost.

    Raises:
        RunError: if the loss stops being finite.
    """
    space: Space = DARTS()
    scale = Scale(recipe.channels, recipe.depth, recipe.image_size, dataset.in_channels, dataset.n_classes)
    network = supernet(space.name, scale, generator=torch.Generator().manual_seed(derived_seed(seed, "supernet")))
    look = dataset.preprocessing
    train, validation = (Pixels(s.images, s.labels, look.mean, look.std, device) for s in (dataset.train, dataset.validation))
    shared = SharedWeights(network, train, validation, recipe, n_classes=dataset.n_classes, seed=seed, device=device)
    settings = {"epochs": int(recipe.epochs), "order": order, "variant": "judged", "candidates": 1, **bench.settings.get("strategy", {})}
    strategy: Any = assemble(BY_GRADIENT, space, seed=seed, settings=settings, given={"shared": shared}, device=device)
    path = bench.job.path / "darts.safetensors"
    noted = [record for record in bench.job.journal.records if record["event"] == "epoch"]
    saved = 0
    state = if_whole(path, load_state, bench.progress.say)
    if state is not None:
        strategy.load_state_dict(state["strategy"])
        saved = int(state["epochs"])
    done, again = noted[:saved], noted[saved:]
    bench.job.journal.drop(lambda record: record in again)  # noted, but the kill came before their state was saved
    bench.progress.stage(BY_GRADIENT, int(recipe.epochs))
    while (record := _epoch(strategy)) is not None:
        done.append(record)
        bench.job.note("epoch", **record)
        save_state(path, {"strategy": strategy.state_dict(), "epochs": len(done)})
        bench.progress.advance(len(done), f"loss {record['loss']:.3f}, entropy {record['entropy']:.3f}")
    bench.progress.end()
    return strategy.best(), _summary(done)


def _epoch(strategy: Any) -> dict[str, Any] | None:
    began = time.perf_counter()
    report = strategy.step()
    if report is None:
        return None
    if report.metrics["loss"] != report.metrics["loss"]:
        raise RunError("the supernet's loss is not finite; give a smaller learning rate, such as --set lr=0.01")
    return {**report.metrics, "seconds": time.perf_counter() - began, "images": report.cost.images}


def _summary(epochs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "trajectory": [epoch["loss"] for epoch in epochs],
        "entropy": [epoch["entropy"] for epoch in epochs],
        "seconds": sum(epoch["seconds"] for epoch in epochs),
        "images": sum(epoch["images"] for epoch in epochs),
    }


BY_GRADIENT = DARTS.name
"""The method that searches its space with shared weights and is called like it."""
METHODS: Mapping[str, tuple[Callable[[], Any], str]] = {
    "random": (DARTS, "random"),
    "rl": (SuperCell, "archduel.strategies.bpe:BPEReinforce"),
    "ea": (SuperCell, "archduel.strategies.bpe:BPEEvolution"),
    BY_GRADIENT: (DARTS, BY_GRADIENT),
}
"""Method -> (space, strategy)."""


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


STRATEGY = "strategy."
"""What a setting of the strategy begins with among the changes of the recipe."""
NORMS = {space: {"pool_norm": True} for space in (DARTS.name, SuperCell.name)}
"""BPE's networks have a batch norm after every pool; so have all networks of a search, super-cells and their prunings alike."""


def _strategy_settings(method: str, steps: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns BPE's numbers and what is ``given`` in their place; a shorter evolution has a smaller population."""
    if method == "random":
        return dict(given)
    if method == "rl":
        return {"steps": steps, **given}
    population = given.get("population", min(50, max(2, steps // 2)))
    return {"steps": steps, "population": population, "tournament": min(10, population), **given}


def _trainings(method: str, steps: int, masks: int) -> float:
    """Returns what a search costs in trainings of one network."""
    if method == BY_GRADIENT:
        return declaration(BY_GRADIENT).mixing({}, max(DARTS.kinds.values()))
    return steps + (masks if method == "ea" else 0)


def _split(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the changes of the recipe and those of the strategy."""
    strategy = {key.removeprefix(STRATEGY): value for key, value in changes.items() if key.startswith(STRATEGY)}
    return {key: value for key, value in changes.items() if not key.startswith(STRATEGY)}, strategy


def search_cell(
    data: Any,
    out: str | Path,
    *,
    method: str = "random",
    recipe: Source = "bpe1",
    changes: Mapping[str, Any] | None = None,
    steps: int = 100,
    masks: int = 10,
    reading: str = "score",
    begin: Callable[[Bench, Dataset, Recipe, str, float], bool] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Returns the chosen cell of a search and how it came about; the same call continues an interrupted one.

    ``out/result.json`` has what is returned, ``out/genotype.txt`` the cell, one line that ``archduel proxy train --file`` reads.

    Args:
        data: what :func:`archduel.data.load` takes.
        out: folder of the job.
        method: ``random``, ``rl``, ``ea`` or ``darts`` (for which ``steps``, ``masks``, ``reading`` and ``workers`` mean nothing).
        recipe: what :func:`archduel.recipes.read` takes: a name, a file, a mapping.
        changes: settings of the recipe that differ, and of the strategy under names such as ``strategy.lr``.
        steps: trainings of the search.
        masks: prunings of evolution's best super-cell that are trained.
        reading: what of a training is its score, see :mod:`archduel.proxies.agreement`.
        begin: told before the search begins: the bench, the images, the recipe, the space, and the cost in trainings; says whether it
            begins at all. Where not, nothing is returned and nothing but the folder was written.
        **options: fields of :class:`archduel.commands.trainings.JobOptions`: ``seed``, ``device``, ``workers`` ...; what is found
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
    of_recipe, of_strategy = _split(changes or {})
    chosen, notes = fitted(read(recipe, changes=of_recipe), dataset.image_size, dataset.flip)
    chosen = supernet_recipe(chosen) if method == BY_GRADIENT else chosen
    space, strategy = METHODS[method]
    check_keys("strategy", strategy, of_strategy)
    check_depth(space().name, chosen.depth)
    settings = {
        "method": method, "recipe": asdict(chosen), "steps": steps, "masks": masks, "reading": reading, "window": job.workers,
        **({"strategy": of_strategy} if of_strategy else {}),
    }  # fmt: skip
    with job.bench(dataset, out, "search", settings, built_with=NORMS) as bench:
        for note in notes:
            bench.progress.say(note)
        if begin is not None and not begin(bench, dataset, chosen, space().name, _trainings(method, steps, masks)):
            return {}
        result = _darts(bench, dataset, chosen, job.device) if method == BY_GRADIENT else _Cell(bench, chosen, method).run(job.workers)
        bench.job.write("result.json", result)
        write_atomic(Path(out) / "genotype.txt", (result["genotype"] + "\n").encode())
    return result


def _darts(bench: Bench, dataset: Dataset, recipe: Recipe, device: str) -> dict[str, Any]:
    """Returns the result of DARTS as JSON values; its cell is derived, so it has no score of its own."""
    cell, how = darts_cell(bench, dataset, recipe, seed=bench.settings["seed"], device=device)
    return {"settings": dict(bench.settings), "arch": str(cell), "genotype": DARTS().write(cell), "score": None, **how}


class _Cell:
    """A search, the pruning, the choice."""

    def __init__(self, bench: Bench, recipe: Recipe, method: str) -> None:
        self.bench, self.recipe, self.method, self.settings = bench, recipe, method, bench.settings
        make_space, self.strategy_name = METHODS[method]
        self.space: Space = make_space()

    def run(self, window: int) -> dict[str, Any]:
        """Returns the result as JSON values.

        Raises:
            RunError: if every training fails.
        """
        steps, seed = self.settings["steps"], self.settings["seed"]
        strategy = assemble(self.strategy_name, self.space, seed=seed, settings=_strategy_settings(self.method, steps, self.settings.get("strategy", {})))
        self.bench.progress.stage(f"search {self.method}", steps)
        best = [float("-inf")]

        def on_told(told: Told) -> None:
            """Says how far the search is."""
            best[0] = max(best[0], told.estimate.score) if not told.estimate.failed else best[0]
            self.bench.progress.advance(told.ordinal + 1, f"best {best[0]:.4f}")

        executor = _WithRecipe(self.bench.executor, self.recipe, self.settings["reading"])
        try:
            result = search(
                strategy, executor, budget=Budget(evaluations=steps), window=window, journal=self.bench.job.part("search"), on_told=on_told
            )
        except StateError as error:
            raise RunError(f"no training succeeded: {error}; see the reasons in {self.bench.job.journal.path}") from error
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
        return {
            "settings": dict(self.settings),
            "arch": str(cell),
            "genotype": DARTS().write(cell),
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
