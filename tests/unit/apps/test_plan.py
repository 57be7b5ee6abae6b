"""The plan: numbers that fit the budget, from fake measurements."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from archduel.commands.search.plan import (
    FEWEST_EPOCHS,
    FEWEST_LABELS,
    MOST_EPOCHS,
    MOST_LABELS,
    SHARES,
    Plan,
    default_seconds,
    fixed_plan,
    fused_labels,
    longer_plan,
    timed_plan,
    with_groups,
)
from archduel.commands.search.settings import make_settings
from archduel.errors import BudgetError, SettingError
from archduel.fusing.judging import FusedPlan
from archduel.spaces.family import family
from archduel.training.recipe import Recipe

LADDER = family("nasbench201").ladder


def make_images(n: int, size: int = 32) -> Any:
    """Returns what a plan wants to know of a data set with ``n`` images."""
    parts = {"train": range(n * 6 // 10), "validation": range(n // 5), "test": range(n // 5)}
    return SimpleNamespace(image_size=size, flip=True, **parts)


def cost(recipe: Recipe) -> float:
    """Returns seconds an image that grow as those of a cell network do: 1 ms at 16 channels, depth 5 and 32 px."""
    return 1e-3 * (recipe.channels / 16) ** 1.7 * (recipe.depth + 1) / 6 * (recipe.image_size / 32) ** 2


def promised(plan: Plan, n_train: int, workers: int, arms: int, seeds: int) -> dict[str, float]:
    """Returns the seconds that the stages of ``plan`` take if the measurement is right."""
    label, check, final = plan.label, plan.reevaluate, plan.final
    return {
        "label": plan.labels * label.epochs * label.data_fraction * n_train * cost(label) / workers,
        "reevaluate": min(arms, 2) * plan.shortlist * check.epochs * n_train * cost(check) / workers,
        "final": arms * seeds * final.epochs * n_train * 4 / 3 * cost(final) / workers,
    }


@pytest.mark.parametrize("n", [100, 2_000, 50_000, 1_000_000])
@pytest.mark.parametrize("seconds", [30, 600, 7_200, 86_400])
@pytest.mark.parametrize("strategy", ["ctnas", "evolution"])
def test_a_timed_plan_fits_its_budget_or_says_what_would(n: int, seconds: int, strategy: str) -> None:
    settings = make_settings(data="x", seconds=float(seconds), workers=2, strategy=strategy)
    try:
        plan = timed_plan(settings, make_images(n), LADDER, cost)
    except BudgetError:
        with pytest.raises(BudgetError, match=rf"--time {seconds} s is too short.*give about \d+ s"):
            timed_plan(settings, make_images(n), LADDER, cost)
        assert n > 100
        return
    assert FEWEST_LABELS <= plan.labels + plan.confirm <= MOST_LABELS
    assert FEWEST_EPOCHS <= plan.final.epochs <= MOST_EPOCHS
    assert plan.final.channels >= plan.label.channels
    for stage, took in promised(plan, n * 6 // 10, 2, 3, 3).items():
        floor = 6 * 2 * n * 6 // 10 * cost(plan.reevaluate) / 2 if stage == "reevaluate" else 0.0  # two epochs at least
        assert took <= max(1.02 * SHARES[stage] * seconds, floor), stage


def test_what_the_error_says_is_enough_is_enough() -> None:
    import re

    seconds = 30.0
    for _ in range(4):
        try:
            timed_plan(make_settings(data="x", seconds=seconds, workers=2), make_images(50_000), LADDER, cost)
            break
        except BudgetError as error:
            seconds = float(re.search(r"give about (\d+) s", str(error))[1]) + 1  # type: ignore[index]
    else:
        pytest.fail(f"still too short with {seconds} s")


def test_a_time_that_the_tool_chose_is_raised_until_something_fits() -> None:
    short = make_settings(data="x", seconds=30.0, workers=2)
    settings, plan = longer_plan(short, make_images(50_000), LADDER, cost)
    assert settings.seconds is not None
    assert settings.seconds > 30
    assert plan == timed_plan(settings, make_images(50_000), LADDER, cost)
    enough = make_settings(data="x", seconds=86_400.0, workers=2)
    assert longer_plan(enough, make_images(50_000), LADDER, cost)[0] is enough


def test_more_time_never_means_smaller_final_networks() -> None:
    widths = []
    for seconds in (300.0, 1_200.0, 7_200.0, 86_400.0):
        plan = timed_plan(make_settings(data="x", seconds=seconds, workers=2), make_images(2_000), LADDER, cost)
        widths.append((plan.final.channels, plan.final.depth))
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_limits_keep_the_networks_small() -> None:
    plan = timed_plan(make_settings(data="x", seconds=86_400.0, workers=2), make_images(2_000), LADDER[:2], cost)
    assert (plan.final.channels, plan.final.depth) == LADDER[1]


def test_evaluations_limit_the_labels_of_a_timed_plan() -> None:
    plan = timed_plan(make_settings(data="x", seconds=7200.0, evaluations=12, workers=2), make_images(500), LADDER, cost)
    assert plan.labels + plan.confirm == 12


def test_a_fixed_plan_depends_on_no_clock() -> None:
    settings = make_settings(data="x", evaluations=30, workers=2)
    first, second = (fixed_plan(settings, make_images(2_000), LADDER) for _ in range(2))
    assert first == second
    assert first.labels + first.confirm == 30
    assert Plan.from_json(first.to_json()) == first


def test_settings_of_the_plan_are_checked() -> None:
    for given, message in (
        ({"plan.labels": 1}, "plan.labels: expected a whole number of at least 2, got 1"),
        ({"plan.shortlist": "x"}, "plan.shortlist: expected a whole number of at least 1, got 'x'"),
        ({"plan.channels": 0.5}, "plan.channels: expected a whole number"),
        ({"plan.label": 3}, "the plan has"),
        ({"final.epochs": 0}, "epochs must be above 0"),
    ):
        with pytest.raises(SettingError, match=message):
            fixed_plan(make_settings(data="x", evaluations=8, set=given), make_images(100), LADDER)


@pytest.mark.parametrize(("n", "seconds"), [(100, 126.0), (10_000, 720.0), (1_000_000, 1800.0)])
def test_the_time_when_none_is_given(n: int, seconds: float) -> None:
    assert default_seconds(n) == seconds


def test_groups_of_labels_are_measured_where_that_can_pay_and_never_where_a_run_repeats_exactly() -> None:
    def at_once(measured: bool = True, cheap: dict[str, Any] | None = None, each: float = 2.0, **values: Any) -> int:
        def measure() -> FusedPlan:
            assert measured, "nothing is measured here"
            return FusedPlan(16, 1.0, {8: 0.5, 16: 0.4}, 0)

        settings = make_settings(data="digits", **values)
        cheap = {"channels": 8, "depth": 1, "image_size": 8, **(cheap or {})}
        recipe = Recipe(**cheap)
        plan = Plan(20, 10, 2, 10, recipe, recipe, recipe, {}, seconds_per_label=each)
        return int(fused_labels(settings, plan, measure)["at_once"])

    assert at_once(seconds=60, workers=1) == 16
    assert at_once(seconds=60, workers=1, set={"label.fused": 4}, measured=False) == 4
    assert at_once(seconds=60, workers=1, set={"label.fused": "off"}, measured=False) == 1
    assert at_once(evaluations=6, measured=False) == 1
    assert at_once(evaluations=6, measured=False, set={"label.fused": 4}) == 4
    assert at_once(seconds=60, workers=2, measured=False) == 1  # 30 s for each: too little to gain
    assert at_once(seconds=60, workers=1, each=1.0, measured=False) == 1
    assert at_once(seconds=60, workers=1, cheap={"image_size": 32}, measured=False) == 1
    with pytest.raises(SettingError, match="label.fused"):
        at_once(seconds=60, set={"label.fused": "many"})


def test_labels_that_are_trained_in_groups_are_as_many_as_fit() -> None:
    recipe = Recipe()
    plan = Plan(20, 10, 2, 10, recipe, recipe, recipe, {"label": 30.0}, seconds_per_label=2.0)
    measured = {"at_once": 16, **FusedPlan(16, 1.0, {8: 0.5, 16: 0.4}, 0).record()}
    settings = make_settings(data="x", seconds=100.0)
    grouped = with_groups(settings, plan, measured)  # 1.0 / 0.4 times as fast, of which eight tenths are left: twice
    assert (grouped.labels, grouped.confirm, grouped.seconds_per_label) == (40, 20, 1.0)
    assert grouped.seconds == plan.seconds
    assert with_groups(settings, plan, {"at_once": 1, "reason": "off"}) == plan
    assert with_groups(settings, plan, {"at_once": 4, "reason": "as given"}) == plan  # nothing was measured
    assert with_groups(make_settings(data="x", seconds=100.0, set={"plan.labels": 20}), plan, measured) == plan
    assert with_groups(make_settings(data="x", evaluations=30), plan, measured) == plan
    many = with_groups(settings, Plan(120, 60, 2, 10, recipe, recipe, recipe, {}), measured)
    assert many.labels + many.confirm == MOST_LABELS
