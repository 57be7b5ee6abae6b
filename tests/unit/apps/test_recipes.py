"""Recipe files: read in words, and their schedules checked by value at every epoch."""

from __future__ import annotations

import math

import pytest

from archduel.core import Scale
from archduel.errors import SettingError, UnknownNameError
from archduel.recipes import default_recipe, names, open_recipe, summaries
from archduel.spaces.darts.cost import count_genotype
from archduel.spaces.darts.genotype_text import read_genotype
from archduel.spaces.named import named
from archduel.training.optimizer import drop_path_at, learning_rate, plan
from archduel.training.recipe import Recipe


def cosine(lr: float, low: float, epochs: int, epoch: float) -> float:
    return low + 0.5 * (lr - low) * (1 + math.cos(math.pi * epoch / epochs))


def relativenas_imagenet(epoch: int) -> float:
    if epoch < 5:
        return 0.5 * (epoch + 1) / 5
    return 0.5 * (245 - epoch) / 245 if epoch < 245 else 0.5 * (250 - epoch) / (245 * 5)


EPOCHS = {  # recipe -> the learning rate of each epoch, as the papers say it
    "cifar_darts": [cosine(0.025, 0, 600, e) for e in range(600)],
    "cifar_bpe": [cosine(0.025, 0, 600, e) for e in range(600)],
    "cifar_relativenas": [cosine(0.025, 0, 600, e) for e in range(600)],
    "cifar_cnas": [cosine(0.025, 0.001, 600, e) for e in range(600)],
    "cifar_ctnas": [cosine(0.025, 0.001, 600, e) for e in range(600)],
    "imagenet_darts": [0.1 * 0.97**e for e in range(250)],
    "imagenet_mobile_cnas": [0.1 * (1 - e / 250) for e in range(250)],
    "imagenet_mobile_relativenas": [relativenas_imagenet(e) for e in range(250)],
}


@pytest.mark.parametrize("name", EPOCHS)
def test_the_learning_rate_of_every_epoch(name: str) -> None:
    recipe = open_recipe(name).recipe
    total = plan(recipe, 3 * recipe.batch_size)
    assert total.epochs == len(EPOCHS[name]) == recipe.epochs
    for epoch, expected in enumerate(EPOCHS[name]):
        steps = [learning_rate(recipe, step, total) for step in total.steps_of(epoch)]
        assert steps == pytest.approx([expected] * 3, rel=1e-9, abs=1e-12), f"epoch {epoch}"


def test_the_schedules_by_hand() -> None:
    assert EPOCHS["cifar_darts"][300] == pytest.approx(0.0125)
    assert EPOCHS["cifar_cnas"][300] == pytest.approx(0.013)
    at = EPOCHS["imagenet_mobile_relativenas"]
    assert [at[0], at[4], at[5]] == pytest.approx([0.1, 0.5, 0.5 * 240 / 245])
    assert at[-6:] == pytest.approx([0.5 / 245, *(0.5 * left / 1225 for left in (5, 4, 3, 2, 1))])


@pytest.mark.parametrize(("name", "epochs", "peak", "warm"), [("imagenet_mobile_ctnas", 180, 0.24, 5), ("fast", 16, 0.4, 3), ("fast_cells", 60, 0.2, 5)])
def test_schedules_that_change_with_every_step(name: str, epochs: int, peak: float, warm: int) -> None:
    recipe = open_recipe(name).recipe
    total = plan(recipe, 10 * recipe.batch_size)
    for epoch in range(epochs):
        value = learning_rate(recipe, 10 * epoch, total)
        done = (epoch - warm) / (epochs - warm)
        falling = peak * (1 - done) if recipe.schedule == "linear" else cosine(peak, 0, 1, done)
        assert value == pytest.approx(peak * (10 * epoch + 1) / (10 * warm) if epoch < warm else falling)


def test_drop_path_of_every_epoch() -> None:
    for name, largest in (("cifar_darts", 0.2), ("cifar_relativenas", 0.3), ("imagenet_mobile_cnas", 0.0)):
        recipe = open_recipe(name).recipe
        assert [drop_path_at(recipe, e) for e in range(600)] == pytest.approx([largest * min(1, e / recipe.epochs) for e in range(600)])


