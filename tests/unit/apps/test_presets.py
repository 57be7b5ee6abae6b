"""A preset plans what its paper says: each value of the papers' tables against what a run would use, and against what it would build."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import archduel
from archduel.commands import published
from archduel.commands.search.one_shot import (
    OF_THE_WEIGHTS,
    counted_prices,
    fitted,
    supernet_options,
    supernet_recipe,
)
from archduel.commands.search.paper import introduce
from archduel.commands.search.plan import Plan, fixed_plan, ladder_for
from archduel.commands.search.settings import Settings, load_arguments, make_settings
from archduel.commands.search.strategy import check_settings, make_strategy
from archduel.data.dataset import make_splits
from archduel.errors import SettingError, UnknownNameError
from archduel.presets import names, open_preset
from archduel.recipes import fitted as fitted_recipe
from archduel.recipes import read
from archduel.spaces.darts.space import DARTS
from archduel.spaces.lookup import open_space
from archduel.testing.toy import ToyShared

SEARCHES = [name for name in names() if open_preset(name).command == "search"]

PAPER: dict[str, dict[str, dict[str, Any]]] = {
    # CNAS, ICML 2020, sections 3 and 4; search.py
    "cnas": {
        "images": {"train": 20_000, "validation": 30_000},
        "strategy": {
            "grow": "operations", "warmup_epochs": 20, "stage_epochs": 40, "batches": 0, "batch": 1, "lr": 3e-4, "weight_decay": 5e-4,
            "grad_clip": 5.0, "entropy": 0.005, "momentum": 0.99, "uniform": False, "candidates": 10,
        },
        "supernet": {
            "channels": 16, "depth": 8, "image_size": 32, "batch_size": 96, "lr": 0.01, "schedule": "constant", "momentum": 0.9, "nesterov": True,
            "weight_decay": 3e-4, "grad_clip": 0.0, "cutout": 0, "crop_pad": 4, "flip": True, "drop_path": 0.0, "label_smoothing": 0.0,
        },
        "weights": {"affine": False, "pool_norm": True},
        "final": {"epochs": 600, "channels": 36, "depth": 20, "batch_size": 96, "lr": 0.025, "lr_min": 0.001, "cutout": 16, "drop_path": 0.2},
    },
    # RelativeNAS, TNNLS 2021; train_search.py
    "relativenas": {
        "images": {"train": 25_000, "validation": 25_000},
        "strategy": {"population": 20, "generations": 50, "batches": 0, "lr": 0.1, "lr_min": 0.001, "drop_path": 0.3},
        "supernet": {
            "channels": 16, "depth": 8, "image_size": 32, "batch_size": 256, "momentum": 0.9, "nesterov": False, "weight_decay": 3e-4,
            "grad_clip": 5.0, "cutout": 16, "crop_pad": 4, "flip": True,
        },
        "weights": {"affine": True, "pool_norm": False, "running_races": True},
        "final": {"epochs": 600, "channels": 36, "depth": 20, "batch_size": 128, "lr": 0.025, "lr_min": 0.0, "cutout": 16, "drop_path": 0.3},
    },
    # CTNAS, CVPR 2021, section 4 and supplement
    "ctnas-darts": {
        "images": {"train": 25_000, "validation": 25_000},
        "strategy": {
            "epochs": 120, "batches": 0, "sampling": "uniform", "average": 10, "labels": 1_000, "iterations": 10_000, "batch": 1, "lr": 2e-4,
            "weight_decay": 5e-4, "entropy": 5e-4, "centre": False, "baseline": "curriculum", "baseline_every": 1_000, "samples": 512,
            "keep": 256, "candidates": 0,
        },
        "supernet": {"batch_size": 96, "lr": 0.01},
        "weights": {},
        "final": {
            "epochs": 600, "channels": 44, "depth": 18, "batch_size": 96, "lr": 0.025, "lr_min": 0.001, "cutout": 16, "drop_path": 0.2,
            "auxiliary_weight": 0.4,
        },
    },
    "ctnas-mobile": {
        "images": {"train": 1_271_167, "validation": 10_000},
        "strategy": {
            "sampling": "uniform", "labels": 1_000, "iterations": 10_000, "batch": 1, "lr": 2e-4, "weight_decay": 5e-4, "entropy": 5e-4,
            "baseline_every": 1_000, "samples": 512, "keep": 256, "candidates": 0,
        },
        "supernet": {"channels": 16, "image_size": 224},
        "weights": {},
        "final": {"image_size": 224, "channels": 16},
    },
}  # fmt: skip
"""Preset -> what the paper and the released code say, section by section."""


def split(n: int, test: int, classes: int, share: float) -> dict[str, int]:
    """Returns the sizes of the splits of a set whose test images are given."""
    labels = np.arange(n + test) % classes
    given = np.where(np.arange(n + test) < n, 0, 2).astype(np.int8)
    found = make_splits(labels, given, [str(i) for i in range(classes)], seed=0, validation=share)
    return {"train": int((found == 0).sum()), "validation": int((found == 1).sum())}


def planned(name: str, **changes: Any) -> tuple[Settings, Plan, Any]:
    """Returns settings, plan and the plan of the shared weights for the paper's data, without any images."""
    settings = make_settings(data="cifar10", preset=name, **changes)
    check_settings(settings)
    size, sizes = (224, PAPER[name]["images"]) if name == "ctnas-mobile" else (32, PAPER[name]["images"])
    dataset: Any = SimpleNamespace(image_size=size, flip=True, **{part: range(n) for part, n in sizes.items()})
    plan = fixed_plan(settings, dataset, ladder_for(settings))
    space = open_space(settings.space, **settings.section("space"))
    changed, given = settings.section("supernet"), settings.section("strategy")
    options = supernet_options(space.name, changed)
    recipe = supernet_recipe(
        plan.label, settings.strategy, {k: v for k, v in changed.items() if k not in options and k not in OF_THE_WEIGHTS}, settings.space
    )
    n = -(-len(dataset.train) // recipe.batch_size)
    prices = counted_prices(settings.strategy, given, n_validation=10, n_options=8)
    return settings, plan, fitted(settings.strategy, space, 1.0, prices, n, recipe, given)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_preset_plans_what_the_paper_says(name: str) -> None:
    paper = PAPER[name]
    settings, plan, one_shot = planned(name)
    assert {key: one_shot.settings[key] for key in paper["strategy"]} == paper["strategy"]
    assert {key: getattr(one_shot.recipe, key) for key in paper["supernet"]} == paper["supernet"]
    assert {key: settings.section("supernet")[key] for key in paper["weights"]} == paper["weights"]
    assert {key: getattr(plan.final, key) for key in paper["final"]} == paper["final"]
    assert plan.shortlist == 1
    assert (settings.baselines, settings.seconds, settings.race) == (False, None, None)
    assert set(open_preset(name).set["strategy"]) <= set(one_shot.settings)
    assert not set(one_shot.settings) - set(open_preset(name).set["strategy"])  # nothing is left to a plan of ours


@pytest.mark.parametrize("name", [name for name in SEARCHES if name != "ctnas-mobile"])
def test_the_split_is_the_paper_s(name: str) -> None:
    settings = make_settings(data="cifar10", preset=name)
    share = load_arguments(settings)["validation"]
    assert split(50_000, 10_000, 10, share) == PAPER[name]["images"]


def test_ctnas_mobile_holds_ten_thousand_images_out_of_imagenet() -> None:
    """As many images, classes and classes of 1,300 as ImageNet has; how many the smaller classes have is made up between 941 and 1,300."""
    smaller = np.linspace(941, 1_300, 105).astype(int)
    smaller[0] += 1_281_167 - 895 * 1_300 - smaller.sum()
    labels = np.repeat(np.arange(1_000), np.concatenate([smaller, np.full(895, 1_300)]))
    labels = np.concatenate([labels, np.repeat(np.arange(1_000), 50)])
    given = np.where(np.arange(len(labels)) < 1_281_167, 0, 2).astype(np.int8)
    share = load_arguments(make_settings(data="x", preset="ctnas-mobile"))["validation"]
    found = make_splits(labels, given, [str(i) for i in range(1_000)], seed=0, validation=share)
    assert {"train": int((found == 0).sum()), "validation": int((found == 1).sum())} == PAPER["ctnas-mobile"]["images"]
    held_out = np.bincount(labels[found == 1], minlength=1_000)
    assert (held_out.min(), held_out.max()) == (8, 11)


def test_epochs_and_batches_come_to_what_the_papers_count() -> None:
    batches = {name: planned(name)[2].batches for name in ("cnas", "relativenas", "ctnas-darts")}
    assert batches["cnas"] == 480 * 209  # 8 stages of 20 + 40 epochs of 20,000 images in batches of 96
    assert batches["relativenas"] == 1_000 * 98  # 20 x 50 trainings of an epoch of 25,000 images in batches of 256
    assert planned("ctnas-darts")[2].recipe.epochs == 120


def strategy_of(name: str) -> Any:
    settings, plan, one_shot = planned(name)
    space = open_space(settings.space, **settings.section("space"))
    return make_strategy(
        settings, plan, space, None, costs=lambda archs: np.zeros((len(archs), 2)), shared=ToyShared(), numbers=one_shot.settings
    )  # fmt: skip


def test_the_controllers_and_optimizers_are_the_papers() -> None:
    cnas = strategy_of("cnas")
    assert isinstance(cnas.space, DARTS)
    assert (len(cnas.space.ops), cnas.space.doubled, "none" in cnas.space.ops) == (8, True, True)
    assert cnas.policy.lstm.hidden_size == 128
    group = cnas.optimizer.param_groups[0]
    assert (type(cnas.optimizer), group["lr"], group["weight_decay"]) == (torch.optim.Adam, 3e-4, 5e-4)
    cnas._begin()
    assert len(cnas.stages) == 8
    assert all(strategy_of(name).closing.judged_by == "score" for name in ("cnas", "relativenas", "ctnas-darts", "ctnas-mobile"))
    assert cnas.space.words("op")[cnas.order[0]] == "sep_conv_3x3"
    relative = strategy_of("relativenas")
    assert (len(relative.space.ops), relative.space.doubled) == (7, True)
    assert relative.coding.upper.tolist() == [2, 7, 2, 7, 3, 7, 3, 7, 4, 7, 4, 7, 5, 7, 5, 7] * 2
    for name in ("ctnas-darts", "ctnas-mobile"):
        ctnas = strategy_of(name).search
        assert ctnas.policy.lstm.hidden_size == 64
        group = ctnas.optimizer.param_groups[0]
        assert (group["lr"], group["weight_decay"], group["betas"]) == (2e-4, 5e-4, (0.5, 0.999))
        nac = ctnas.ranker
        assert (nac.epochs, nac.lr, nac.weight_decay, nac.batch_size, nac.pseudo_ratio) == (1_000, 2e-4, 5e-4, 256, 0.5)
        assert (nac.antisymmetric, nac.pairing, nac.embedding_dim, nac.layers) == (False, "permutation", 128, 4)
        assert (ctnas.entropy, ctnas.variant, ctnas.baseline, ctnas.explore_every) == (5e-4, "paper", "curriculum", 100)
    assert strategy_of("ctnas-darts").average == 10
    assert make_settings(data="x", preset="ctnas-mobile").max_macs == 600_000_000


BPE: dict[str, dict[str, Any]] = {
    "bpe-rl": {"method": "rl", "steps": 100, "changes": {"strategy.lr": 0.1, "strategy.momentum": 0.9}},
    "bpe-ea": {"method": "ea", "steps": 100, "masks": 10, "changes": {"strategy.population": 50, "strategy.tournament": 10}},
    "bpe-rs": {"method": "random", "steps": 100, "changes": {}},
    "bpe-darts": {"method": "darts", "changes": {"strategy.order": 2, "strategy.beta_decay": 0.0, "strategy.variant": "paper", "strategy.lr": 3e-4, "strategy.weight_decay": 1e-3}, "validation": 0.5},
}
"""Preset -> run_rl.py --lr=1e-1 --momentum=0.9, run_evolution.py --pop_size=50 --sample_size=10 (ten maskings), search.py."""
BPE_1 = {
    "epochs": 10, "batch_size": 128, "lr": 0.03, "depth": 6, "channels": 8, "image_size": 16, "cutout": 0, "precision": "fp32",
    "weight_decay": 3e-4, "momentum": 0.9, "nesterov": False, "lr_min": 0.0, "grad_clip": 5.0, "auxiliary_weight": 0.4, "drop_path": 0.2,
}  # fmt: skip
BPE_2 = {**BPE_1, "epochs": 30, "depth": 16, "channels": 16}


@pytest.mark.parametrize("name", sorted(BPE))
def test_a_preset_of_bpe_searches_as_its_scripts_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, Any] = {}

    def noted(data: Any, out: Path, **given: Any) -> dict[str, str]:
        called.update(given)
        return {"genotype": "a cell"}

    monkeypatch.setattr(published, "search_cell", noted)
    assert published.search_for_cell(name, "cifar10", None, {"seed": 2}, {}) == "a cell"
    wanted = dict(BPE[name])
    assert called["load_settings"]["validation"] == wanted.pop("validation", 0.1)
    assert {key: called[key] for key in wanted} == wanted
    assert (called["recipe"], called["seed"]) == ("bpe1", 2)
    for recipe, values in (("bpe1", BPE_1), ("bpe2", BPE_2)):
        published.search_for_cell(name, "cifar10", None, {"evaluations": 7}, {"label.recipe": recipe, "label.epochs": 9})
        assert (called["recipe"], called["steps"], called["changes"]["epochs"]) == (recipe, 7, 9)
        made, said = fitted_recipe(read(called["recipe"]), 32, True)
        assert {key: getattr(made, key) for key in values} == values
        assert not said
    with pytest.raises(SettingError, match="has no setting 'strategy'"):
        published.search_for_cell(name, "cifar10", None, {"strategy": "cnas"}, {})


