"""The trusted recipe of a proxy search: given by name or file, or as large as its share of the time allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from archduel import registry
from archduel.commands.trainings import Bench
from archduel.core import Arch, Cost, Estimate, Scale
from archduel.data import Dataset
from archduel.errors import BudgetError, RunError, SettingError
from archduel.estimators.timing import Stopwatch
from archduel.recipes import base_recipe, changed, fitted, read
from archduel.spaces.family import count, family
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

__all__ = ["TRUTH_SHARE", "Work", "accuracies", "check_truth", "mean_cost", "reference_recipe", "trusted_recipe"]

# -- What a recipe costs: known before it is measured as work, in seconds once something was timed ----------------------


STEP_MACS, IMAGE_MACS = 3e7, 1.5e5
"""What a step and an image cost besides multiply-adds, in multiply-adds: enough to rank recipes before they are timed."""


def accuracies(estimates: Sequence[Estimate], what: str) -> list[float]:
    """Returns the scores.

    Raises:
        RunError: if fewer than five trainings succeeded.
    """
    good = [estimate for estimate in estimates if not estimate.failed]
    if len(good) < min(5, len(estimates)):
        reason = next(estimate.reason for estimate in estimates if estimate.failed)
        raise RunError(f"{len(estimates) - len(good)} of {len(estimates)} trainings of the {what} failed: {reason}")
    return [estimate.score for estimate in estimates]


class Work:
    """What a recipe costs: known before it is measured as work, in seconds once something was timed."""

    def __init__(self, dataset: Dataset, archs: Sequence[Arch]) -> None:
        self.dataset, self.archs = dataset, archs
        self.macs = lru_cache(maxsize=None)(self._macs)
        self._rates: list[float] = []

    def _macs(self, channels: int, depth: int, image_size: int) -> float:
        scale = Scale(channels, depth, image_size, self.dataset.in_channels, self.dataset.n_classes)
        return float(np.mean([count(arch, scale).macs for arch in self.archs]))

    def images(self, recipe: Recipe) -> float:
        """Returns training images of one training, repetitions counted."""
        return recipe.epochs * recipe.data_fraction * len(self.dataset.train)

    def work(self, recipe: Recipe) -> float:
        """Returns the multiply-adds of one training, and what steps and images cost besides."""
        images = self.images(recipe)
        macs = self.macs(recipe.channels, recipe.depth, recipe.image_size)
        return 3 * images * (macs + IMAGE_MACS) + STEP_MACS * images / recipe.batch_size

    def learn(self, recipe: Recipe, seconds: float) -> None:
        """Takes a timed training."""
        self._rates.append(seconds / self.work(recipe))

    def seconds(self, recipe: Recipe) -> float:
        """Returns the seconds that one training will take."""
        return self.work(recipe) * float(np.median(self._rates))


def mean_cost(estimates: Sequence[Estimate]) -> Cost:
    """Returns the mean cost of a training."""
    paid = [estimate.cost for estimate in estimates]
    return Cost(float(np.mean([c.seconds for c in paid])), round(float(np.mean([c.images for c in paid]))))


TRUTH_SHARE = 0.45
"""Share of the time that the architectures' trusted trainings may take."""
MOST_EPOCHS, FEWEST_EPOCHS = 40, 4
UNTIMED = 20
FEWEST_ARCHS = 5


def check_truth(n: int) -> None:
    """Raises SettingError for fewer trusted architectures than say anything about a ranking."""
    if n < FEWEST_ARCHS:
        raise SettingError(f"truth must be at least {FEWEST_ARCHS} architectures, got {n}")


def trusted_recipe(
    bench: Bench, dataset: Dataset, settings: Mapping[str, Any], seconds: float | None, device: str, notes: Sequence[str] = ()
) -> Recipe:
    """Returns the trusted recipe of a job, chosen once and from then on read from its journal; says what a person should know.

    Args:
        bench: the job's folder.
        dataset: the images.
        settings: of the job: ``reference``, ``changes``, ``space``, ``truth``.
        seconds: core seconds for all trusted trainings; None = not timed.
        device: where they are trained.
        notes: what else there is to say, before.

    Raises:
        BudgetError: if not even the smallest networks fit.
    """

    def chosen() -> dict[str, Any]:
        """Chooses it and times networks for that, which a continued job does not do again."""
        recipe, said = reference_recipe(
            settings["reference"], settings["changes"], dataset, settings["space"],
            seconds=seconds, truth=settings["truth"], device=device,
        )  # fmt: skip
        return {"recipe": asdict(recipe), "notes": said}

    noted = bench.job.once("reference", chosen)
    for line in [*notes, *noted["notes"]]:
        bench.progress.say(line)
    return Recipe(**noted["recipe"])


def reference_recipe(
    name: str,
    changes: Mapping[str, Any],
    dataset: Dataset,
    space: str,
    *,
    seconds: float | None,
    truth: int,
    device: str = "cpu",
) -> tuple[Recipe, list[str]]:
    """Returns the trusted recipe and what a person should know about the choice.

    Args:
        name: of the menu or a file; ``auto`` = the main job's settings at the largest size and number of epochs (4 to 40) that
            fit, or at a middling size for 20 epochs where there is no time or the epochs are given.
        changes: settings that differ.
        dataset: the images.
        space: the networks' space.
        seconds: core seconds for all trusted trainings.
        truth: how many there are.
        device: where they are trained.

    Raises:
        BudgetError: if not even the smallest networks fit.
    """
    if name != "auto":
        return fitted(read(name, space, changes), dataset.image_size, dataset.flip)
    base = base_recipe(len(dataset.train), dataset.image_size, dataset.flip, space)
    ladder = family(space).ladder or ((16, 1),)
    if seconds is None or "epochs" in changes:
        channels, depth = ladder[min(2 if dataset.image_size <= 16 else 3, len(ladder) - 1)]
        chosen = changed(base.with_(channels=channels, depth=depth, epochs=UNTIMED), changes)
    else:
        chosen = changed(_timed(base, ladder, dataset, space, seconds / truth, device), changes)
    return chosen, [f"reference: {chosen.channels} channels, depth {chosen.depth}, {chosen.epochs:g} epochs"]


def _timed(
    base: Recipe, ladder: Sequence[tuple[int, int]], dataset: Dataset, space: str, seconds: float, device: str
) -> Recipe:
    """Returns the largest size of which at least eight epochs fit into ``seconds``, with as many epochs as fit.

    Raises:
        BudgetError: if four epochs of the smallest do not fit.
    """
    mean, std = dataset.preprocessing.mean, dataset.preprocessing.std
    pixels = Pixels(dataset.train.images, dataset.train.labels, mean, std, device=device)
    stopwatch = Stopwatch(registry.make("space", space), pixels, dataset.n_classes, device=device)
    best: Recipe | None = None
    for channels, depth in ladder:
        sized = base.with_(channels=channels, depth=depth)
        epochs = seconds / (len(dataset.train) * stopwatch.seconds_per_image(sized))
        if epochs < FEWEST_EPOCHS and best is None:
            raise BudgetError(
                f"the smallest networks could be trained for {epochs:.1f} epochs only, {FEWEST_EPOCHS} are needed; give more "
                f"--time (about {FEWEST_EPOCHS / max(epochs, 1e-9):.1f} times as much), a smaller --truth or --max-images"
            )
        if best is not None and epochs < 2 * FEWEST_EPOCHS:
            break
        best = sized.with_(epochs=min(MOST_EPOCHS, int(epochs)))
    assert best is not None
    return best
