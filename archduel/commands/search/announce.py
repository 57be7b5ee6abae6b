"""What a run says before it trains: its images, and what fits into its budget."""

from __future__ import annotations

from archduel.assemble import declaration
from archduel.commands.progress import Progress, duration
from archduel.commands.search.one_shot import CHECKED
from archduel.commands.search.plan import Plan
from archduel.commands.search.settings import Settings
from archduel.commands.search.words import look_words, warnings_of
from archduel.data import Dataset
from archduel.reporting.text import drawn

__all__ = ["announce", "say_images"]


def say_images(progress: Progress, settings: Settings, dataset: Dataset) -> None:
    """Says what the images are."""
    test = drawn(len(dataset.test), dataset.facts.get("test_of"))
    splits = f"{len(dataset.train):,} train, {len(dataset.validation):,} validation, {test} test"
    progress.say(f"{dataset.name}: {dataset.n_classes} classes, {splits}; {dataset.image_size} px, {look_words(dataset.preprocessing.rule)}")
    for warning in warnings_of(dataset.warnings, settings.metric):
        progress.say(f"warning: {warning}")


def announce(progress: Progress, settings: Settings, plan: Plan, dataset: Dataset) -> None:
    """Prints what fits into the budget before anything is trained."""
    size = f"{plan.final.channels} channels, depth {plan.final.depth}"
    cheap = f"{plan.label.channels} channels, depth {plan.label.depth}, {plan.label.epochs:g} epochs"
    if plan.label.data_fraction < 1:
        cheap += f" on {plan.label.data_fraction:.0%} of the images"
    budget = f"{settings.evaluations} evaluations" if settings.seconds is None else duration(settings.seconds)
    progress.say(f"plan for {budget} on {settings.device}, {settings.workers} at a time:")
    each = f", about {plan.seconds_per_label:.1f} s each" if plan.seconds_per_label else ""
    kind = declaration(settings.strategy).kind
    if kind == "one-shot":
        checked = min(CHECKED, settings.evaluations or CHECKED) if settings.seconds is None else CHECKED
        progress.say(f"  check      {checked} random architectures of {settings.space} trained alone with a cheap recipe ({cheap}){each}")
    elif kind == "labels-first":
        progress.say(f"  label      {plan.labels} architectures of {settings.space} with a cheap recipe ({cheap}){each}")
        progress.say(f"  compare    {settings.strategy} proposes {plan.confirm} more")
    else:
        number = plan.labels + plan.confirm
        progress.say(f"  label      {number} architectures of {settings.space} that {settings.strategy} asks for ({cheap}){each}")
    sides = "the search and random search at equal cost" if settings.baselines else "the search"
    progress.say(f"  reevaluate {plan.shortlist} each for {sides}, {plan.reevaluate.epochs:g} epochs at {size}")
    nets = "3 networks (search, random search, a standard ResNet)" if settings.baselines else "the winner"
    progress.say(f"  final      {nets} x {settings.final_seeds} seeds, about {plan.final.epochs:g} epochs at {size}")