def test_every_preset_says_where_it_differs_and_what_was_published() -> None:
    assert set(names()) == set(PAPER) | set(BPE)
    for name in names():
        preset = open_preset(name)
        lines = preset.introduction(["and this"])
        assert preset.published in lines[2]
        assert lines[-1].strip() == f"{len(preset.deviations) + 1}. and this"
        assert len(preset.deviations) >= 3


def test_what_a_run_says_first_has_numbers_and_a_split_that_is_not_the_one_asked_for() -> None:
    settings = make_settings(data="x", preset="cnas")
    said: list[str] = []
    introduce(settings, SimpleNamespace(train=range(400), validation=range(600)), said.append)  # type: ignore[arg-type]
    assert said[0].startswith("preset cnas: ")
    assert "0.3 GPU days" in said[2]
    numbers = [int(line.split(".")[0]) for line in said[4:]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "final training, cifar_cnas: " in said[-1]
    said.clear()
    introduce(settings, SimpleNamespace(train=range(900), validation=range(100)), said.append)  # type: ignore[arg-type]
    assert "10% instead of the 60%" in said[0]
    said.clear()
    introduce(make_settings(data="x", evaluations=4), SimpleNamespace(train=range(9), validation=range(1)), said.append)  # type: ignore[arg-type]
    assert not said


def test_options_change_a_preset_and_a_time_does_not() -> None:
    settings = make_settings(data="x", preset="cnas", evaluations=9, set={"strategy.stage_epochs": 3})
    assert (settings.evaluations, settings.section("strategy")["stage_epochs"], settings.section("strategy")["warmup_epochs"]) == (9, 3, 20)
    assert settings.preset == "cnas"
    again = make_settings(**{key: value for key, value in settings.model_dump().items() if value is not None})
    assert again == settings
    with pytest.raises(SettingError, match="takes the time"):
        make_settings(data="x", preset="cnas", seconds=60.0)
    with pytest.raises(SettingError, match="ends in a cell"):
        archduel.search("digits", preset="bpe-rl")
    with pytest.raises(UnknownNameError, match="did you mean 'cnas'.*archduel list presets"):
        make_settings(data="x", preset="cna")
    with pytest.raises(SettingError, match="validation"):
        make_settings(data="x", validation=1.0)
    plain = make_settings(data="x", evaluations=8)
    assert "preset" not in plain.identity()
    assert "validation" not in load_arguments(plain)
