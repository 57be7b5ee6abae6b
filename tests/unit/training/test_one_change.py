"""One random change for each image: each of the ten by hand, and what is drawn."""

from __future__ import annotations

import math

import pytest
import torch

from archduel.errors import SettingError
from archduel.training.augment import ONE_OF, Changes, augmented, jittered, normalise, recoloured, warped
from archduel.training.recipe import Recipe

SIDE = 8
IMAGES = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FLOATS = torch.rand(3, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
MIDDLE = torch.tensor([-1, 1, -1])
"""Only the second image is changed: no change has this number."""


def kinds(name: str) -> torch.Tensor:
    return torch.where(MIDDLE == 1, ONE_OF.index(name), 99)


def one(images: torch.Tensor, name: str, amount: float) -> torch.Tensor:
    change = recoloured if images.dtype == torch.uint8 else warped
    kind = kinds(name) if change is recoloured else torch.where(MIDDLE == 1, ONE_OF.index(name), -1)
    before = images.clone()
    out = change(images, kind, torch.tensor([1.0, amount, 1.0]))
    assert torch.equal(images, before)
    for row in (0, 2):
        assert torch.equal(out[row], images[row])
    return out[1]


@pytest.mark.parametrize(("place", "name"), [(0, "brightness"), (1, "contrast"), (2, "saturation")])
@pytest.mark.parametrize("amount", [0.5, -0.5])
def test_colours_change_by_a_factor(place: int, name: str, amount: float) -> None:
    factors = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    factors[place] += 0.9 * amount
    expected = jittered(IMAGES[1:2].float() / 255, factors, [place])[0] * 255
    assert (one(IMAGES, name, amount).float() - expected).abs().max() <= 0.5 + 1e-3


def test_bright_pixels_are_inverted() -> None:
    threshold = 255 * (1 - 0.4)
    expected = torch.where(IMAGES[1] > threshold, 255 - IMAGES[1].int(), IMAGES[1].int())
    assert torch.equal(one(IMAGES, "solarise", -0.4).int(), expected)
    assert torch.equal(one(IMAGES, "solarise", 0.4).int(), expected)


@pytest.mark.parametrize(("amount", "bits"), [(0.0, 8), (0.5, 5), (-1.0, 2)])
def test_few_bits_are_kept(amount: float, bits: int) -> None:
    unit = 2 ** (8 - bits)
    assert torch.equal(one(IMAGES, "posterise", amount), IMAGES[1] // unit * unit)


def test_grey_images_stay_grey() -> None:
    grey = IMAGES[:, :1]
    for name in ONE_OF[:5]:
        out = recoloured(grey, kinds(name), torch.full((3,), 0.7))
        assert out.shape == grey.shape
        assert torch.equal(out[1], grey[1]) == (name == "saturation")


@pytest.mark.parametrize(("name", "dimension"), [("shift across", 2), ("shift down", 1)])
def test_pixels_are_shifted_and_zeros_move_in(name: str, dimension: int) -> None:
    out = one(FLOATS, name, 2 / (0.4 * SIDE))  # two pixels
    kept, gone = FLOATS[1].narrow(dimension, 2, SIDE - 2), out.narrow(dimension, SIDE - 2, 2)
    torch.testing.assert_close(out.narrow(dimension, 0, SIDE - 2), kept, atol=1e-5, rtol=0)
    assert gone.abs().max() < 1e-5


def test_images_are_turned_about_their_middle() -> None:
    out = one(FLOATS, "turn", (math.pi / 4) / (math.pi / 3))
    again = warped(torch.stack([out] * 3), torch.where(MIDDLE == 1, ONE_OF.index("turn"), -1), torch.full((3,), 0.75))[1]
    middle = slice(SIDE // 2 - 1, SIDE // 2 + 1)
    quarter = torch.rot90(FLOATS[1], 1, (1, 2))[:, middle, middle].mean((1, 2)), torch.rot90(FLOATS[1], -1, (1, 2))[:, middle, middle].mean((1, 2))
    assert min((again[:, middle, middle].mean((1, 2)) - each).abs().max() for each in quarter) < 0.15  # twice 45 degrees, each blurs
    square = torch.zeros(3, 2, SIDE, SIDE)
    square[1, :, 0, 0] = 1.0  # a corner is turned out of the image
    assert warped(square, torch.where(MIDDLE == 1, ONE_OF.index("turn"), -1), torch.full((3,), 0.75)).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "dimension"), [("shear across", 2), ("shear down", 1)])
def test_rows_or_columns_slide_against_each_other(name: str, dimension: int) -> None:
    out = one(FLOATS, name, 0.5)
    for place in range(SIDE):
        away = 0.5 * 0.6 * ((2 * place + 1) / SIDE - 1) * SIDE / 2  # in pixels, to where it comes from
        row, source = out.select(3 - dimension, place), FLOATS[1].select(3 - dimension, place)
        at = torch.arange(SIDE) + away
        low = at.floor().long()
        inside = (low >= 0) & (low + 1 < SIDE)
        share = (at - low)[inside]
        expected = source[:, low[inside]] * (1 - share) + source[:, low[inside] + 1] * share
        torch.testing.assert_close(row[:, inside], expected, atol=1e-5, rtol=0)


def test_a_recipe_draws_all_ten_within_its_strength_and_each_process_takes_its_part() -> None:
    recipe = Recipe(one_change=0.5, crop_pad=1, cutout=2)
    changes = Changes.draw(recipe, 500, SIDE, torch.Generator().manual_seed(3))
    assert changes.kind is not None
    assert changes.amount is not None
    assert set(changes.kind.tolist()) == set(range(10))
    assert 0.49 < float(changes.amount.abs().max()) <= 0.5
    assert abs(float(changes.amount.mean())) < 0.05
    images = torch.randint(0, 256, (500, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    look = (0.5,) * 3, (0.25,) * 3
    whole = augmented(images, recipe, *look, changes)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(whole[100:200], augmented(images[100:200], recipe, *look, changes.part(slice(100, 200))))
    calm = augmented(images, recipe.with_(one_change=0.0), *look, torch.Generator().manual_seed(3))
    assert 0.5 < float((whole != calm).flatten(1).any(1).float().mean()) <= 1
    both = Changes.draw(recipe.with_(colour_jitter=0.2), 20, SIDE, torch.Generator().manual_seed(3))
    assert both.kind is not None
    assert both.colour is not None
    assert Changes.draw(recipe.with_(one_change=0.0), 20, SIDE, torch.Generator().manual_seed(3)).kind is None


def test_nothing_is_drawn_by_other_recipes() -> None:
    torch.testing.assert_close(augmented(IMAGES, Recipe(crop_pad=0, flip=False), (0.5,) * 3, (0.25,) * 3, torch.Generator()), normalise(IMAGES, (0.5,) * 3, (0.25,) * 3))


def test_a_strength_above_one_is_refused() -> None:
    with pytest.raises(SettingError, match="one_change"):
        Recipe(one_change=1.5)
