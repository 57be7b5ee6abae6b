"""How large the first networks of a race are, measured on the network that enters first, and how they are trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from archduel.core import Arch, Scale, sample
from archduel.core.storage import Journal
from archduel.data import load
from archduel.pretrained.known import Known
from archduel.race import race_recipe
from archduel.race import run as module
from archduel.race.clock import Wall
from archduel.race.plan import enough_passes, timed_plan
from archduel.race.sets import sets_of
from archduel.race.sizes import Bounds, Sizes
from archduel.spaces.family import count
from archduel.spaces.pretrained.space import Pretrained
from archduel.spaces.resnet.space import ResNet
from archduel.spaces.stages.space import Stages

DATA = load("digits", max_images=300)
SETS = sets_of(DATA, "cpu", 60.0)
PLAN = timed_plan(60.0, gone=0.0, reserve=0.0)
START = Stages().start()


def measured(monkeypatch: pytest.MonkeyPatch, folder: Path, speeds: dict[str, float], start: Arch | None, *, most: int | None = None) -> tuple[float, list[Arch]]:
    """Returns the multiply-adds that are affordable where networks do so many a second, and which networks were timed."""
    timed = []

    def a_second(arch: Arch, scale: Scale, *_: object) -> float:
        timed.append(arch)
        return speeds[arch.space] / count(arch, scale).macs

    monkeypatch.setattr(module, "_images_a_second", a_second)
    sizes = Sizes(8, 1, 10, count, Bounds(max_params=most).and_also(None))
    journal = Journal(folder / "race.jsonl")
    recipe = race_recipe(DATA)
    macs = module._affordable_macs(journal, PLAN, sizes, SETS, recipe, "cpu", Wall(), start, gone=1.0, timed=True)
    again = module._affordable_macs(journal, PLAN, sizes, SETS, recipe, "cpu", Wall(), start, gone=1.0, timed=True)
    journal.close()
    assert again == macs  # measured once, then read
    return macs, timed


def test_the_space_s_own_first_network_is_timed_at_the_size_that_a_usual_one_suggests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    macs, timed = measured(monkeypatch, tmp_path, {"resnet": 1e9, "stages": 3e9}, START)
    assert [arch.space for arch in timed] == [ResNet.name, Stages.name]
    images = len(SETS.both)
    assert macs == pytest.approx(3e9 * PLAN.last / (enough_passes(images) * images))


def test_spaces_without_a_first_network_and_limits_that_leave_none_go_by_the_usual_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = len(SETS.both)
    for name, start, most in (("none", None, None), ("limit", START, 1)):
        (tmp_path / name).mkdir()
        macs, timed = measured(monkeypatch, tmp_path / name, {"resnet": 1e9, "stages": 3e9}, start, most=most)
        assert [arch.space for arch in timed] == [ResNet.name]
        assert macs == pytest.approx(1e9 * PLAN.last / (enough_passes(images) * images))


def test_photographs_are_changed_more_than_what_must_not_be_mirrored() -> None:
    look = DATA.preprocessing
    large = np.zeros((20, 3, 32, 32), np.uint8)
    photographs = replace(DATA, flip=True, train=replace(DATA.train, images=large))
    assert (race_recipe(photographs).cutout, race_recipe(photographs).one_change) == (12, module.ONE_CHANGE)
    for recipe in (race_recipe(DATA), race_recipe(replace(DATA, flip=True)), race_recipe(replace(photographs, flip=False)), race_recipe(photographs, side=15)):
        assert (recipe.cutout, recipe.one_change) == (0, 0.0)
    assert race_recipe(photographs, one_change=0.2).one_change == 0.2
    many = np.zeros(module.ONE_CHANGE_IMAGES, np.int64)
    for labels, strength in ((many, module.ONE_CHANGE), (np.append(many, 0), 0.0)):
        assert race_recipe(replace(photographs, train=replace(photographs.train, labels=labels))).one_change == strength
    backbone = "efficientnet_lite0"
    opener = Known(Pretrained(backbones=[backbone]), Scale(1, 1, 32, 3, 10), look.mean, look.std, lambda *_: True, precision="fp32", seed=0, say=print)
    assert opener.recipe(sample(Pretrained(backbones=[backbone]), np.random.default_rng(0)), race_recipe(photographs)).one_change == 0.0


def test_the_timing_trains_a_network_of_its_own() -> None:
    before = torch.get_rng_state()
    scale = Scale(8, 1, 8, 1, 10)
    assert module._images_a_second(START, scale, SETS, race_recipe(DATA), "cpu", Wall()) > 0
    assert torch.equal(torch.get_rng_state(), before)
