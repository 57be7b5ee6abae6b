"""What fits into the budget: recipes, sizes and numbers of evaluations, decided before the search starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from archduel.assemble import declaration
from archduel.commands.search.settings import Settings
from archduel.data import Dataset
from archduel.errors import BudgetError, SettingError
from archduel.recipes import base_recipe, changed, fitted, read
from archduel.spaces.family import check_depth, family
from archduel.training.recipe import Recipe

if TYPE_CHECKING:
    from archduel.fusing.judging import FusedPlan

__all__ = ["LABEL", "SHARES", "Plan", "default_seconds", "fixed_plan", "fused_labels", "ladder_for", "longer_plan", "timed_plan", "whole_number", "with_groups"]

LABEL = "label"
"""The stage, and the fidelity, of trainings with the cheap recipe."""

SHARES = {"label": 0.33, "compare": 0.06, "reevaluate": 0.14, "final": 0.38}
"""Shares of the time; the rest is the proposals' labels, the extra ones of random search, start-up, export and report."""

UNSHARED = 0.6
"""Part of the label share that a search gets whose architectures are not random and so do not count for random search."""

ENOUGH_LABELS, MOST_LABELS, FEWEST_LABELS = 40, 200, 8
"""Cheap trainings of which so many must fit before a more trustworthy recipe is taken, since a comparator learns from pairs and few labels
make few; how many are made at most; with how few a plan is refused, because random search would do as well."""
ENOUGH_EPOCHS, MOST_EPOCHS, FEWEST_EPOCHS = 20, 120, 3
"""Final epochs of which so many must fit before a larger network is taken, which would be trained too short to be better; at most; at least."""


@dataclass(frozen=True)
class Plan:
    """The numbers of a run.

    Attributes:
        labels: architectures trained with the cheap recipe before the comparator is fitted.
        confirm: architectures that the comparator proposes and that are then trained with the cheap recipe too.
        shortlist: architectures search and random search each train again with more epochs.
        iterations: policy updates of the comparator search.
        label: the cheap recipe.
        reevaluate: the recipe of the shortlist.
        final: the recipe of the final networks (epochs are set when that stage begins, from the time that is left).
        seconds: what the plan expects each stage to take on all workers together, empty without a time budget.
        seconds_per_label: expected seconds of one cheap training.
        seconds_per_epoch: expected seconds of one epoch of a re-evaluation.
    """

    labels: int
    confirm: int
    shortlist: int
    iterations: int
    label: Recipe
    reevaluate: Recipe
    final: Recipe
    seconds: dict[str, float]
    seconds_per_label: float = 0.0
    seconds_per_epoch: float = 0.0

    def shallow(self, space: str) -> bool:
        """Whether its cheap networks lack a part of every architecture of ``space``: the plan of a run that an older version began."""
        return self.label.depth < family(space).least_depth

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Returns the plan that :meth:`to_json` wrote."""
        recipes = {name: Recipe(**value[name]) for name in ("label", "reevaluate", "final")}
        return cls(**{**{f.name: value[f.name] for f in fields(cls)}, **recipes})


LONGER = 1.3
"""Times what would just be enough, where the tool chooses the time itself: measured step times vary."""


def default_seconds(n_images: int) -> float:
    """Returns the time budget when none is given: 2 minutes and one more for every 1,000 images, at most 30."""
    return min(1800.0, 120.0 + 60.0 * n_images / 1000)


def ladder_for(settings: Settings) -> tuple[tuple[int, int], ...]:
    """Returns the (channels, depth) at which networks may be built, small to large.

    Raises:
        SettingError: where neither the settings nor the space say any.
    """
    given, ladder = settings.section("plan"), family(settings.space).ladder
    if "channels" in given or "depth" in given:
        default = (ladder or ((16, 5),))[-1]
        channels, depth = (whole_number(f"plan.{n}", given.get(n, d), 1) for n, d in zip(("channels", "depth"), default))
        check_depth(settings.space, depth, "plan.depth")
        return ((channels, depth),)
    if not ladder:
        raise SettingError(
            f"how wide and deep networks of space {settings.space!r} should be is not known; say it: "
            "--set plan.channels=16 --set plan.depth=5"
        )
    return ladder


def _cheap_ladder(channels: int, depth: int, least: int) -> list[tuple[int, int, float, float]]:
    """Returns (channels, depth, epochs, data fraction) from the most to the least trustworthy cheap recipe, no depth below ``least``."""
    half, quarter = max(4, channels // 2), max(4, channels // 4)
    halfway, third = max(least, depth // 2), max(least, depth // 3)
    return [
        (channels, depth, 12, 1.0),
        (channels, halfway, 12, 1.0),
        (half, halfway, 12, 1.0),
        (half, halfway, 6, 1.0),
        (half, third, 4, 1.0),
        (half, third, 4, 0.5),
        (quarter, third, 4, 0.5),
        (quarter, third, 2, 0.5),
        (quarter, third, 2, 0.2),
    ]


def _override(recipe: Recipe, settings: Settings, section: str) -> Recipe:
    """Returns the planned recipe with the user's settings; ``recipe`` among them names another one to start from."""
    known = {f.name for f in fields(Recipe)}
    changes = dict(settings.section(section))
    if section == LABEL:
        changes.pop("fused", None)  # how many at once, see `fused_labels`
    wrong = sorted(set(changes) - known - {"recipe"})
    if wrong:
        raise SettingError(f"--set {section}.{wrong[0]}: a recipe has no such setting; it has recipe, {', '.join(sorted(known))}")
    if name := changes.pop("recipe", None):
        recipe = fitted(read(name, settings.space), recipe.image_size, recipe.flip)[0]
    recipe = changed(recipe, changes)
    check_depth(settings.space, recipe.depth, f"{section}.depth")
    return recipe


