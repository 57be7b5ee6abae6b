"""Finding the cheapest recipe whose ranking can be trusted, on one's own images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from archduel import registry
from archduel.commands.options import parse_seconds
from archduel.commands.progress import duration
from archduel.commands.proxy.check import bounded_text
from archduel.commands.proxy.reference import (
    TRUTH_SHARE,
    Work,
    accuracies,
    check_truth,
    mean_cost,
    trusted_recipe,
)
from archduel.commands.trainings import Bench, JobOptions
from archduel.core import Space, sample_distinct
from archduel.core.disk import write_atomic
from archduel.data import Dataset
from archduel.errors import BudgetError, SettingError, unknown
from archduel.proxies.agreement import READINGS, SIZES, agreement, readings, sizes
from archduel.proxies.factors import Grid, Setting, default_factors, factor
from archduel.proxies.find import (
    MinimumImportancePruning,
    Pruning,
    RecipeSearch,
    Trial,
    find,
    front,
    recommend,
)
from archduel.recipes import changed, open_recipe, write_recipe
from archduel.spaces.family import check_depth, family
from archduel.training.recipe import Recipe

__all__ = ["find_proxy"]


def _grid(reference: Recipe, dataset: Dataset, levels: Mapping[str, Sequence[Any]], device: str, space: str) -> Grid:
    """Returns what is varied: the defaults, with the levels that were given instead (one level = not varied)."""
    least = family(space).least_depth
    usual = default_factors(reference, n_images=len(dataset.train), accelerator=device != "cpu", least_depth=least)
    found = {f.name: f for f in usual}
    for depth in levels.get("depth", ()):
        check_depth(space, depth, "--levels depth")
    for name, values in levels.items():
        if name in ("batch_size", "lr"):
            found.pop("batch", None)
        found[name] = factor(name, list(values))
    varied = tuple(each for each in found.values() if len(each.levels) > 1)
    fixed = {key: value for each in found.values() if len(each.levels) == 1 for key, value in each.levels[0].items()}
    if not varied:
        raise SettingError("nothing is varied; give at least one --levels NAME=VALUE,VALUE")
    return Grid(changed(reference, fixed), varied)


def find_proxy(
    data: Any,
    out: str | Path,
    *,
    time: str | float,
    space: str = "nasbench201",
    truth: int = 20,
    reference: str = "auto",
    changes: Mapping[str, Any] | None = None,
    levels: Mapping[str, Sequence[Any]] | None = None,
    by: str = "spearman",
    reading: str = "score",
    samples: int = 6,
    sampling: str = "spread",
    scope: str = "open",
    cost: str = "seconds",
    **options: Any,
) -> dict[str, Any]:
    """Returns what Minimum Importance Pruning found; the same call continues an interrupted one.

    In ``out`` stand afterwards ``proxies.json`` (what is returned), ``report.html``, and the recommended recipes ``quick.json`` and
    ``trusted.json``, which every ``--recipe`` takes.

    Args:
        data: what :func:`archduel.data.load` takes.
        out: folder of the job.
        time: for all trainings, such as ``"2h"``; what workers spend side by side counts once.
        space: a name on the menu of spaces.
        truth: random architectures that every recipe trains.
        reference: the trusted recipe: ``auto``, a name or a file.
        changes: settings of the reference that differ.
        levels: recipe setting -> values, cheapest first, instead of the usual ones; a single value is not varied.
        by: ``spearman`` (BPE) or ``kendall``.
        reading: what of a cheap training is compared with the reference's score: ``score`` (BPE) or a loss, see
            :mod:`archduel.proxies.agreement`; the result has the agreement of all.
        samples: recipes a round.
        sampling: ``spread``, ``cheapest`` or ``random``.
        scope: importance over the ``open`` hyper-parameters or ``all``.
        cost: what the front is about: ``seconds``, or ``macs`` (multiply-adds of a training, independent of the machine).
        **options: fields of :class:`archduel.commands.trainings.JobOptions`: ``seed``, ``device``, ``workers`` ...

    Raises:
        BudgetError: if the time does not suffice for the trusted trainings.
        RunError: for a folder that cannot be used, or trainings that fail.
    """
    check_truth(truth)
    if reading not in READINGS:
        raise unknown("reading", reading, READINGS)
    if cost not in ("seconds", "macs"):
        raise SettingError(f"cost must be seconds or macs, got {cost!r}")
    job = JobOptions(**options)
    seconds = parse_seconds(time) * job.workers
    home: Space = registry.make("space", space)
    dataset = job.dataset(data)
    settings = {
        "space": space, "truth": truth, "reference": reference, "changes": dict(changes or {}), "levels": dict(levels or {}),
        "time": parse_seconds(time), "by": by, "reading": reading, "samples": samples, "sampling": sampling, "scope": scope, "cost": cost,
    }  # fmt: skip
    built_with = {} if reference == "auto" else open_recipe(reference).built_with
    with job.bench(dataset, out, "find", settings, built_with=built_with) as bench:
        trusted = trusted_recipe(bench, dataset, settings, TRUTH_SHARE * seconds, job.device)
        grid = _grid(trusted, dataset, levels or {}, job.device, space)
        search = _Search(bench, dataset, home, trusted, grid)
        result = search.result(search.run(seconds))
        _hand_over(bench, result)
    return result


class _Search:
    """Truth first, then recipes; every training is in the bench's journal."""

    def __init__(self, bench: Bench, dataset: Dataset, space: Space, reference: Recipe, grid: Grid) -> None:
        self.bench, self.dataset, self.reference, self.grid, self.settings = bench, dataset, reference, grid, bench.settings
        self.archs = sample_distinct(space, self.settings["truth"], np.random.default_rng([self.settings["seed"], 61]))
        self.work = Work(dataset, self.archs)
        self.truth: list[float] = []
        self.truth_seconds = 0.0
        self.sizes: dict[str, Any] = {}
        self.readings: dict[str, dict[str, list[float]]] = {}

    def run(self, seconds: float) -> RecipeSearch:
        """Returns the measured recipes and prunings.

        Raises:
            BudgetError: if the trusted trainings leave no time.
        """
        estimates = self.bench.train("reference", self.reference, self.archs)
        self.truth = accuracies(estimates, "reference recipe")
        self.sizes = {kind: agreement(sizes(estimates, kind), self.truth).record() for kind in SIZES}
        self.truth_seconds = sum(estimate.cost.seconds for estimate in estimates)
        self.work.learn(self.reference, mean_cost(estimates).seconds)
        left = seconds - self.truth_seconds
        if left <= 0:
            raise BudgetError(
                f"the {len(self.archs)} trusted trainings took {duration(self.truth_seconds)}, more than there is; give more --time, "
                "a smaller --truth, or a cheaper --reference, and another --out"
            )
        pruning = MinimumImportancePruning(
            self.grid,
            lambda setting: self.work.work(self.grid.recipe(setting)),
            rng=np.random.default_rng([self.settings["seed"], 62]),
            samples=self.settings["samples"],
            sampling=self.settings["sampling"],
            scope=self.settings["scope"],
            seed=self.settings["seed"],
        )
        return find(
            pruning,
            self.measure,
            budget=left,
            predict=lambda setting: len(self.archs) * self.work.seconds(self.grid.recipe(setting)),
            by=self.settings["by"],
            on_trial=self._say,
            on_pruning=self._say_pruned,
        )

    def measure(self, setting: Setting) -> Trial:
        """Returns the agreement of a recipe with the truth, and its cost."""
        recipe, name = self.grid.recipe(setting), self.grid.text(setting)
        estimates = self.bench.train(name, recipe, self.archs)
        for kind in READINGS:
            self.readings.setdefault(kind, {})[name] = readings(estimates, kind)
        scores = self.readings[self.settings["reading"]][name]
        cost = mean_cost(estimates)
        self.work.learn(recipe, cost.seconds)
        price = cost.seconds if self.settings["cost"] == "seconds" else 3 * self.work.images(recipe) * self.work.macs(
            recipe.channels, recipe.depth, recipe.image_size
        )
        paid = sum(estimate.cost.seconds for estimate in estimates)
        return Trial(name, price, agreement(scores, self.truth), setting, paid)

    def _say(self, trial: Trial) -> None:
        value = trial.value(self.settings["by"]).value
        kept = f"{value:+.3f}" if value == value else "unknown (all scores are equal)"
        self.bench.progress.say(f"{self.settings['by']} {kept}, {trial.paid / len(self.archs):.2f} s each: {trial.name}")

    def _say_pruned(self, pruned: Pruning) -> None:
        each = self.grid.factors[pruned.factor]
        self.bench.progress.say(f"{each.name} matters least ({pruned.importance.main[pruned.factor]:.3f}): fixed at {each.label(pruned.level)}")

    def result(self, found: RecipeSearch) -> dict[str, Any]:
        """Returns everything as JSON values."""
        by = self.settings["by"]
        names = [each.name for each in self.grid.factors]
        return {
            "settings": dict(self.settings),
            "data": self.dataset.name,
            "images": {"train": len(self.dataset.train), "validation": len(self.dataset.validation)},
            "reference": {"recipe": asdict(self.reference), "seconds": self.truth_seconds, "scores": self.truth},
            "archs": [str(arch) for arch in self.archs],
            "sizes": self.sizes,
            "factors": {each.name: [each.label(i) for i in range(len(each.levels))] for each in self.grid.factors},
            "trials": [self._trial(trial) for trial in found.trials],
            "rounds": [
                {"fixed": names[p.factor], "at": self.grid.factors[p.factor].label(p.level), "measured": p.measured,
                 "importance": dict(zip(names, map(float, p.importance.main))),
                 "spread": dict(zip(names, map(float, p.importance.spread)))}
                for p in found.prunings
            ],
            "front": [trial.name for trial in front(found.trials, by)],
            "recommended": {kind: trial.name for kind, trial in recommend(found.trials, by).items()},
            "seconds": self.truth_seconds + found.paid,
            "ended": found.ended,
        }  # fmt: skip

    def _trial(self, trial: Trial) -> dict[str, Any]:
        recipe = self.grid.recipe(trial.setting)
        return {
            "name": trial.name, "recipe": asdict(recipe), "cost": trial.cost, "seconds": trial.paid / len(self.archs),
            "share_of_reference": trial.paid / max(self.truth_seconds, 1e-9),
            "images": self.work.images(recipe), "macs": self.work.macs(recipe.channels, recipe.depth, recipe.image_size),
            **trial.agreement.record(),
            "scores": [score if score == score else None for score in self.readings["score"][trial.name]],
            "readings": {kind: agreement(found[trial.name], self.truth, draws=0).record() for kind, found in self.readings.items()},
        }  # fmt: skip


def _hand_over(bench: Bench, result: dict[str, Any]) -> None:
    """Writes the result, the report and the recommended recipes, and says what came out."""
    from archduel.reporting.proxy_report import proxy_html

    bench.job.write("proxies.json", result)
    write_atomic(bench.job.path / "report.html", proxy_html(result).encode())
    by_name = {trial["name"]: trial for trial in result["trials"]}
    for kind, name in result["recommended"].items():
        path = write_recipe(Recipe(**by_name[name]["recipe"]), bench.job.path / f"{kind}.json")
        value = by_name[name][result["settings"]["by"]]
        bench.progress.say(
            f"{kind}: {name}; {result['settings']['by']} {bounded_text(value)}, "
            f"{by_name[name]['share_of_reference']:.1%} of the reference's cost; {path}"
        )
    bench.progress.say(f"ended because {result['ended']}; report {bench.job.path / 'report.html'}")
