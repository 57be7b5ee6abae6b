"""Every DARTS-type network that compares cells has a normal and a reduction cell, whatever the plan of a search makes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from archduel.commands.proxy.find import _grid
from archduel.commands.search.one_shot import supernet_recipe
from archduel.commands.search.plan import Plan, fixed_plan, ladder_for, timed_plan
from archduel.commands.search.settings import make_settings
from archduel.commands.trainings import JobOptions
from archduel.core import Arch, Query, Scale, sample
from archduel.errors import BudgetError, SettingError
from archduel.estimators.judges import Judge
from archduel.networks import load_trained, save_trained
from archduel.proxies.factors import default_factors
from archduel.race.sizes import depths
from archduel.spaces.darts.space import DARTS
from archduel.spaces.family import build, count, family, supernet
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

LADDER = family("darts").ladder
HALF = 16  # choices of the normal cell, those of the reduction cell follow


def images(n: int, size: int) -> Any:
    """Returns what a plan wants to know of a data set with ``n`` images."""
    parts = {"train": range(n * 6 // 10), "validation": range(n // 5), "test": range(n // 5)}
    return SimpleNamespace(image_size=size, flip=True, **parts)


def seconds_per_image(recipe: Recipe) -> float:
    """Returns about what a step takes on a core: 6 thousand million multiply-adds a second."""
    return 1e-4 + recipe.channels**2 * recipe.depth * recipe.image_size**2 * 2e-9


def plans() -> list[Plan]:
    """Returns the plans of searches of every kind: short and long, few images and many, small and large, timed and counted."""
    made = []
    for n in (1_000, 5_000, 50_000):
        for size in (8, 32):
            for seconds in (60.0, 600.0, 7_200.0, 86_400.0, 864_000.0):
                settings = make_settings(data="x", space="darts", strategy="spos", seconds=seconds, workers=2)
                try:
                    made.append(timed_plan(settings, images(n, size), LADDER, seconds_per_image))
                except BudgetError:
                    continue
            settings = make_settings(data="x", space="darts", strategy="cnas", evaluations=20, workers=1)
            made.append(fixed_plan(settings, images(n, size), LADDER))
    return made


def depths_of_plans() -> set[int]:
    """Returns every depth at which a plan has networks compared: labels, supernets, re-evaluations, final ones, races, cheap recipes."""
    found = {recipe.depth for plan in plans() for recipe in (plan.label, plan.reevaluate, plan.final, supernet_recipe(plan.label, "cnas", {}))}
    found |= set(depths(DARTS())) | {depth for _, depth in LADDER}
    for _, depth in LADDER:
        reference = Recipe(depth=depth)
        levels = {f.name: f.levels for f in default_factors(reference, n_images=1_000, least_depth=family("darts").least_depth)}
        found |= {level["depth"] for level in levels.get("depth", ())}
    return found


def other_normal_cell(arch: Arch) -> Arch:
    """Returns the architecture with all operations of the normal cell changed."""
    space, rng = DARTS(), np.random.default_rng(1)
    while True:
        other = replace(arch, choices=sample(space, rng).choices[:HALF] + arch.choices[HALF:])
        if all(a != b for a, b in zip(arch.choices[1:HALF:2], other.choices[1:HALF:2])):
            return other


def test_the_plans_of_searches_reach_many_depths_none_without_a_normal_cell() -> None:
    assert len(plans()) > 20
    assert min(depths_of_plans()) == 3
    assert {plan.label.depth for plan in plans()} >= {3, 4}


@pytest.mark.parametrize("depth", sorted(depths_of_plans()))
def test_the_normal_cell_matters_at_every_depth_that_is_planned(depth: int) -> None:
    first = sample(DARTS(), np.random.default_rng(0))
    second = other_normal_cell(first)
    scale = Scale(4, depth, 8, 3, 10)
    assert count(first, scale) != count(second, scale)
    if depth <= 5:  # the layers are the same in deeper ones
        x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        made = supernet("darts", scale, generator=torch.Generator().manual_seed(0)).eval()
        with torch.no_grad():
            networks = [build(arch, scale, generator=torch.Generator().manual_seed(0)).eval() for arch in (first, second)]
            for outs in ([network(x) for network in networks], [made(x, arch) for arch in (first, second)]):
                assert not torch.allclose(*outs, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_network_without_a_normal_cell_is_refused_wherever_it_would_compare(depth: int, tmp_path: Path) -> None:
    arch, scale = sample(DARTS(), np.random.default_rng(0)), Scale(4, depth, 8, 1, 10)
    dataset = images(100, 8)
    with pytest.raises(SettingError, match=f"depth is {depth}.*from depth 3 on.*no normal cell"):
        build(arch, scale)
    with pytest.raises(SettingError, match="no normal cell"):
        supernet("darts", scale, generator=torch.Generator())
    with pytest.raises(SettingError, match="plan.depth is"):
        ladder_for(make_settings(data="x", space="darts", evaluations=8, set={"plan.depth": depth}))
    for section in ("label", "reevaluate", "final"):
        with pytest.raises(SettingError, match=f"{section}.depth is {depth}"):
            fixed_plan(make_settings(data="x", space="darts", evaluations=8, set={f"{section}.depth": depth}), dataset, LADDER)
    with pytest.raises(SettingError, match="levels depth"):
        _grid(Recipe(depth=5), dataset, {"depth": [depth, 5]}, "cpu", "darts")
    job = JobOptions(load_settings={"max_images": 60}, quiet=True)
    with job.bench(job.dataset("digits"), tmp_path / "job", "train", {}) as bench, pytest.raises(SettingError, match="no normal cell"):
        bench.train("shallow", Recipe(depth=depth), [arch])


def test_weights_that_exist_are_read_at_any_depth(tmp_path: Path) -> None:
    arch, scale = sample(DARTS(), np.random.default_rng(0)), Scale(4, 2, 8, 1, 3)
    model = build(arch, scale, generator=torch.Generator().manual_seed(0), shallow=True).eval()
    look = {"size": 8, "mode": "L", "rule": "crop", "mean": [0.5], "std": [0.2]}
    save_trained(tmp_path, model, {"arch": str(arch), "text": None, "scale": scale, "classes": ["a", "b", "c"], "preprocessing": look})
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(load_trained(tmp_path)[0](x), model(x))


def test_a_run_that_an_older_version_began_goes_on_with_its_networks() -> None:
    settings = make_settings(data="x", space="darts", strategy="spos", evaluations=8)
    plan = fixed_plan(settings, images(100, 8), LADDER)
    assert not plan.shallow("darts")
    before = Plan.from_json(replace(plan, label=plan.label.with_(depth=1)).to_json())  # as it stands in that run's journal
    assert before.shallow("darts")
    assert not before.shallow("nasbench201")
    arch, scale = sample(DARTS(), np.random.default_rng(0)), Scale(4, 1, 8, 1, 10)
    assert supernet("darts", scale, generator=torch.Generator(), shallow=True).modules_of(arch)
    rng = np.random.default_rng(0)
    pixels = Pixels(rng.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8), rng.integers(0, 10, 20), (0.5,), (0.25,))
    recipe = Recipe(epochs=1, batch_size=10, channels=4, depth=1, image_size=8, crop_pad=1)
    for shallow in (True, False):
        judge = Judge(pixels, {"validation": pixels}, {"label": recipe}, 10, 0, shallow=shallow)
        assert judge()(Query(arch, "label"), 0).failed == (not shallow)
