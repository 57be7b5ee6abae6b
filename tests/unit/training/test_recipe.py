"""Recipes: what is refused, and that the named ones are what their papers say."""

from __future__ import annotations

import pytest

from archduel.errors import SettingError
from archduel.recipes import read
from archduel.training.recipe import Recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": -0.1}, "lr must be at least 0, got -0.1"),
        ({"lr": float("nan")}, "lr must be at least 0, got nan"),
        ({"lr": "fast"}, "lr must be of type float, got 'fast'"),
        ({"batch_size": 1.5}, "batch_size must be of type int, got 1.5"),
        ({"flip": 1}, "flip must be of type bool"),
        ({"channels": True}, "channels must be of type int, got True"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\)"),
        ({"data_fraction": 1.5}, "data_fraction"),
        ({"schedule": "cosin"}, "one of cosine, linear, linear_tail, exponential, constant, got 'cosin'"),
        ({"precision": "int8"}, "one of fp32, bf16, fp16"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Recipe(**changes)  # type: ignore[arg-type]


def test_changes_give_a_new_recipe() -> None:
    recipe = Recipe()
    assert recipe.with_(epochs=3).epochs == 3
    assert recipe.epochs == 10
    with pytest.raises(SettingError):
        recipe.with_(epochs=-1)


def test_named_recipes() -> None:
    bpe = read("bpe1")
    assert (bpe.epochs, bpe.batch_size, bpe.channels, bpe.depth, bpe.image_size) == (10, 128, 8, 6, 16)
    second, search, full = (read(name) for name in ("bpe2", "darts_search", "full"))
    assert (second.epochs, second.batch_size, second.channels, second.depth, second.image_size) == (30, 128, 16, 16, 16)
    assert (search.epochs, search.batch_size, search.lr, search.lr_min, search.channels, search.depth) == (50, 64, 0.025, 0.001, 16, 8)
    assert (full.epochs, full.batch_size, full.lr, full.cutout, full.channels, full.depth) == (600, 96, 0.025, 16, 36, 20)
    for recipe in (bpe, second, full):
        assert (recipe.weight_decay, recipe.drop_path, recipe.auxiliary_weight, recipe.grad_clip) == (3e-4, 0.2, 0.4, 5.0)
    assert not any(read(name).nesterov for name in ("bpe1", "bpe2", "darts_search", "full"))
    assert {recipe.lr for recipe in (bpe, second)} == {0.03}
    large = read("imagenet_mobile_cnas")
    assert (large.epochs, large.batch_size, large.lr, large.lr_min, large.schedule, large.weight_decay) == (250, 256, 0.1, 0.0, "linear", 3e-5)
    assert (large.colour_jitter, large.hue_jitter, large.crop_scale, large.channels, large.depth) == (0.4, 0.2, 0.08, 48, 14)
    cell = read("nasbench201", "nasbench201")
    assert (cell.epochs, cell.batch_size, cell.lr, cell.weight_decay, cell.channels, cell.depth) == (200, 256, 0.1, 5e-4, 16, 5)
