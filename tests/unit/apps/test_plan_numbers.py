"""Plans in numbers: what each share of a budget buys, worked out by hand from measurements that are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from archduel.commands.search import plan as module
from archduel.commands.search.plan import (
    SHARES,
    Plan,
    default_seconds,
    fixed_plan,
    fused_labels,
    ladder_for,
    longer_plan,
    timed_plan,
    whole_number,
    with_groups,
)
from archduel.commands.search.settings import make_settings
from archduel.errors import BudgetError, SettingError
from archduel.fusing.judging import FusedPlan
from archduel.training.recipe import Recipe

LADDER = ((8, 1), (16, 2), (32, 3), (64, 4))


def images(train: int = 1000, validation: int = 250, size: int = 32) -> Any:
    return SimpleNamespace(image_size=size, flip=True, train=range(train), validation=range(validation), test=range(250))


def settings(**given: Any) -> Any:
    return make_settings(**{"data": "x", "seconds": 1000.0, "workers": 2, "strategy": "ctnas", "final_seeds": 3, **given})


def linear(recipe: Recipe) -> float:
    """Returns seconds an image: 1 microsecond a channel and cell."""
    return 1e-6 * recipe.channels * recipe.depth


def costs(final: float, cheap: float) -> Any:
    """Returns a measurement of one size for the last stage, which is asked first, and another one of everything after it."""
    asked: list[Recipe] = []

    def measure(recipe: Recipe) -> float:
        asked.append(recipe)
        return final if len(asked) == 1 else cheap

    return measure


def numbers(plan: Plan) -> tuple[int, int, int, int]:
    return plan.labels, plan.confirm, plan.shortlist, plan.iterations


def size(recipe: Recipe) -> tuple[int, int, float]:
    return recipe.channels, recipe.depth, recipe.epochs


def test_the_usual_time_has_a_most() -> None:
    assert [default_seconds(n) for n in (0, 500, 28_000, 28_001)] == [120.0, 150.0, 1800.0, 1800.0]


@pytest.mark.parametrize(("value", "least", "good"), [(3, 3, True), (2, 3, False), (3.0, 1, True), (3.5, 1, False), (True, 0, False), ("3", 1, False), (None, 1, False)])
def test_whole_numbers(value: Any, least: int, good: bool) -> None:
    if good:
        assert whole_number("x", value, least) == int(value)
        assert type(whole_number("x", value, least)) is int
        return
    with pytest.raises(SettingError, match=f"--set x: expected a whole number of at least {least}"):
        whole_number("x", value, least)


def test_ladders_given_and_of_spaces() -> None:
    usual = ladder_for(settings(space="nasbench201"))
    assert len(usual) > 3
    assert ladder_for(settings(space="nasbench201", set={"plan.channels": 10})) == ((10, usual[-1][1]),)
    assert ladder_for(settings(space="nasbench201", set={"plan.depth": 2})) == ((usual[-1][0], 2),)
    assert ladder_for(settings(space="nasbench201", set={"plan.channels": 10, "plan.depth": 2})) == ((10, 2),)
    with pytest.raises(SettingError, match="plan.depth: expected a whole number of at least 1"):
        ladder_for(settings(space="nasbench201", set={"plan.depth": 0}))


def test_the_ladder_of_cheap_recipes() -> None:
    assert module._cheap_ladder(32, 6, 1) == [
        (32, 6, 12, 1.0), (32, 3, 12, 1.0), (16, 3, 12, 1.0), (16, 3, 6, 1.0), (16, 2, 4, 1.0), (16, 2, 4, 0.5), (8, 2, 4, 0.5), (8, 2, 2, 0.5), (8, 2, 2, 0.2),
    ]  # fmt: skip
    assert {entry[:2] for entry in module._cheap_ladder(4, 1, 1)} == {(4, 1)}
    assert [entry[1] for entry in module._cheap_ladder(32, 14, 3)] == [14, 7, 7, 7, 4, 4, 4, 4, 4]
    assert [entry[1] for entry in module._cheap_ladder(32, 5, 3)] == [5, 3, 3, 3, 3, 3, 3, 3, 3]


def test_a_plan_in_numbers() -> None:
    plan = timed_plan(settings(), images(), LADDER, linear)
    # 38 % of 2,000 core seconds for 9 trainings of 1,250 images: 84.4 s; the largest network takes 0.32 s an epoch
    assert size(plan.final) == (64, 4, 120.0)
    assert plan.seconds == {name: share * 1000 for name, share in SHARES.items()}
    # 660 s for labels: the first cheap recipe takes 12 x 0.256 = 3.07 s, so that 214 fit, of which 200 are made
    assert size(plan.label) == (64, 4, 12)
    assert plan.seconds_per_label == pytest.approx(12 * 1000 * linear(plan.label))
    assert numbers(plan) == (134, 66, 5, 500)
    # 280 s for two lists of five: 28 s each, 0.256 an epoch
    assert size(plan.reevaluate) == (64, 4, 109.0)
    assert plan.seconds_per_epoch == pytest.approx(0.256)


def test_a_smaller_network_is_taken_where_the_larger_one_has_under_twenty_epochs() -> None:
    per_training = 0.38 * 2000 / 9  # seconds
    for epochs, expected in ((20.0, (16, 2)), (19.9, (8, 1))):
        each = per_training / 1250 / epochs
        plan = timed_plan(settings(), images(), LADDER[:2], lambda recipe, each=each * 0.9999: each if recipe.channels == 16 else each / 50)
        assert size(plan.final)[:2] == expected
    few = timed_plan(settings(), images(), LADDER[:1], costs(per_training / 1250 / 10.01, 1e-6))
    assert size(few.final) == (8, 1, 10.0)  # the smallest one, however few


def test_too_few_final_epochs_are_refused_with_what_would_do() -> None:
    per_training = 0.38 * 2000 / 9
    assert timed_plan(settings(), images(), LADDER[:1], costs(per_training / 1250 / 3.01, 1e-6)).final.epochs == 3.0
    with pytest.raises(BudgetError, match=r"--time 1000 s is too short: the smallest final networks would be trained for only 2.0 epochs of 1,250 images; give about 1500 s, a smaller") as caught:
        timed_plan(settings(), images(), LADDER[:1], lambda recipe: per_training / 1250 / 2)
    assert caught.value.needed == pytest.approx(1500)


def test_too_few_labels_are_refused_with_what_would_do() -> None:
    with pytest.raises(BudgetError, match=r"only 7 cheap trainings of 94.3 s fit, at least 8 are needed; give about 1143 s$") as caught:
        timed_plan(settings(), images(), ((8, 1),), costs(1e-6, 660 / (2 * 0.2 * 1000) / 7.001))
    assert caught.value.needed == pytest.approx(1000 * 8 / 7)
    with pytest.raises(BudgetError, match=r"only 0 cheap trainings") as caught:
        timed_plan(settings(), images(), ((8, 1),), costs(1e-6, 1e3))
    assert caught.value.needed == pytest.approx(1000 * 8 / 0.2)


def test_labels_that_just_fit_are_made() -> None:
    each = 660 / (2 * 0.2 * 1000) / 8.001
    plan = timed_plan(settings(), images(), ((8, 1),), costs(1e-6, each))
    assert (plan.labels, plan.confirm, plan.shortlist) == (6, 2, 3)
    assert (plan.label.epochs, plan.label.data_fraction) == (2, 0.2)


@pytest.mark.parametrize(("fit", "epochs"), [(40.001, 12), (39.9, 6)])
def test_forty_labels_are_enough_for_the_more_trustworthy_recipe(fit: float, epochs: int) -> None:
    each = 660 / (12 * 1000) / fit
    plan = timed_plan(settings(), images(), ((8, 1),), costs(1e-6, each))
    assert plan.label.epochs == epochs


def test_each_width_is_measured_once() -> None:
    measured: list[tuple[int, int]] = []

    def cost(recipe: Recipe) -> float:
        """Returns a cost of labels with which the last of the cheap recipes is needed."""
        measured.append((recipe.channels, recipe.depth))
        return 5e-3 if len(measured) > 1 else 1e-6

    timed_plan(settings(), images(), ((32, 6),), cost)
    assert measured == [(32, 6), (32, 6), (32, 3), (16, 3), (16, 2), (8, 2)][: len(measured)]
    assert len(measured) > 3


@pytest.mark.parametrize(
    ("changes", "labels"),
    [({}, 200), ({"evaluations": 12}, 12), ({"evaluations": 500}, 200)],
)
def test_labels_have_a_most(changes: dict[str, Any], labels: int) -> None:
    plan = timed_plan(settings(**changes), images(), LADDER, linear)
    assert plan.labels + plan.confirm == labels
    assert plan.confirm == max(2, labels // 3)


@pytest.mark.parametrize(("evaluations", "shortlist", "confirm"), [(29, 3, 9), (30, 5, 10), (4, 3, 2), (5, 3, 2)])
def test_short_lists_and_proposals_by_the_number_of_labels(evaluations: int, shortlist: int, confirm: int) -> None:
    plan = timed_plan(settings(evaluations=evaluations), images(), LADDER, linear)
    assert (plan.shortlist, plan.confirm, plan.labels) == (shortlist, confirm, evaluations - confirm)


@pytest.mark.parametrize(("seconds", "iterations"), [(599.0, 200), (600.0, 500), (3599.0, 500), (3600.0, 1000)])
def test_steps_of_a_comparator_by_the_time(seconds: float, iterations: int) -> None:
    assert timed_plan(settings(seconds=seconds), images(), LADDER, linear).iterations == iterations


def test_without_baselines_there_is_one_network_and_one_list() -> None:
    each = 0.38 * 2000 / 3 / 1250 / 30  # 30 epochs of the one network
    plan = timed_plan(settings(baselines=False), images(), ((8, 1),), lambda recipe: each)
    assert plan.final.epochs == 30.0
    # 280 s for one list: networks of three or five, epochs of 1,000 images
    assert plan.reevaluate.epochs == min(30.0, 280 / plan.shortlist // (1000 * each))


def test_a_strategy_that_does_not_begin_at_random_leaves_random_search_its_share() -> None:
    each = 660 / (12 * 1000) / 100
    found = {}
    for strategy, baselines in (("ctnas", True), ("evolution", True), ("evolution", False)):
        plan = timed_plan(
            settings(strategy=strategy, baselines=baselines), images(), ((8, 1),), lambda recipe: 1e-6 if recipe.epochs > 12 else each
        )
        found[strategy, baselines] = plan.labels + plan.confirm
    assert found == {("ctnas", True): 100, ("evolution", True): 60, ("evolution", False): 100} or found["evolution", True] in (59, 60)


def test_a_re_evaluation_has_two_epochs_at_least_and_no_more_than_the_end() -> None:
    slow = timed_plan(settings(), images(), ((8, 1),), costs(0.0168, 1e-4))
    assert slow.final.epochs == 4.0
    assert slow.reevaluate.epochs == 2.0


def test_a_time_of_its_own_is_raised_to_a_third_more_than_would_do() -> None:
    per_training = 0.38 * 2000 / 9
    found, plan = longer_plan(settings(), images(), ((4, 1),), lambda recipe: per_training / 1250 / 2)
    needed = found.seconds / 1.3  # once or more often: the second time for labels
    assert found.seconds == pytest.approx(1.3 * 1500) or needed > 1500
    assert plan == timed_plan(found, images(), ((4, 1),), lambda recipe: per_training / 1250 / 2)
    with pytest.raises(BudgetError):
        longer_plan(settings(), images(), LADDER[:1], _nothing_helps)


def _nothing_helps(recipe: Recipe) -> float:
    raise BudgetError("whatever the time", None)


def test_a_fixed_plan_in_numbers() -> None:
    fixed = fixed_plan(settings(seconds=None, evaluations=30), images(), LADDER)
    assert numbers(fixed) == (20, 10, 4, 100)
    assert (size(fixed.label), size(fixed.reevaluate), size(fixed.final)) == ((32, 2, 4), (64, 4, 8), (64, 4, 16))
    assert fixed.seconds == {}
    assert (fixed.seconds_per_label, fixed.seconds_per_epoch) == (0.0, 0.0)
    small = fixed_plan(settings(seconds=None, evaluations=4), images(size=16), LADDER)
    assert numbers(small) == (2, 2, 1, 100)
    assert size(small.final)[:2] == (32, 3)
    assert fixed_plan(settings(seconds=None, evaluations=30), images(size=17), LADDER).final.channels == 64
    assert size(fixed_plan(settings(seconds=None, evaluations=30), images(), LADDER[:2]).final)[:2] == (16, 2)
    assert size(fixed_plan(settings(seconds=None, evaluations=12), images(), ((4, 1),)).label) == (4, 1, 4)
    assert numbers(fixed_plan(settings(seconds=None, evaluations=12), images(), LADDER)) == (8, 4, 2, 100)


def test_numbers_and_recipes_that_are_given_stay() -> None:
    given = {"plan.labels": 7, "plan.confirm": 3, "plan.shortlist": 2, "plan.iterations": 9, "plan.channels": 12, "plan.depth": 2, "label.epochs": 3, "final.lr": 0.5, "label.fused": 4}
    fixed = fixed_plan(settings(seconds=None, evaluations=30, set=given), images(), LADDER)
    assert numbers(fixed) == (7, 3, 2, 9)
    assert (size(fixed.label), size(fixed.final), fixed.final.lr) == ((6, 1, 3), (12, 2, 16), 0.5)
    named = fixed_plan(settings(seconds=None, evaluations=30, set={"final.recipe": "bpe1", "final.epochs": 5}), images(), LADDER)
    assert named.final.epochs == 5
    assert named.final.lr != fixed.final.lr
    for wrong, message in (({"plan.label": 3}, "--set plan.label: the plan has confirm, iterations, labels, shortlist, channels, depth"),
                           ({"label.fuse": 3}, "--set label.fuse: a recipe has no such setting; it has recipe, "),
                           ({"final.fused": 3}, "--set final.fused: a recipe has no such setting")):  # fmt: skip
        with pytest.raises(SettingError, match=message):
            fixed_plan(settings(seconds=None, evaluations=30, set=wrong), images(), LADDER)


# -- Groups -------------------------------------------------------------------------------------------------------------


def fused(labels: int = 20, confirm: int = 10, each: float = 2.0, channels: int = 8, pixels: int = 8, **given: Any) -> dict[str, Any]:
    recipe = Recipe(channels=channels, depth=1, image_size=pixels)
    plan = Plan(labels, confirm, 2, 10, recipe, recipe, recipe, {}, seconds_per_label=each)
    return fused_labels(settings(**{"workers": 1, "seconds": 60.0, **given}), plan, lambda: FusedPlan(16, 1.0, {8: 0.5, 16: 0.4}, 0))


def test_why_groups_are_measured_or_not() -> None:
    assert fused() == {"at_once": 16, **FusedPlan(16, 1.0, {8: 0.5, 16: 0.4}, 0).record()}
    assert fused(each=40 / 30)["at_once"] == 16  # forty seconds of trainings are enough
    assert fused(each=39.9 / 30) == {"at_once": 1, "reason": "the trainings take too little time to measure anything first"}
    assert fused(labels=15, confirm=5, each=2.0)["at_once"] == 16
    assert fused(workers=2, each=2.6)["at_once"] == 1
    assert fused(workers=2, each=2.7)["at_once"] == 16
    assert fused(channels=16, pixels=8)["at_once"] == 16
    assert fused(channels=16, pixels=9) == {"at_once": 1, "reason": "channels times pixels of a side are more than 128: a group gains little"}
    assert fused(channels=16, pixels=9, device="cuda")["at_once"] == 16
    assert fused(set={"label.fused": "off"}) == {"at_once": 1, "reason": "off"}
    assert fused(set={"label.fused": 3}) == {"at_once": 3, "reason": "as given"}
    assert fused(seconds=None, evaluations=9)["reason"] == "a run that repeats exactly measures no time"
    with pytest.raises(SettingError, match="label.fused: expected a whole number of at least 1, got 0"):
        fused(set={"label.fused": 0})


def grouped(labels: int, confirm: int, gain: float, **given: Any) -> tuple[int, int, float]:
    plan = Plan(labels, confirm, 2, 10, Recipe(), Recipe(), Recipe(), {}, seconds_per_label=2.0)
    more = with_groups(settings(**given), plan, {"at_once": 2, "alone": 1.0, "together": {"2": 1 / gain}})
    return more.labels, more.confirm, more.seconds_per_label


def test_labels_in_groups_in_numbers() -> None:
    assert grouped(20, 10, 2.5) == (40, 20, pytest.approx(1.0))
    assert grouped(20, 10, 1.1) == (20, 10, pytest.approx(2.0))  # eight tenths of it are no gain
    assert grouped(20, 10, 0.5) == (20, 10, pytest.approx(2.0))
    assert grouped(20, 10, 2.5, evaluations=45) == (30, 15, pytest.approx(1.0))
    assert grouped(20, 19, 1.3) == (21, 19, pytest.approx(2.0 / 1.04))
    assert grouped(250, 50, 2.5) == (200, 100, pytest.approx(1.0))  # never fewer than without
    plan = Plan(20, 10, 2, 10, Recipe(), Recipe(), Recipe(), {}, seconds_per_label=2.0)
    measured = {"at_once": 2, "alone": 1.0, "together": {"2": 0.4}}
    assert with_groups(settings(set={"plan.confirm": 4}), plan, measured) is plan
    assert with_groups(settings(set={"plan.shortlist": 4}), plan, measured).labels == 40
    assert with_groups(settings(), plan, {**measured, "at_once": 1}) is plan


def test_a_plan_is_written_and_read() -> None:
    plan = timed_plan(settings(), images(), LADDER, linear)
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json({**plan.to_json(), "of a later version": 3}) == plan
