"""Training that can be stopped after any step."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from archduel.errors import StateError
from archduel.race.training import Anytime, Trail, best_precision
from archduel.training.images import Pixels
from archduel.training.metrics import evaluate
from archduel.training.recipe import Recipe

RECIPE = Recipe(batch_size=16, lr=0.05, crop_pad=1, image_size=8, cutout=2)


def pixels(n: int = 80, seed: int = 0) -> Pixels:
    """Returns noisy images whose brightness is their class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(0, 60, (n, 1, 8, 8)) + 120 * labels[:, None, None, None]
    return Pixels(images.astype(np.uint8), labels, (0.4,), (0.3,))


def network(dropout: float = 0.2) -> nn.Module:
    """Returns a small network with batch norm and dropout, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(96, 2)]
        return nn.Sequential(*layers)


def steps(n: int, lr: float = 0.05) -> Callable[[], float | None]:
    """Returns a rate that lasts for ``n`` steps."""
    left = iter([lr] * n)
    return lambda: next(left, None)


def test_stopped_and_continued_is_the_same_as_in_one_go(tmp_path: Path) -> None:
    whole = Anytime(network(), pixels(), RECIPE, seed=5)
    assert whole.run(steps(23))
    first = Anytime(network(), pixels(), RECIPE, seed=5)
    first.run(steps(9))
    first.save(tmp_path / "a", seconds=1.5)
    second = Anytime(network(), pixels(), RECIPE, seed=5)
    assert second.load(tmp_path / "a")["seconds"] == 1.5
    second.run(steps(14))
    assert (second.steps, second.images, second.passes) == (whole.steps, whole.images, pytest.approx(whole.passes))
    assert all(torch.equal(a, b) for a, b in zip(whole.model.state_dict().values(), second.model.state_dict().values()))
    assert all(torch.equal(a, b) for a, b in zip(whole.trail.state_dict()["average"], second.trail.state_dict()["average"]))


def test_a_training_that_went_on_with_more_images_continues_with_them(tmp_path: Path) -> None:
    more = pixels(120, seed=1)

    def begin() -> Anytime:
        training = Anytime(network(), pixels(), RECIPE, seed=5)
        training.run(steps(7))
        training.join(more)
        return training

    whole = begin()
    whole.run(steps(10))
    part = begin()
    part.run(steps(4))
    part.save(tmp_path / "a")
    again = Anytime(network(), pixels(), RECIPE, seed=5)
    again.load(tmp_path / "a", more)
    again.run(steps(6))
    assert all(torch.equal(a, b) for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values()))
    with pytest.raises(StateError, match="missing here"):
        Anytime(network(), pixels(), RECIPE, seed=5).load(tmp_path / "a")


def test_the_average_looks_back_over_a_share_of_all_steps() -> None:
    model = nn.Linear(1, 1, bias=False)
    trail = Trail(model, weight=8.0)
    for value in range(1, 1001):
        nn.init.constant_(model.weight, float(value))
        trail.update()
    with trail.applied():
        assert model.weight.item() == pytest.approx(1000 * 9 / 10, rel=0.01)  # weights of step t go with t^8
    assert model.weight.item() == 1000


def test_average_weights_get_statistics_of_their_own_and_everything_is_put_back() -> None:
    training = Anytime(network(0.0), pixels(), RECIPE, seed=1)
    training.run(steps(30))
    before = {name: value.clone() for name, value in training.model.state_dict().items() if value.is_floating_point()}
    norm = training.model[1]  # type: ignore[index]
    with training.averaged() as model:
        mean = norm.running_mean.clone()
        x = training.cursor.plain(training.cursor.pixels.batch(torch.arange(80))[0])
        assert torch.allclose(mean, model[0](x).mean((0, 2, 3)), atol=1e-4)  # type: ignore[index]
        assert evaluate(model, pixels(seed=3)).accuracy > 0.9
    after = training.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert norm.momentum == 0.1


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    training = Anytime(network(), pixels(), RECIPE.with_(grad_clip=0.0), seed=1)
    assert not training.run(steps(200, lr=1e9))
    assert training.steps < 200
    assert not math.isfinite(training.loss)


def test_global_randomness_is_left_alone() -> None:
    state = torch.get_rng_state()
    Anytime(network(), pixels(), RECIPE, seed=1).run(steps(3))
    assert torch.equal(state, torch.get_rng_state())


def test_the_precision_is_one_that_recipes_know() -> None:
    assert best_precision("cpu") in ("bf16", "fp32")