def test_values_of_the_papers() -> None:
    cnas, ctnas, relative = (open_recipe(f"cifar_{n}").recipe for n in ("cnas", "ctnas", "relativenas"))
    assert (cnas.batch_size, ctnas.batch_size, relative.batch_size) == (96, 96, 128)
    assert (ctnas.channels, ctnas.depth, cnas.channels, cnas.depth) == (44, 18, 36, 20)
    for recipe in (cnas, ctnas, relative):
        assert (recipe.cutout, recipe.auxiliary_weight, recipe.weight_decay, recipe.grad_clip) == (16, 0.4, 3e-4, 5.0)
        assert not recipe.nesterov
    assert relative.decay_norm_bias
    assert not cnas.decay_norm_bias
    assert open_recipe("cifar_bpe").options == {"pool_norm": True}
    imagenet = open_recipe("imagenet_mobile_relativenas").recipe
    assert (imagenet.batch_size, imagenet.weight_decay, imagenet.label_smoothing, imagenet.grad_clip) == (1024, 3e-5, 0.1, 0)
    assert (imagenet.crop_scale, imagenet.colour_jitter, imagenet.hue_jitter, imagenet.crop_pad) == (0.08, 0.4, 0.2, 0)


@pytest.mark.parametrize(("arch", "recipe", "classes", "params"), [
    ("cnas", "cifar_cnas", 10, 3.695), ("ctnas_darts", "cifar_ctnas", 10, 3.560), ("relativenas", "cifar_relativenas", 10, 3.928),
    ("relativenas", "imagenet_mobile_relativenas", 1000, 5.050), ("cnas", "imagenet_mobile_cnas", 1000, 5.318),
])  # fmt: skip
def test_recipes_build_networks_of_the_published_size(arch: str, recipe: str, classes: int, params: float) -> None:
    found = open_recipe(recipe).recipe
    scale = Scale(found.channels, found.depth, found.image_size, 3, classes)
    assert count_genotype(read_genotype(named(arch).text), scale).params / 1e6 == pytest.approx(params, abs=6e-4)


def test_every_recipe_that_comes_along_is_read_and_says_what_it_is() -> None:
    assert len(summaries()) == len(names()) >= 12
    for name in names():
        file = open_recipe(name)
        assert file.about
        assert file.source
    assert open_recipe("darts600").name == "cifar_darts"
    assert default_recipe("digits", "darts") == "digits"
    assert open_recipe(default_recipe("cifar10", "nasbench201")).name == "fast"


def test_width_and_depth_are_those_of_the_space_a_recipe_is_meant_for() -> None:
    file = open_recipe("cifar_ctnas")
    assert (file.with_({}, "darts").channels, file.with_({}, "darts").depth) == (44, 18)
    assert (file.with_({}, "nasbench201").channels, file.with_({}, "nasbench201").depth) == (16, 5)
    assert file.with_({"channels": 8, "epochs": 2}, "nasbench201") == file.recipe.with_(channels=8, depth=5, epochs=2)


def test_a_file_of_ones_own(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('about = "mine"\n[recipe]\nepochs = 3\nlr = 0.2\n')
    assert open_recipe(str(path)).recipe == Recipe(epochs=3, lr=0.2)
    path.write_text("epochs = 3")
    assert open_recipe(path).recipe == Recipe(epochs=3)
    for text, words in (("[recipe", "not TOML"), ("epoch = 3", "keys epoch; expected"), ("about = 'x'", "no section"), ("[recipe]\nepoch = 3", "did you mean 'epochs'")):
        path.write_text(text)
        with pytest.raises(SettingError, match=words):
            open_recipe(str(path))
    with pytest.raises(SettingError, match="no recipe file"):
        open_recipe(str(tmp_path / "other.toml"))
    with pytest.raises(UnknownNameError, match="did you mean 'cifar_darts'"):
        open_recipe("cifar_dart")
