"""A task of three classes and an estimator for it; importable in worker processes."""

from __future__ import annotations

import numpy as np

from archduel.estimators.training import TrainingEstimator
from archduel.execution import Judge
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

CHEAP = Recipe(epochs=4, batch_size=10, lr=0.1, channels=4, depth=1, image_size=8, crop_pad=0)
RECIPES = {
    "cheap": CHEAP,
    "longer": CHEAP.with_(epochs=5),
    "half": CHEAP.with_(data_fraction=0.5),
    "wild": CHEAP.with_(lr=1e20, grad_clip=0.0),
}


def bright(n: int, seed: int) -> Pixels:
    """Grey noise in three brightnesses, which are the classes."""
    labels = np.arange(n) % 3
    noise = np.random.default_rng(seed).integers(0, 60, (n, 1, 8, 8))
    return Pixels((noise + 90 * labels[:, None, None, None]).astype(np.uint8), labels, (0.45,), (0.3,))


def estimator(run_seed: int = 0, **settings: object) -> TrainingEstimator:
    """Returns an estimator over 60 training and 30 validation images."""
    return TrainingEstimator(bright(60, 0), bright(30, 1), RECIPES, n_classes=3, run_seed=run_seed, **settings)  # type: ignore[arg-type]


def factory() -> Judge:
    """Makes the judge of a worker."""
    return estimator(run_seed=7).judge
