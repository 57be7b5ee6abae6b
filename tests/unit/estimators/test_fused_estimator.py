"""The training estimator in groups: the same estimates, fallbacks that are seen, plans that are kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from archduel.core import Query, parse
from archduel.errors import SettingError
from archduel.estimators.training import TrainingEstimator
from archduel.fusing import judging as fused_module
from archduel.fusing.judging import FusedPlan, plan_fused
from archduel.fusing.memory import free_memory, room
from archduel.fusing.networks import Fused
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


SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes. Error code 12"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SHORT, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["fuse", "train_fused", "evaluate_fused"])
def test_a_group_that_does_not_fit_into_memory_is_halved_and_the_state_knows_it(where: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = getattr(fused_module, where), []

    def too_large(group: Any, *given: Any, **more: Any) -> Any:
        sizes.append(n := len(group.networks if isinstance(group, Fused) else group))
        if n > 2:
            raise error
        return real(group, *given, **more)

    monkeypatch.setattr(fused_module, where, too_large)
    made = estimator(fused=4)
    found = made.estimate(QUERIES)
    assert [one.values["fused"] for one in found] == [2, 2, 2, 2]
    assert sizes[:2] == [4, 2]
    assert made.state_dict() == {"ordinal": 4, "groups": {"cheap": 2}}
    sizes.clear()
    later = estimator(fused=4)
    later.load_state_dict(made.state_dict())
    assert [one.values["fused"] for one in later.estimate(QUERIES)] == [2, 2, 2, 2]
    assert 4 not in sizes
    monkeypatch.undo()
    for one, other in zip(found, estimator().estimate(QUERIES)):  # the same networks as one by one
        assert other.values["val_loss"] == pytest.approx(one.values["val_loss"], abs=1e-4)


def test_a_disk_that_is_full_halves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fused_module, "train_fused", full)
    made = estimator(fused=4)
    with pytest.raises(OSError, match="No space left"):
        made.estimate(QUERIES)
    assert made.state_dict() == {"ordinal": 0, "groups": {}}


@pytest.mark.parametrize(
    ("device", "free", "sharing", "bytes_"),
    [
        ("cpu", 16 << 30, 2, 2 << 30),  # as many as ever on a machine with memory
        ("cpu", 2 << 30, 2, 512 << 20),
        ("cpu", None, 4, 2 << 30),
        ("cuda", 80 << 30, 1, 40 << 30),
        ("cuda", 8 << 30, 2, 2 << 30),
        ("cuda", None, 1, 2 << 30),
    ],
)
def test_a_group_may_take_half_of_what_its_device_has_free(device: str, free: int | None, sharing: int, bytes_: int) -> None:
    assert room(torch.device(device), free, sharing) == bytes_


def test_a_plan_asks_how_much_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory(torch.device("cpu")) is None or free_memory(torch.device("cpu")) > 0
    monkeypatch.setattr(fused_module, "HOPELESS", math.inf)
    monkeypatch.setattr(fused_module, "GAIN", 0.0)
    networks = [estimator().network(query.arch, RECIPE, 0) for query in QUERIES]
    for free, tried, k in ((None, {2, 4}, {2, 4}), (1 << 10, {2}, {1})):
        monkeypatch.setattr(fused_module, "free_memory", lambda device, free=free: free)
        plan = plan_fused(networks, estimator().scale(RECIPE), pixels(0), RECIPE, sizes=(2, 4))
        assert set(plan.together) == tried
        assert plan.k in k
    assert "2 networks take" in plan.reason


@pytest.mark.parametrize("fused", [0, "on", -3, 2.5])
def test_another_setting_is_an_error(fused: Any) -> None:
    with pytest.raises(SettingError, match="fused must be"):
        estimator(fused=fused)