def _numbers(settings: Settings, **defaults: int) -> dict[str, int]:
    given = settings.section("plan")
    wrong = sorted(set(given) - set(defaults) - {"channels", "depth"})
    if wrong:
        raise SettingError(f"--set plan.{wrong[0]}: the plan has {', '.join(sorted(defaults))}, channels, depth")
    return {key: whole_number(f"plan.{key}", given.get(key, value), LEAST[key]) for key, value in defaults.items()}


LEAST = {"labels": 2, "confirm": 1, "shortlist": 1, "iterations": 1, "channels": 1, "depth": 1}


def whole_number(name: str, value: object, least: int) -> int:
    """Returns ``value`` if it is a whole number of at least ``least``.

    Raises:
        SettingError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or int(value) != value or value < least:
        raise SettingError(f"--set {name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)


WORTH_MEASURING = 40.0
"""Seconds of cheap trainings on a worker from which on it is measured whether groups are faster: that takes 3 to 10 seconds of a core
(``benchmarks/records/search_fused.json``), as much as a gain of 1.4 gives back in 35."""
LARGEST_GROUPED = 128
"""Channels times pixels of a side up to which groups are measured on a CPU, since larger maps keep a core busy by themselves: labels a
core second are 3.1 times as many at 4 channels of 8 px, 2.1 at 8 of 8, 1.1 at 16 of 8, 1.4 at 4 of 32; at 8 of 32 they are not more, and
measuring that takes 20 seconds (the same record)."""


def fused_labels(settings: Settings, plan: Plan, measure: Callable[[], FusedPlan]) -> dict[str, Any]:
    """Returns how many cheap trainings a worker does at once, and why, for the journal: a continued run keeps it.

    A run with a budget in evaluations repeats exactly, which a choice by measured time does not: it trains them one by one unless a
    number is given. One with a budget in time measures, and trains together what is faster together.

    Args:
        settings: ``label.fused`` among them is ``auto``, ``off`` or a number.
        plan: of the run.
        measure: times a few steps of both ways.

    Raises:
        SettingError: for another value.
    """
    fused = settings.section(LABEL).get("fused", "auto")
    if fused not in ("auto", "off"):
        return {"at_once": whole_number("label.fused", fused, 1), "reason": "as given"}
    if fused == "off" or settings.seconds is None:
        return {"at_once": 1, "reason": "off" if fused == "off" else "a run that repeats exactly measures no time"}
    if settings.device == "cpu" and plan.label.channels * plan.label.image_size > LARGEST_GROUPED:
        return {"at_once": 1, "reason": f"channels times pixels of a side are more than {LARGEST_GROUPED}: a group gains little"}
    if (plan.labels + plan.confirm) * plan.seconds_per_label < WORTH_MEASURING * settings.workers:
        return {"at_once": 1, "reason": "the trainings take too little time to measure anything first"}
    measured = measure()
    return {"at_once": measured.k, **measured.record()}


FUSED_GAIN_KEPT = 0.8
"""Share of what groups gain in a step that is left of a label: networks are built and scored as before."""


def with_groups(settings: Settings, plan: Plan, measured: Mapping[str, Any]) -> Plan:
    """Returns the plan with as many labels as fit where they are trained in groups; the time of the others is as it was.

    Args:
        settings: of the run; numbers that are given there stay.
        plan: made for trainings one by one.
        measured: the record of :func:`fused_labels`.
    """
    at_once, given = int(measured["at_once"]), settings.section("plan")
    if at_once < 2 or "together" not in measured or settings.seconds is None or {"labels", "confirm"} & set(given):
        return plan
    gain = max(1.0, FUSED_GAIN_KEPT * float(measured["alone"]) / float(measured["together"][str(at_once)]))
    most = min(MOST_LABELS, settings.evaluations or MOST_LABELS)
    labels = max(plan.labels + plan.confirm, min(most, int((plan.labels + plan.confirm) * gain)))
    confirm = max(plan.confirm, labels // 3)
    return replace(plan, labels=labels - confirm, confirm=confirm, seconds_per_label=plan.seconds_per_label / gain)


def fixed_plan(settings: Settings, dataset: Dataset, ladder: Sequence[tuple[int, int]]) -> Plan:
    """Returns a plan that depends on the data and ``--evaluations`` only, never on measured time (exactly repeatable)."""
    assert settings.evaluations is not None
    base = base_recipe(len(dataset.train), dataset.image_size, dataset.flip, settings.space)
    given = settings.section("plan")
    start = ladder[min(2 if dataset.image_size <= 16 else 3, len(ladder) - 1)]
    channels, depth = (whole_number(f"plan.{n}", given.get(n, d), 1) for n, d in zip(("channels", "depth"), start))
    confirm = max(2, settings.evaluations // 3)
    numbers = _numbers(
        settings,
        labels=max(2, settings.evaluations - confirm),
        confirm=confirm,
        shortlist=max(1, min(4, settings.evaluations // 5)),
        iterations=100,
    )
    cheap = base.with_(channels=max(4, channels // 2), depth=max(family(settings.space).least_depth, depth // 2), epochs=4)
    return Plan(
        **numbers,
        label=_override(cheap, settings, "label"),
        reevaluate=_override(base.with_(channels=channels, depth=depth, epochs=8), settings, "reevaluate"),
        final=_override(base.with_(channels=channels, depth=depth, epochs=16), settings, "final"),
        seconds={},
    )


def timed_plan(
    settings: Settings,
    dataset: Dataset,
    fitting: Sequence[tuple[int, int]],
    seconds_per_image: Callable[[Recipe], float],
) -> Plan:
    """Returns the plan for a time budget.

    Args:
        settings: with ``seconds`` set.
        dataset: its sizes count.
        fitting: the (channels, depth) within the limits, small to large.
        seconds_per_image: measures one training step of a typical architecture under a recipe, in seconds an image.

    Raises:
        BudgetError: if not even the smallest networks fit; says what would.
    """
    assert settings.seconds is not None
    base = base_recipe(len(dataset.train), dataset.image_size, dataset.flip, settings.space)
    capacity = settings.seconds * settings.workers
    networks = 3 if settings.baselines else 1
    n_final = len(dataset.train) + len(dataset.validation)
    per_final = SHARES["final"] * capacity / (networks * settings.final_seeds)
    channels, depth, epochs, cost = _final_size(base, fitting, per_final / n_final, seconds_per_image)
    if epochs < FEWEST_EPOCHS:
        why = f"the smallest final networks would be trained for only {epochs:.1f} epochs of {n_final:,} images"
        raise _too_short(settings, FEWEST_EPOCHS / max(epochs, 1e-9), why, ", a smaller --image-size or --max-images")
    share = SHARES["label"] * capacity
    if settings.baselines and declaration(settings.strategy).kind != "labels-first":
        share *= UNSHARED  # random search pays for labels of its own
    cheap = _cheap_ladder(channels, depth, family(settings.space).least_depth)
    label, labels, label_cost = _cheap(base, cheap, len(dataset.train), share, seconds_per_image)
    if labels < FEWEST_LABELS:
        why = f"only {labels} cheap trainings of {label_cost:.1f} s fit, at least {FEWEST_LABELS} are needed"
        raise _too_short(settings, FEWEST_LABELS / max(labels, 0.2), why)
    cap = min(MOST_LABELS, settings.evaluations or MOST_LABELS)
    labels = min(labels, cap)
    # fewer proposals leave search and random search nearly the same architectures
    confirm = max(2, labels // 3)
    numbers = _numbers(
        settings,
        labels=labels - confirm,
        confirm=confirm,
        shortlist=3 if labels < 30 else 5,
        iterations=200 if settings.seconds < 600 else 500 if settings.seconds < 3600 else 1000,
    )
    per_check = SHARES["reevaluate"] * capacity / ((2 if settings.baselines else 1) * numbers["shortlist"])
    check_epochs = max(2.0, min(float(int(epochs)), per_check // (len(dataset.train) * cost)))
    return Plan(
        **numbers,
        label=_override(label, settings, "label"),
        reevaluate=_override(base.with_(channels=channels, depth=depth, epochs=check_epochs), settings, "reevaluate"),
        final=_override(base.with_(channels=channels, depth=depth, epochs=float(int(epochs))), settings, "final"),
        seconds={name: share * settings.seconds for name, share in SHARES.items()},
        seconds_per_label=label_cost,
        seconds_per_epoch=len(dataset.train) * cost,
    )


def _too_short(settings: Settings, factor: float, why: str, instead: str = "") -> BudgetError:
    """Returns the error of a time that would have to be ``factor`` times as long, and what else would do."""
    assert settings.seconds is not None
    needed = settings.seconds * factor
    return BudgetError(f"--time {settings.seconds:.0f} s is too short: {why}; give about {needed:.0f} s{instead}", needed)


def longer_plan(
    settings: Settings,
    dataset: Dataset,
    fitting: Sequence[tuple[int, int]],
    seconds_per_image: Callable[[Recipe], float],
) -> tuple[Settings, Plan]:
    """Returns the plan of :func:`timed_plan`, and the settings with more time where theirs is too short for any."""
    while True:
        try:
            return settings, timed_plan(settings, dataset, fitting, seconds_per_image)
        except BudgetError as error:
            if error.needed is None:
                raise
            settings = settings.model_copy(update={"seconds": LONGER * error.needed})


def _final_size(
    base: Recipe, fitting: Sequence[tuple[int, int]], seconds_an_epoch: float, measure: Callable[[Recipe], float]
) -> tuple[int, int, float, float]:
    """Returns the largest (channels, depth) that can be trained long enough, with its epochs and seconds an image."""
    best: tuple[int, int, float, float] | None = None
    for channels, depth in fitting:
        cost = measure(base.with_(channels=channels, depth=depth))
        epochs = min(float(MOST_EPOCHS), seconds_an_epoch / cost)
        if best is not None and epochs < ENOUGH_EPOCHS:
            break
        best = (channels, depth, epochs, cost)
    assert best is not None
    return best


def _cheap(
    base: Recipe, cheap: Sequence[tuple[int, int, float, float]], n_train: int, seconds: float, measure: Callable[[Recipe], float]
) -> tuple[Recipe, int, float]:
    """Returns the most trustworthy cheap recipe of which enough trainings fit, how many, and the seconds of one."""
    measured: dict[tuple[int, int], float] = {}
    best: tuple[Recipe, int, float] | None = None
    for width, cells, epochs, fraction in cheap:
        recipe = base.with_(channels=width, depth=cells, epochs=epochs, data_fraction=fraction)
        if (width, cells) not in measured:
            measured[width, cells] = measure(recipe)
        cost = measured[width, cells] * epochs * n_train * fraction
        fit = int(seconds / cost)
        if best is None or fit > best[1]:
            best = (recipe, fit, cost)
        if fit >= ENOUGH_LABELS:
            break
    assert best is not None
    return best
