"""What fits into a one-shot stage: costs near what is allowed, the user's settings kept, ends of the scale."""

from __future__ import annotations

from typing import Any

import pytest

from archduel.commands.search.one_shot import (
    OneShotPlan,
    counted_prices,
    fitted,
    supernet_options,
    supernet_recipe,
)
from archduel.commands.search.words import ranking_sentence
from archduel.core import Prices
from archduel.errors import SettingError, UnknownNameError
from archduel.spaces.darts.space import DARTS
from archduel.spaces.nasbench201.space import NASBench201
from archduel.strategies.one_shot import group_size
from archduel.training.recipe import Recipe

PRICES = Prices(learn=0.01, reward=0.008, score=0.05, mix=0.06)
N = 20
RECIPE = Recipe(channels=8, depth=1, image_size=8)


def cost(strategy: str, s: dict[str, Any], stages: int) -> float:
    """Returns the seconds of settings ``s``, by what the strategies do."""
    if strategy == "cnas":
        learned = stages * (s["warmup_epochs"] + s["stage_epochs"]) * s["batches"]
        judged = stages * s["candidates"] * PRICES.score
        return learned * PRICES.learn + stages * s["stage_epochs"] * s["batches"] * PRICES.reward + judged
    if strategy == "relativenas":
        return s["population"] * (s["generations"] * (s["batches"] * PRICES.learn + PRICES.score) + PRICES.score)
    if strategy in ("darts", "gdas"):
        return s["epochs"] * s["batches"] * PRICES.mix + 5 * PRICES.score
    scores = s["labels"] if strategy == "ctnas_oneshot" else s["population"] + s["generations"] * (s["crossovers"] + s["mutants"])
    return s["epochs"] * s["batches"] * PRICES.learn + scores * PRICES.score


@pytest.mark.parametrize("strategy", ["cnas", "relativenas", "darts", "gdas", "spos", "ctnas_oneshot"])
@pytest.mark.parametrize("allowed", [30.0, 60.0, 120.0])
def test_a_plan_costs_about_what_is_allowed(strategy: str, allowed: float) -> None:
    plan = fitted(strategy, NASBench201(), allowed, PRICES, N, RECIPE, {})
    most = {"relativenas": 20 * 50 * (N * PRICES.learn + PRICES.score), "darts": 50 * N * PRICES.mix}.get(strategy, allowed)
    paid = cost(strategy, plan.settings, 5)
    assert 0.6 * min(allowed, most) < paid < 1.15 * allowed + (5 if strategy == "ctnas_oneshot" else 0)
    assert plan.recipe.epochs * N == pytest.approx(plan.batches)
    assert OneShotPlan.from_json(plan.to_json()) == plan


def test_counted_prices_charge_what_runs() -> None:
    def mix(strategy: str, **given: Any) -> float:
        return counted_prices(strategy, given, n_validation=10, n_options=5).mix

    assert mix("gdas") == 2  # a training batch and a validation batch, one operation an edge each
    assert mix("darts", order=1) == 2.5 * mix("gdas")  # all operations, some of which cost nothing
    assert mix("darts") == mix("darts", order=1)  # its drawn mixture is of first order, as published
    assert mix("darts", variant="judged") == mix("darts", order=2) == 2.5 * mix("darts", order=1)  # three more passes

    def updates(strategy: str, **given: Any) -> int:
        prices = counted_prices(strategy, given, n_validation=10, n_options=5)
        return fitted(strategy, NASBench201(), 5000, prices, 200, RECIPE, given).batches

    assert updates("gdas") == pytest.approx(2.5 * updates("darts", order=1), rel=0.1)


def test_settings_of_the_user_stay() -> None:
    plan = fitted("spos", NASBench201(), 60, PRICES, N, RECIPE, {"population": 7, "epochs": 3})
    assert (plan.settings["population"], plan.settings["epochs"]) == (7, 3)
    assert plan.batches == 3 * N == plan.recipe.epochs * N  # the schedule is as long as what is learned
    assert fitted("cnas", NASBench201(), 30, PRICES, N, RECIPE, {"warmup_epochs": 0, "stage_epochs": 2, "batches": 3}).batches == 30
    short = fitted("cnas", NASBench201(), 30, PRICES, N, RECIPE, {"order": ["nor_conv_3x3", "none"]})
    assert cost("cnas", short.settings, 2) == pytest.approx(30, rel=0.4)


