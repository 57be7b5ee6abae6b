"""Spoiled copies: type and range kept, numbers by hand, worse with severity, the same for the same generator."""

from __future__ import annotations

import pytest
import torch

from archduel.errors import SettingError, UnknownNameError
from archduel.training.augment import CONTRAST, CORRUPTIONS, NOISE, corrupted

IMAGES = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def spoiled(kind: str, severity: int, images: torch.Tensor = IMAGES) -> torch.Tensor:
    return corrupted(images, kind, severity, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_copies_have_the_form_of_the_images_and_get_worse(kind: str, channels: int) -> None:
    before = IMAGES[:, :channels].clone()
    distances = []
    for severity in (1, 5):
        made = spoiled(kind, severity, before)
        assert made.dtype == torch.uint8
        assert made.shape == before.shape
        assert torch.equal(made, spoiled(kind, severity, before))
        distances.append((made.float() - before.float()).abs().mean().item())
    assert 0 < distances[0] < distances[1]
    assert torch.equal(before, IMAGES[:, :channels])


def test_contrast_by_hand() -> None:
    image = torch.tensor([[[[0, 200], [100, 100]]]], dtype=torch.uint8)
    assert spoiled("contrast", 2, image).flatten().tolist() == [50, 150, 100, 100]
    assert CONTRAST[1] == 0.5


def test_noise_has_the_stated_deviation() -> None:
    grey = torch.full((4, 3, 64, 64), 128, dtype=torch.uint8)
    made = spoiled("noise", 3, grey).float() - 128
    assert made.mean().abs() < 0.5
    assert made.std().item() / 255 == pytest.approx(NOISE[2], rel=0.03)


def test_blur_keeps_the_mean_of_a_flat_image_and_spreads_a_point() -> None:
    assert torch.equal(spoiled("blur", 5, IMAGES[:, :, :1, :1].expand(-1, -1, 16, 16).contiguous())[0, 0, 0, 0], IMAGES[0, 0, 0, 0])
    point = torch.zeros(1, 1, 33, 33, dtype=torch.uint8)
    point[0, 0, 16, 16] = 255
    made = spoiled("blur", 3, point)[0, 0]
    assert made[16, 16] == made.max() < 255
    assert torch.equal(made, made.T)


def test_unknown_kinds_and_severities_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="fog"):
        spoiled("fog", 1)
    with pytest.raises(SettingError, match="1 to 5"):
        spoiled("noise", 6)
