"""A tiny task and shared weights over it."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from typing import Any

import torch

from archduel.core import Scale
from archduel.estimators.shared import SharedWeights
from archduel.spaces.family import supernet
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

RECIPE = Recipe(
    epochs=3, batch_size=8, lr=0.05, channels=4, depth=1, image_size=8, crop_pad=1, weight_decay=1e-3, momentum=0.8
)


def pixels(n: int, seed: int, channels: int = 3) -> Pixels:
    """Four classes: which quarter of the image is bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    images = torch.randint(0, 120, (n, channels, 8, 8), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        row, column = 4 * (label // 2), 4 * (label % 2)
        images[i, :, row : row + 4, column : column + 4] += 110
    return Pixels(images, labels, (0.3,) * channels, (0.2,) * channels)


def shared(space: str = "nasbench201", seed: int = 0, options: dict[str, Any] | None = None, **settings: Any) -> SharedWeights:
    """Shared weights over a tiny supernet; ``settings`` are of the recipe or of the estimator."""
    of_recipe = {name: settings.pop(name) for name in list(settings) if name in Recipe.__dataclass_fields__}
    recipe = RECIPE.with_(**({"depth": 3} if space == "darts" else {}) | of_recipe)
    scale = Scale(recipe.channels, recipe.depth, recipe.image_size, 3, 4)
    network = deepcopy(_network(space, scale, seed, tuple((options or {}).items())))
    train, validation = settings.pop("train", pixels(40, 1)), settings.pop("validation", pixels(24, 2))
    return SharedWeights(network, train, validation, recipe, n_classes=4, seed=seed, **{"recalibration": 2} | settings)


@lru_cache(maxsize=16)
def _network(space: str, scale: Scale, seed: int, options: tuple[tuple[str, Any], ...]) -> Any:
    """Returns an untrained supernet, which is not to be changed: copies are faster than new ones."""
    return supernet(space, scale, generator=torch.Generator().manual_seed(seed), **dict(options))