def test_relativenas_spends_its_time_on_training_and_adds_learners_only_then() -> None:
    prices = counted_prices("relativenas", {}, n_validation=16, n_options=5)
    small = fitted("relativenas", NASBench201(), 1_200, prices, 60, RECIPE, {})
    assert small.settings == {"population": 6, "generations": 5, "batches": 29}
    assert small.batches > 0.7 * 1_200
    for work, population in ((300, 4), (5_000, 10), (20_000, 20), (200_000, 20)):
        plan = fitted("relativenas", NASBench201(), work, prices, 60, RECIPE, {})
        assert plan.settings["population"] == population
        assert plan.batches > 0.55 * min(work, 20 * 50 * 68.4), work
    assert fitted("relativenas", NASBench201(), 1e6, prices, 60, RECIPE, {}).settings == {"population": 20, "generations": 50, "batches": 60}


def test_few_updates_may_go_far_and_many_as_in_the_paper() -> None:
    assert fitted("darts", NASBench201(), 1e5, PRICES, 4000, RECIPE, {}).settings["lr"] == 3e-4
    assert fitted("darts", NASBench201(), 10, PRICES, N, RECIPE, {}).settings["lr"] == pytest.approx(0.035, abs=0.005)
    assert fitted("cnas", NASBench201(), 10, PRICES, N, RECIPE, {}).settings["lr"] == 3e-3


def test_a_fair_batch_is_paid_for_by_the_group() -> None:
    assert group_size(NASBench201()) == 5
    assert group_size(DARTS()) == 7
    uniform, fair = (fitted("spos", NASBench201(), 60, PRICES, N, RECIPE, {"sampling": s}).batches for s in ("uniform", "fair"))
    assert fair == pytest.approx(uniform / 5, rel=0.2)


def test_the_supernet_recipe_takes_settings_and_published_recipes() -> None:
    recipe = supernet_recipe(RECIPE.with_(label_smoothing=0.1, lr=0.1), "spos", {"channels": 4})
    assert (recipe.channels, recipe.label_smoothing, recipe.schedule) == (4, 0.0, "cosine")
    bpe = supernet_recipe(RECIPE, "darts", {"recipe": "bpe1"})
    assert (bpe.channels, bpe.depth, bpe.lr, bpe.drop_path, bpe.auxiliary_weight) == (8, 6, 0.03, 0.0, 0.0)
    assert bpe.image_size == 8
    for wrong in ({"recipe": "bpe9"}, {"rate": 1}):
        with pytest.raises((SettingError, UnknownNameError)):
            supernet_recipe(RECIPE, "darts", wrong)


def test_the_sentence_about_ranking_says_chance_where_the_interval_spans_it() -> None:
    def said(tau: float | None, low: float | None, high: float | None) -> str:
        return ranking_sentence({"agreement": [{"first": "shared weights", "second": "label", "tau": tau, "low": low, "high": high, "n": 9}]})

    assert "better than chance" in said(0.7, 0.3, 0.9)
    assert "may rank cells at random" in said(0.3, -0.1, 0.6)
    assert "may rank cells at random" in said(0.3, None, None)
    assert "not known" in said(None, None, None)
    assert ranking_sentence({"agreement": []}) == ""


def test_options_of_the_supernet_are_told_from_settings_of_its_recipe() -> None:
    given = {"lr": 0.1, "residual": True, "recipe": "bpe1"}
    assert supernet_options("nasbench201", given) == {"residual": True}
    assert supernet_options("darts", {"lean": True, "residual": True}) == {"lean": True}
    assert supernet_options("mobilenetv3", {"dropout": 0}) == {"dropout": 0}
    for space, wrong in (("nasbench201", {"residual": "maybe"}), ("nasbench201", {"affine": 1}), ("mobilenetv3", {"dropout": True})):
        with pytest.raises(SettingError, match="expected a value like"):
            supernet_options(space, wrong)
