"""A run that is a published search: what it says before it begins, of its deviations and of what it will cost here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from archduel.assemble import declaration
from archduel.commands.search.one_shot import OneShot
from archduel.commands.search.settings import Settings
from archduel.commands.search.stages import Context
from archduel.core import Allowance, sample
from archduel.data import Dataset
from archduel.estimators.judges import scale_of
from archduel.presets import open_preset
from archduel.recipes import open_recipe
from archduel.reporting.text import duration
from archduel.spaces.family import count
from archduel.training.recipe import Recipe

__all__ = ["introduce", "say_cost"]

FEW, LARGE = 32, 64
"""Images of a batch that is timed where they have more pixels a side than ``LARGE``: a paper's batch of 512 at 224 px takes 15 GB and more, which
the machine on which somebody looks at the plan need not have."""

ASTRAY = 0.03
"""Difference of shares from which on a split is not the one that was asked for; small classes are rounded."""
FORWARD = 1 / 3
"""Of the multiply-adds of a training step, those of the pass that judges."""


def introduce(settings: Settings, dataset: Dataset, say: Callable[[str], None]) -> None:
    """Says what the preset of a run is and where it differs from its paper: by number, the recipe of its final training included."""
    share = len(dataset.validation) / max(1, len(dataset.train) + len(dataset.validation))
    if settings.validation is not None and abs(share - settings.validation) > ASTRAY:
        say(f"  split      the data have validation images of their own: {share:.0%} instead of the {settings.validation:.0%} that were asked for")
    if settings.preset is None:
        return
    recipe = settings.section("final").get("recipe")
    further = [] if recipe is None else [f"final training, {recipe}: {text}" for text in open_recipe(recipe).deviations]
    for line in open_preset(settings.preset).introduction(further):
        say(line)


def say_cost(context: Context, one_shot: OneShot, seconds_per_image: Callable[[Recipe], float]) -> None:
    """Says what a published search and its final training will take on this machine; measured once, a continued run repeats it."""
    if context.settings.preset is None:
        return
    found = context.job.once("cost", lambda: _cost(context, one_shot, seconds_per_image))
    plan, final, say = one_shot.plan, context.plan.final, context.progress.say
    say(
        f"  cost       shared weights learn from {found['learned']:,} batches of {plan.recipe.batch_size} and are judged on {found['judged']:,}: "
        f"about {duration(found['search'])} here; final training of {final.epochs:g} epochs about {duration(found['final'])}"
    )


def _cost(context: Context, one_shot: OneShot, seconds_per_image: Callable[[Recipe], float]) -> dict[str, Any]:
    plan, final, data, settings = one_shot.plan, context.plan.final, context.dataset, context.settings
    arch, scale = sample(context.space, np.random.default_rng(6), context.constraint), scale_of(plan.recipe, data)
    judges = declaration(settings.strategy).judges
    allowance = Allowance(batches=one_shot.shared.n_batches("train"), space=context.space, given=settings.section("strategy"))
    judged = 0 if judges is None else judges(plan.settings, allowance, one_shot.shared.n_batches("validation"))
    timed = plan.recipe if plan.recipe.image_size <= LARGE else plan.recipe.with_(batch_size=min(FEW, plan.recipe.batch_size))
    each = seconds_per_image(timed)
    larger = count(arch, scale_of(final, data)).macs / max(1, count(arch, scale).macs)
    images = len(data.train) + len(data.validation)
    return {
        "learned": plan.batches,
        "judged": judged,
        "search": each * plan.recipe.batch_size * (plan.batches + FORWARD * judged),
        "final": each * larger * final.epochs * images * settings.final_seeds,
    }
