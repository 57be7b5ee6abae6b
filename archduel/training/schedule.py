"""What changes from step to step: how many steps there are, the learning rate, the drop-path probability."""

from __future__ import annotations

import math
from dataclasses import dataclass

from archduel.training.recipe import Recipe

__all__ = ["Plan", "drop_path_at", "learning_rate", "plan", "tail_share"]

TAIL_EPOCHS = 5


@dataclass(frozen=True)
class Plan:
    """The steps of a training.

    Attributes:
        per_epoch: batches a pass.
        steps: batches in all.
    """

    per_epoch: int
    steps: int

    @property
    def epochs(self) -> int:
        """Passes, the last of which may be a part."""
        return math.ceil(self.steps / self.per_epoch)

    def steps_of(self, epoch: int) -> range:
        """Returns the numbers of the steps of ``epoch``."""
        return range(epoch * self.per_epoch, min((epoch + 1) * self.per_epoch, self.steps))


def plan(recipe: Recipe, n_images: int) -> Plan:
    """Returns the steps of ``recipe`` on ``n_images``.

    A pass is cut into equal batches of at most ``batch_size`` images: no image is left out, no batch is tiny, and a batch
    size above the number of images is one batch of all of them. A batch never has a single image (batch norm needs two).
    """
    per_epoch = max(1, min(math.ceil(n_images / recipe.batch_size), n_images // 2))
    return Plan(per_epoch, max(1, round(recipe.epochs * per_epoch)))


def learning_rate(recipe: Recipe, step: int, total: Plan) -> float:
    """Returns the learning rate of ``step`` (from 0).

    During the warm-up it rises linearly and reaches ``lr`` with the last warm-up step (or epoch, for ``lr_update="epoch"``);
    then, with t the share of the remaining steps that are done:

    - ``cosine``: lr_min + (lr - lr_min) (1 + cos(pi t)) / 2;
    - ``linear``: lr + (lr_min - lr) t;
    - ``linear_tail``: see :func:`tail_share`; it counts epochs from the very beginning, as RelativeNAS does;
    - ``exponential``: lr gamma^(epochs since the warm-up).

    With ``lr_update="epoch"`` all steps of an epoch have the value of its first one.
    """
    by_epoch = recipe.lr_update == "epoch"
    if by_epoch:
        step -= step % total.per_epoch
    warmup = min(round(recipe.warmup_epochs * total.per_epoch), total.steps)
    if step < warmup:
        return recipe.lr * min(1.0, (step + (total.per_epoch if by_epoch else 1)) / warmup)
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "exponential":
        return float(recipe.lr * recipe.gamma ** ((step - warmup) / total.per_epoch))
    if recipe.schedule == "linear_tail":
        return recipe.lr * tail_share(step / total.per_epoch, total.steps / total.per_epoch)
    done = (step - warmup) / max(1, total.steps - warmup)
    left = (1 + math.cos(math.pi * done)) / 2 if recipe.schedule == "cosine" else 1 - done
    return recipe.lr_min + (recipe.lr - recipe.lr_min) * left


def tail_share(epoch: float, epochs: float) -> float:
    """Returns the share of the peak learning rate at ``epoch`` (from 0) of a linear fall with a slower end.

    It falls to 0 within ``epochs - 5``, but the last five epochs share one fifth of the last such step each. Trainings of
    five epochs or fewer have a plain linear fall. Source: the released ImageNet training of RelativeNAS.
    """
    body = epochs - TAIL_EPOCHS
    if body <= 0:
        return 1 - epoch / epochs
    return (body - epoch) / body if epochs - epoch > TAIL_EPOCHS else (epochs - epoch) / (TAIL_EPOCHS * body)


def drop_path_at(recipe: Recipe, epoch: int) -> float:
    """Returns the drop-path probability of ``epoch`` (from 0): ``drop_path`` x epoch / epochs, as in DARTS."""
    return recipe.drop_path * min(1.0, epoch / recipe.epochs)
