"""A small task that a small network learns in a second, and that network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archduel.training.images import Pixels
from archduel.training.recipe import Recipe
from archduel.training.runtime import seeded_build


class Small(nn.Module):
    """Two convolutions; in training mode also an auxiliary output if asked for."""

    def __init__(self, channels: int = 3, classes: int = 4, *, auxiliary: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(16, classes)
        self.auxiliary = nn.Linear(16, classes) if auxiliary else None
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.drop(self.body(x))
        logits = self.head(features)
        if self.training and self.auxiliary is not None:
            return logits, self.auxiliary(features)
        return logits


def stripes(n: int, channels: int = 3, size: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with stripes; whether they lie or stand, and how wide they are, is the class (0..3)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    place = np.arange(size)
    lying = np.stack([place % 2, place // 2 % 2])[labels // 2][:, None, :, None]  # (N, 1, H, 1)
    bright = np.where((labels % 2 == 0)[:, None, None, None], lying, lying.swapaxes(2, 3))  # (N, 1, H, W)
    return (rng.integers(0, 100, (n, channels, size, size)) + 100 * bright).astype(np.uint8), labels


@pytest.fixture
def task() -> Pixels:
    return Pixels(*stripes(150), (0.4,) * 3, (0.25,) * 3)


@pytest.fixture
def held_out() -> Pixels:
    return Pixels(*stripes(100, seed=1), (0.4,) * 3, (0.25,) * 3)


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(epochs=4, batch_size=32, lr=0.1, crop_pad=0, flip=False, image_size=8)


@pytest.fixture
def small() -> Small:
    return seeded_build(Small, 5)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _global_randomness_is_left_alone():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
