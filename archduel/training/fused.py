"""The training loop of many networks at once: each ends as it would alone, whatever happens to the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from archduel.errors import DataError, SettingError
from archduel.training.fused_group import FusedGroup
from archduel.training.fused_networks import FusedNetworks, evaluate_fused
from archduel.training.pixels import Images
from archduel.training.recipe import Recipe
from archduel.training.running import Epoch, Trained

__all__ = ["FusedNetworks", "evaluate_fused", "train_fused"]


def train_fused(
    model: FusedNetworks,
    train: Images,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    rates: Sequence[float] | None = None,
    validation: Images | None = None,
    prune: Callable[[int, list[int], list[Epoch]], Sequence[int]] | None = None,
) -> tuple[FusedNetworks, list[int], list[Trained]]:
    """Trains networks together, each as :func:`archduel.training.loop.train` trains it alone with the same seed.

    A network whose loss is not finite leaves the batch at the end of the epoch, with a reason; the others do not notice.

    Args:
        model: the networks, initialised.
        train: training images, as for ``train``.
        recipe: how to train, in ``fp32``.
        seeds: of batch order, augmentation and drop path: one for all (they see the same batches), or one a network.
        rates: factors of the learning rate, one a network; None = 1.
        validation: evaluated after each epoch.
        prune: asked after each epoch but the last with (finished epochs, numbers of the networks left, their latest
            numbers), returns the numbers of those that go on; the others end there, with a reason.

    Returns:
        The networks that were trained to the end, their numbers, and what happened to each of the first.

    Raises:
        SettingError: for another precision, or another number of seeds or rates.
        DataError: for fewer than two training images.
    """
    _check(len(model), recipe, seeds, rates)
    images = train.resized(recipe.image_size).fraction(recipe.data_fraction, seed=0)
    if len(images) < 2:
        raise DataError(f"training needs at least 2 images, got {len(images)}")
    scored = validation.resized(recipe.image_size) if validation is not None else None
    group = FusedGroup(model, images, recipe, seeds, rates)
    for epoch in range(group.plan.epochs):
        began = time.perf_counter()
        good = group.run_epoch(epoch)
        group.note_epoch(epoch, scored, time.perf_counter() - began)
        kept = good
        if prune is not None and good and epoch + 1 < group.plan.epochs:
            kept = _pruned(group, prune, epoch, good)
        if len(kept) < len(group.model):
            if not kept:
                group.numbers = []
                break
            group.shrink(kept)
    if group.average:
        group.average.keep()
    return group.model, group.numbers, group.results


def _check(k: int, recipe: Recipe, seeds: Sequence[int], rates: Sequence[float] | None) -> None:
    """Raises SettingError for settings that ``k`` fused networks cannot be trained with."""
    if recipe.precision != "fp32":
        raise SettingError(
            f"fused training computes in fp32, got {recipe.precision!r}; set precision or train one by one"
        )
    for name, values in (("seeds", seeds), ("rates", rates or [1.0] * k)):
        if len(values) != k and (name, len(values)) != ("seeds", 1):
            raise SettingError(f"{k} networks need as many {name}, got {len(values)}")


def _pruned(
    group: FusedGroup,
    prune: Callable[[int, list[int], list[Epoch]], Sequence[int]],
    epoch: int,
    good: list[int],
) -> list[int]:
    """Returns the places that go on; the others get their reason."""
    numbers = [group.numbers[k] for k in good]
    chosen = set(prune(epoch + 1, numbers, [group.results[n].history[-1] for n in numbers]))
    for number in set(numbers) - chosen:
        group.results[number].reason = f"stopped early after epoch {epoch + 1} of {group.plan.epochs}"
    return [k for k in good if group.numbers[k] in chosen]
