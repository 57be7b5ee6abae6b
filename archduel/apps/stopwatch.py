"""How long training takes here: a few steps, measured."""

from __future__ import annotations

import numpy as np
import torch

from archduel.apps.feasible import Limits, sizes
from archduel.apps.judge import scale_of
from archduel.apps.plan import median_arch
from archduel.apps.settings import Settings
from archduel.core import Arch, Space
from archduel.data import Dataset
from archduel.training.pixels import Pixels
from archduel.training.recipe import Recipe

__all__ = ["Stopwatch"]


class Stopwatch:
    """Measures training steps of a typical architecture."""

    def __init__(self, settings: Settings, space: Space, dataset: Dataset) -> None:
        self.settings, self.space, self.dataset = settings, space, dataset
        mean, std = dataset.preprocessing.mean, dataset.preprocessing.std
        self.pixels = Pixels(dataset.train.images, dataset.train.labels, mean, std, device=settings.device)

    def seconds_per_image(self, recipe: Recipe, arch: Arch | None = None) -> float:
        """Returns the seconds an image of training costs, other workers' load included (measured alone, times 1.15).

        Args:
            recipe: how it is trained.
            arch: which network; None = one of median multiply-adds.
        """
        from archduel.nets import build
        from archduel.training.loop import seeded_build, train

        scale = scale_of(recipe, self.dataset)
        arch = arch or median_arch(sizes(self.space, Limits(scale), np.random.default_rng(5), 60))
        n = min(len(self.dataset.train), 4 * recipe.batch_size if recipe.image_size <= 16 else 2 * recipe.batch_size)
        few = self.pixels.subset(np.arange(n))
        before = torch.get_num_threads()
        if self.settings.device == "cpu":
            torch.set_num_threads(self.settings.threads)
        try:
            model = seeded_build(lambda: build(arch, scale), 0)
            short = recipe.with_(epochs=1, data_fraction=1.0)
            costs = [
                train(model, few, short, seed=i, device=self.settings.device) for i in range(2)
            ]
        finally:
            torch.set_num_threads(before)
        return 1.15 * costs[-1].seconds / costs[-1].images
