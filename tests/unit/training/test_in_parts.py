"""Batches that go through a network in parts: how many, and that nothing but the time depends on it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from archduel.race.training import Anytime
from archduel.training.images import Pixels
from archduel.training.metrics import evaluate
from archduel.training.recipe import Recipe
from archduel.training.runtime import in_parts


class Enlarging(nn.Module):
    """A network whose layers see images at twice their side; notes how many it is shown at a time."""

    def __init__(self, works_at: int) -> None:
        super().__init__()
        self.works_at = works_at
        self.shown: list[int] = []
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shown.append(len(x))
        out: torch.Tensor = self.layers(x)
        return out


@pytest.mark.parametrize(
    ("side", "n", "parts"), [(8, 64, 1), (32, 256, 1), (64, 64, 1), (96, 64, 2), (128, 64, 4), (192, 64, 8), (224, 64, 8), (224, 4, 1), (64, 256, 4)]
)
def test_the_larger_the_images_the_fewer_at_a_time(side: int, n: int, parts: int) -> None:
    assert in_parts(nn.Identity(), side, n, "cpu") == parts
    inside = nn.Identity()
    inside.works_at = side  # type: ignore[assignment]
    assert in_parts(inside, 8, n, "cpu") == parts  # what counts is the side at which the layers see them
    assert in_parts(nn.Identity(), side, n, "cuda") == 1


def images(n: int) -> Pixels:
    rng = np.random.default_rng(0)
    return Pixels(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), np.arange(n) % 3, (0.5,), (0.25,))


def trained(works_at: int, *, frozen: bool, taught: bool) -> tuple[Anytime, Enlarging]:
    """Returns a training of three steps on batches of 64."""
    torch.manual_seed(0)
    model = Enlarging(works_at)
    recipe = Recipe(batch_size=64, lr=0.1, frozen_norms=frozen, image_size=8, crop_pad=1)
    trainer = Anytime(model, images(192), recipe, seed=3)
    if taught:
        lesson = torch.randn(192, 3, generator=torch.Generator().manual_seed(5))
        trainer.teach = lambda rows, logits, loss: loss + (logits - lesson[rows]).square().mean()
    steps = iter([0.1] * 3)
    assert trainer.run(lambda: next(steps, None))
    return trainer, model


@pytest.mark.parametrize("taught", [False, True])
def test_a_step_in_parts_is_that_of_the_whole_batch(taught: bool) -> None:
    with torch.random.fork_rng():
        (whole, at_once), (parts, few) = trained(8, frozen=True, taught=taught), trained(128, frozen=True, taught=taught)
    assert (at_once.shown, few.shown) == ([64] * 3, [16] * 12)
    assert (whole.steps, whole.images, whole.passes) == (parts.steps, parts.images, parts.passes)
    assert whole.loss == pytest.approx(parts.loss, rel=1e-5)
    for one, other in zip(at_once.state_dict().values(), few.state_dict().values()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_norms_that_learn_from_batches_see_whole_ones() -> None:
    with torch.random.fork_rng():
        _, model = trained(128, frozen=False, taught=False)
    assert model.shown == [64] * 3


def test_what_is_said_of_images_does_not_depend_on_it() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        large = Enlarging(128)
    small = copy.deepcopy(large)
    small.works_at = 8
    found, expected = evaluate(large, images(100)), evaluate(small, images(100))
    assert (max(large.shown), small.shown) == (16, [100])
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-5)
