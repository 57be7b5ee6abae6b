"""The training estimator in groups: the same estimates, fallbacks that are seen, plans that are kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from archduel.core import Query, parse
from archduel.errors import SettingError
from archduel.estimators.training import TrainingEstimator
from archduel.fusing import judging as fused_module
from archduel.fusing.judging import FusedPlan, plan_fused
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

RECIPE = Recipe(epochs=1, batch_size=10, lr=0.02, channels=2, depth=1, image_size=8, crop_pad=1)
QUERIES = [
    Query(parse(f"nasbench201:{text}"))
    for text in ("3.2.1.4.0.3", "3.3.3.3.3.3", "0.1.0.4.2.0", "2.2.2.2.2.2")
]


def pixels(seed: int, n: int = 30) -> Pixels:
    rng = np.random.default_rng(seed)
    return Pixels(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), rng.integers(0, 3, n), (0.5,), (0.25,))


def estimator(**settings: Any) -> TrainingEstimator:
    recipes = {"cheap": RECIPE, "other": RECIPE.with_(epochs=2)}
    return TrainingEstimator(pixels(0), pixels(1), recipes, n_classes=3, run_seed=4, **settings)


def test_groups_give_the_estimates_of_one_by_one() -> None:
    alone, together = (
        estimator(curves=True).estimate(QUERIES),
        estimator(curves=True, fused=3).estimate(QUERIES),
    )
    assert [one.values.get("fused") for one in together] == [3, 3, 3, None]
    for one, other in zip(alone, together):
        assert other.values["val_loss"] == pytest.approx(one.values["val_loss"], abs=1e-4)
        assert other.values["params"] == one.values["params"]
        assert other.cost.images == one.cost.images
        assert [epoch.keys() for epoch in other.values["history"]] == [
            epoch.keys() for epoch in one.values["history"]
        ]


def test_a_group_has_one_recipe_and_numbering_goes_on() -> None:
    queries = [QUERIES[0], QUERIES[1], Query(QUERIES[2].arch, "other"), Query(QUERIES[3].arch, "other")]
    whole = estimator(fused=4)
    found = whole.estimate(queries)
    assert [one.values["fused"] for one in found] == [2, 2, 2, 2]
    assert [one.values["epochs"] for one in found] == [1, 1, 2, 2]
    part = estimator(fused=4)
    part.estimate(queries[:2])
    later = estimator(fused=4)
    later.load_state_dict(part.state_dict())
    assert [one.score for one in later.estimate(queries[2:])] == [one.score for one in found[2:]]


def test_what_cannot_be_fused_is_trained_one_by_one() -> None:
    queries = [Query(parse("resnet:0.0")), QUERIES[0]]
    found = estimator(fused=2).estimate(queries)
    assert [one.values.get("fused") for one in found] == [None, None]
    assert all(math.isfinite(one.score) for one in found)


def test_a_plan_is_made_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def plan(*arguments: Any, **settings: Any) -> FusedPlan:
        made.append(len(arguments[0]))
        return FusedPlan(2, 1.0, {2: 0.1}, 100)

    monkeypatch.setattr(fused_module, "plan_fused", plan)
    auto = estimator(fused="auto")
    found = auto.estimate(QUERIES) + auto.estimate(QUERIES[:2])
    assert len(made) == 1
    assert [one.values.get("fused") for one in found] == [2] * 6
    assert auto.state_dict() == {"ordinal": 6, "groups": {"cheap": 2}}


@pytest.mark.parametrize(
    ("alone", "groups", "tried", "k"),
    [
        (4.0, [3.0, 2.0, 1.0], {2, 4, 8}, 8),  # seconds a step and network: each doubling gains
        (4.0, [3.0, 3.1, 1.0], {2, 4, 8}, 8),  # the loss may be noise
        (4.0, [3.0, 3.2, 1.0], {2, 4}, 2),  # a loss: the next is not tried
        (4.0, [4.5, 2.0, 3.0], {2, 4, 8}, 4),
        (4.0, [5.0, 1.0, 1.0], {2}, 1),  # far behind one by one
        (4.0, [3.9, 3.8, 3.8], {2, 4, 8}, 1),  # ahead, but not by enough
    ],
)
def test_larger_groups_are_tried_while_they_do_not_lose(
    alone: float, groups: list[float], tried: set[int], k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = [estimator().network(query.arch, RECIPE, 0) for query in QUERIES]
    sizes = (2, 4, 8)
    times = iter([4 * alone] * min(4, len(networks)) + [4 * n * seconds for n, seconds in zip(sizes, groups)])
    monkeypatch.setattr(fused_module, "_seconds", lambda work, device: next(times))
    plan = plan_fused(networks, estimator().scale(RECIPE), pixels(0), RECIPE, sizes=sizes)
    assert set(plan.together) == tried
    assert plan.k == k


def test_the_plan_measures_and_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_module, "HOPELESS", math.inf)
    networks = [estimator().network(query.arch, RECIPE, 0) for query in QUERIES]
    scale = estimator().scale(RECIPE)
    plan = plan_fused(networks, scale, pixels(0), RECIPE, sizes=(2, 4))
    assert plan.k in (1, 2, 4)
    assert set(plan.together) == {2, 4}
    assert plan.alone > 0
    small = plan_fused(networks, scale, pixels(0), RECIPE, sizes=(2, 4), memory=1)
    assert set(small.together) == {2}
    assert small.record()["together"].keys() == {"2"}
    refused = plan_fused(networks, scale, pixels(0), RECIPE.with_(precision="fp16", epochs=0.1), sizes=(2,))
    assert refused.k == 1
    assert "fp16" in refused.reason


@pytest.mark.parametrize("fused", [0, "on", -3, 2.5])
def test_another_setting_is_an_error(fused: Any) -> None:
    with pytest.raises(SettingError, match="fused must be"):
        estimator(fused=fused)
