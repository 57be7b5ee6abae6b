"""What a recipe costs: known before it is measured as work, in seconds once something was timed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from archduel.core import Arch, Cost, Estimate, Scale
from archduel.data import Dataset
from archduel.errors import RunError
from archduel.nets import count
from archduel.training.recipe import Recipe

__all__ = ["Work", "accuracies", "mean_cost"]

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
