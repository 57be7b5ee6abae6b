"""What decides how a race goes, besides its plan."""

from __future__ import annotations

from dataclasses import dataclass

from archduel.training.recipe import Recipe

__all__ = ["RaceSettings"]


@dataclass(frozen=True)
class RaceSettings:
    """What decides how a race goes, besides its plan.

    Attributes:
        recipe: batch size, peak learning rate, augmentation, precision.
        metric: what is shown of a network, see :data:`archduel.training.metrics.METRICS`.
        by_likelihood: whether candidates are compared by the likelihood of the right classes rather than by the metric.
        seed: of everything.
        device: of torch.
        timed: whether units are seconds; else passes over the training images.
        macs: multiply-adds of a network that the time supports.
        threads: how many a training may use; fewer where that is faster, unless a race must repeat exactly.
        reserve: seconds that the plan keeps for what comes after the training.
    """

    recipe: Recipe
    metric: str
    by_likelihood: bool
    seed: int
    device: str
    timed: bool
    macs: float
    threads: int = 1
    reserve: float = 0.0
