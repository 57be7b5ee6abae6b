"""Training of networks on labelled images: pixels, augmentation, schedule, loop, metrics (plain torch)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "SGD",
    "Candidate",
    "CandidateTracker",
    "Epoch",
    "Evaluation",
    "MLflow",
    "Optuna",
    "Pixels",
    "Recipe",
    "Streamed",
    "Team",
    "TensorBoard",
    "Tracker",
    "Trained",
    "WeightsAndBiases",
    "evaluate",
    "joined",
    "keep_freed_memory",
    "seeded_build",
    "train",
]

if TYPE_CHECKING:
    from archduel.training.distributed import Team, joined
    from archduel.training.images import Pixels, Streamed
    from archduel.training.loop import Epoch, Trained, train
    from archduel.training.metrics import Evaluation, evaluate
    from archduel.training.optimizer import SGD
    from archduel.training.optuna_tracker import Optuna
    from archduel.training.recipe import Recipe
    from archduel.training.runtime import keep_freed_memory, seeded_build
    from archduel.training.tracking import (
        Candidate,
        CandidateTracker,
        MLflow,
        TensorBoard,
        Tracker,
        WeightsAndBiases,
    )
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "SGD": "archduel.training.optimizer",
            "Candidate": "archduel.training.tracking",
            "CandidateTracker": "archduel.training.tracking",
            "Epoch": "archduel.training.loop",
            "Evaluation": "archduel.training.metrics",
            "MLflow": "archduel.training.tracking",
            "Optuna": "archduel.training.optuna_tracker",
            "Pixels": "archduel.training.images",
            "Recipe": "archduel.training.recipe",
            "Streamed": "archduel.training.images",
            "Team": "archduel.training.distributed",
            "TensorBoard": "archduel.training.tracking",
            "Tracker": "archduel.training.tracking",
            "Trained": "archduel.training.loop",
            "WeightsAndBiases": "archduel.training.tracking",
            "evaluate": "archduel.training.metrics",
            "joined": "archduel.training.distributed",
            "keep_freed_memory": "archduel.training.runtime",
            "seeded_build": "archduel.training.runtime",
            "train": "archduel.training.loop",
        },
    )
