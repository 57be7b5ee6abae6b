"""Augmentation, checked pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from archduel.training.augment import (
    augmented,
    cutout,
    mixed,
    mixup_share,
    normalise,
    random_crop,
    random_flip,
)
from archduel.training.recipe import Recipe


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_images(n: int = 200, channels: int = 3, height: int = 6, width: int = 6) -> torch.Tensor:
    return torch.randint(1, 256, (n, channels, height, width), generator=generator(9)).byte()


def test_every_crop_is_a_window_of_the_padded_image_and_all_windows_occur() -> None:
    images = make_images()
    out = random_crop(images, 1, generator())
    padded = F.pad(images, (1, 1, 1, 1))
    shifts = [(i, j) for i in range(3) for j in range(3)]
    found = []
    for n in range(len(images)):
        match = [s for s in shifts if torch.equal(padded[n, :, s[0] : s[0] + 6, s[1] : s[1] + 6], out[n])]
        assert len(match) == 1
        found += match
    assert set(found) == set(shifts)
    assert out.dtype == torch.uint8
    assert random_crop(images, 0, generator()) is images


def test_about_half_of_the_images_are_mirrored() -> None:
    images = make_images()
    out = random_flip(images, generator())
    same = (out == images).flatten(1).all(1)
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 70 < int(mirrored.sum()) < 130  # 4 standard deviations


@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_cutout_zeroes_one_square_clipped_at_the_border(side: int) -> None:
    out = cutout(torch.ones(400, 2, 6, 6), side, generator())
    holes = out[:, 0] == 0
    assert torch.equal(out[:, 0], out[:, 1])
    rows, columns = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(rows * columns, holes.flatten(1).sum(1))  # a rectangle
    assert int(rows.max()) == int(columns.max()) == side
    assert int(rows.min()) == max(1, side - side // 2 if side < 6 else 3)  # centred on the last or first row
    assert holes.any(0).all()  # every pixel can go


def test_mixup_is_the_weighted_sum_with_the_partner() -> None:
    images = torch.randn(8, 1, 2, 2, generator=generator())
    out, partner = mixed(images, 0.7, generator())
    torch.testing.assert_close(out, 0.7 * images + 0.3 * images[partner])
    assert sorted(partner.tolist()) == list(range(8))
    shares = [mixup_share(0.2, np.random.default_rng(i)) for i in range(200)]
    assert 0.35 < np.mean(shares) < 0.65
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalised_values(channels_last: bool) -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    out = normalise(images, (0.5, 0.5, 0.2), (0.25, 0.5, 0.1), channels_last=channels_last)
    torch.testing.assert_close(out[1, :, 2, 2], torch.tensor([-2.0, 1.0, 0.0]))
    assert out.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_the_generator_decides_and_the_input_stays() -> None:
    recipe = Recipe(cutout=2, crop_pad=1)
    images = make_images(16)
    before = images.clone()
    first, second, other = (
        augmented(images, recipe, (0.5,) * 3, (0.2,) * 3, generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)


@pytest.mark.parametrize("channels", [1, 3])
def test_without_augmentation_only_normalisation_is_left(channels: int) -> None:
    images = make_images(4, channels)
    mean, std = (0.4,) * channels, (0.3,) * channels
    out = augmented(images, Recipe(cutout=0, crop_pad=0, flip=False), mean, std, generator())
    torch.testing.assert_close(out, (images / 255 - 0.4) / 0.3)
