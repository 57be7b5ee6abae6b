"""Changes of colour by hand and against the standard library."""

from __future__ import annotations

import colorsys

import pytest
import torch

from archduel.training.augment import Changes, augmented, jittered, shifted_hue, to_grey
from archduel.training.recipe import Recipe

NEUTRAL = torch.tensor([[1.0], [1.0], [1.0], [0.0]])


def changed(images: torch.Tensor, name: str, value: float) -> torch.Tensor:
    place = ("brightness", "contrast", "saturation", "hue").index(name)
    factors = NEUTRAL.repeat(1, len(images)).clone()
    factors[place] = value
    return jittered(images, factors, [place])


def test_hue_agrees_with_the_standard_library() -> None:
    pixels = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    pixels[0, :, 0, 0] = 0.3  # grey stays grey
    for turn in (0.0, 0.1, -0.2, 0.5):
        found = shifted_hue(pixels, torch.tensor([turn]))
        for y in range(6):
            for x in range(7):
                h, s, v = colorsys.rgb_to_hsv(*pixels[0, :, y, x].tolist())
                assert found[0, :, y, x].tolist() == pytest.approx(colorsys.hsv_to_rgb((h + turn) % 1, s, v), abs=1e-5)


def test_brightness_contrast_and_saturation_by_hand() -> None:
    images = torch.tensor([[0.2, 0.6], [0.4, 0.8], [0.0, 0.5]])[None, :, None]  # (1, 3, 1, 2)
    assert torch.equal(changed(images, "brightness", 1.5), (images * 1.5).clamp(max=1))
    grey = to_grey(images)
    assert grey.flatten().tolist() == pytest.approx([0.299 * 0.2 + 0.587 * 0.4, 0.299 * 0.6 + 0.587 * 0.8 + 0.114 * 0.5])
    torch.testing.assert_close(changed(images, "contrast", 0.0), grey.mean().expand_as(images))
    torch.testing.assert_close(changed(images, "saturation", 0.0), grey.expand_as(images))
    torch.testing.assert_close(changed(images, "saturation", 1.0), images)


def test_grey_images_keep_one_channel() -> None:
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    out = jittered(images, torch.tensor([[0.5] * 2, [0.5] * 2, [0.5] * 2, [0.3] * 2]), [3, 2, 1, 0])
    assert out.shape == images.shape
    assert not torch.equal(out, images)


def test_a_recipe_draws_factors_in_its_range_and_each_process_takes_its_part() -> None:
    recipe = Recipe(colour_jitter=0.4, hue_jitter=0.2, cutout=2, crop_pad=1)
    changes = Changes.draw(recipe, 500, 8, torch.Generator().manual_seed(3))
    assert changes.colour is not None
    assert sorted(changes.order) == [0, 1, 2, 3]
    low, high = changes.colour.min(1).values, changes.colour.max(1).values
    assert low.tolist() == pytest.approx([0.6, 0.6, 0.6, -0.2], abs=0.02)
    assert high.tolist() == pytest.approx([1.4, 1.4, 1.4, 0.2], abs=0.02)
    images = torch.randint(0, 256, (500, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = augmented(images, recipe, (0.5,) * 3, (0.25,) * 3, changes)
    part = augmented(images[100:200], recipe, (0.5,) * 3, (0.25,) * 3, changes.part(slice(100, 200)))
    torch.testing.assert_close(whole[100:200], part)
