"""Training of networks on labelled images: pixels, augmentation, schedule, loop, metrics (plain torch)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "RECIPES",
    "SGD",
    "Epoch",
    "Evaluation",
    "Pixels",
    "Recipe",
    "Streamed",
    "Team",
    "TensorBoard",
    "Tracker",
    "Trained",
    "evaluate",
    "joined",
    "keep_freed_memory",
    "seeded_build",
    "train",
]

if TYPE_CHECKING:
    from archduel.training.loop import Epoch, Trained, train
    from archduel.training.memory import keep_freed_memory
    from archduel.training.metrics import Evaluation, evaluate
    from archduel.training.pixels import Pixels
    from archduel.training.recipe import RECIPES, Recipe
    from archduel.training.seeding import seeded_build
    from archduel.training.sgd import SGD
    from archduel.training.streamed import Streamed
    from archduel.training.team import Team, joined
    from archduel.training.tracking import TensorBoard, Tracker
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "RECIPES": "archduel.training.recipe",
            "SGD": "archduel.training.sgd",
            "Epoch": "archduel.training.loop",
            "Evaluation": "archduel.training.metrics",
            "Pixels": "archduel.training.pixels",
            "Recipe": "archduel.training.recipe",
            "Streamed": "archduel.training.streamed",
            "Team": "archduel.training.team",
            "TensorBoard": "archduel.training.tracking",
            "Tracker": "archduel.training.tracking",
            "Trained": "archduel.training.loop",
            "evaluate": "archduel.training.metrics",
            "joined": "archduel.training.team",
            "keep_freed_memory": "archduel.training.memory",
            "seeded_build": "archduel.training.seeding",
            "train": "archduel.training.loop",
        },
    )
