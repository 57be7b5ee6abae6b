"""The loop: it learns, repeats itself exactly, obeys the recipe, and fails in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import Small, stripes
from torch import nn

from archduel.errors import DataError, MachineError
from archduel.training.images import Pixels
from archduel.training.loop import train
from archduel.training.metrics import evaluate
from archduel.training.recipe import Recipe
from archduel.training.runtime import seeded_build


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


FEATURES = {
    "plain": {},
    "warm-up, smoothing, clip": {"warmup_epochs": 0.5, "label_smoothing": 0.1, "grad_clip": 1.0},
    "mixup": {"mixup": 0.2, "epochs": 8},
    "cutout": {"cutout": 2},
    "average": {"ema": 0.9},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "channels last": {"channels_last": True},
    "no momentum, no clip": {"momentum": 0.0, "grad_clip": 0.0},
    "no decay of norms": {"decay_norm_bias": False, "schedule": "linear"},
    "auxiliary": {"auxiliary_weight": 0.4},
}


@pytest.mark.parametrize("changes", FEATURES.values(), ids=FEATURES.keys())
def test_it_learns_and_the_seed_decides_everything(changes, task, held_out, recipe) -> None:
    recipe = recipe.with_(**changes)
    runs = []
    for seed in (1, 1, 2):
        model = seeded_build(lambda: Small(auxiliary=recipe.auxiliary_weight > 0), 5)
        result = train(model, task, recipe, seed=seed, validation=held_out)
        assert result.reason == ""
        assert len(result.history) == recipe.epochs
        assert result.images == recipe.epochs * len(task)
        assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
        runs.append(weights(model))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])
    assert evaluate(model, held_out).accuracy == result.history[-1]["val_accuracy"] > 0.6


def test_the_history_says_what_happened(task, held_out, recipe, small) -> None:
    seen = []
    result = train(small, task, recipe.with_(epochs=1.6), seed=0, validation=held_out, on_epoch=seen.append)
    assert seen == result.history
    assert [epoch["epoch"] for epoch in seen] == [1.0, 1.6]
    assert set(seen[0]) == {"epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    assert result.images == 150 + 90
    assert seen[0]["lr"] == pytest.approx(0.05 * (1 + math.cos(math.pi * 4 / 8)))


def test_one_step_is_the_formula() -> None:
    """One step without momentum: w - lr (gradient + decay w), clipped."""
    images, labels = stripes(6)
    pixels = Pixels(images, labels, (0.0,) * 3, (1.0,) * 3)
    model = seeded_build(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), 0)
    recipe = Recipe(
        epochs=1, batch_size=6, lr=0.5, momentum=0, weight_decay=0.1, grad_clip=0.3, schedule="constant",
        crop_pad=0, flip=False, image_size=8, label_smoothing=0.2, decay_norm_bias=False,
    )  # fmt: skip
    w, b = (p.detach().double() for p in (model[1].weight, model[1].bias))
    x = torch.from_numpy(images).double().flatten(1) / 255
    target = torch.eye(4, dtype=torch.double)[labels] * 0.8 + 0.05
    error = ((x @ w.T + b).softmax(1) - target) / 6
    grads = [error.T @ x, error.sum(0)]
    norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
    assert norm > 0.3
    scale = 0.3 / norm
    train(model, pixels, recipe, seed=0)
    torch.testing.assert_close(model[1].weight.double(), w - 0.5 * (scale * grads[0] + 0.1 * w), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model[1].bias.double(), b - 0.5 * scale * grads[1], rtol=1e-4, atol=1e-6)


def test_the_auxiliary_loss_trains_the_auxiliary_head(task, recipe) -> None:
    for weight, moved in ((0.4, True), (0.0, False)):
        model = seeded_build(lambda: Small(auxiliary=True), 5)
        before = model.auxiliary.weight.clone()
        train(model, task, recipe.with_(epochs=1, auxiliary_weight=weight, weight_decay=0), seed=0)
        assert bool((model.auxiliary.weight != before).any()) is moved


def test_drop_path_is_set_before_each_epoch(task, recipe, small) -> None:
    told = []
    recipe = recipe.with_(drop_path=0.2)
    train(small, task, recipe, seed=0, drop_path=lambda model, p: told.append((model is small, p)))
    assert told == [(True, pytest.approx(0.05 * epoch)) for epoch in range(4)]


def test_the_average_is_what_stays(task, recipe) -> None:
    """With a decay of 0 the average is the weights themselves; with one near 1 it lags behind."""
    runs = {}
    for ema in (0.0, 1e-12, 0.9):
        model = seeded_build(Small, 5)
        train(model, task, recipe.with_(ema=ema), seed=1)
        runs[ema] = weights(model)
    assert all(torch.allclose(runs[0.0][name], runs[1e-12][name], atol=1e-6) for name in runs[0.0])
    assert not same(runs[0.0], runs[0.9])


def test_a_loss_that_is_not_finite_ends_the_training_with_a_reason(task, recipe, small) -> None:
    result = train(small, task, recipe.with_(lr=1e20, grad_clip=0.0), seed=0)
    assert "not finite" in result.reason
    assert result.images <= recipe.epochs * len(task)


class TooLarge(nn.Module):
    """Needs more memory than there is, from its third batch."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.inner, self.calls, self.error = Small(), 0, error

    def forward(self, x):
        self.calls += 1
        if self.calls == 3:
            raise self.error
        return self.inner(x)


def test_too_little_memory_of_a_gpu_is_a_reason(task, recipe) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    result = train(seeded_build(lambda: TooLarge(error), 0), task, recipe, seed=0)
    assert result.reason.startswith("out of memory")
    assert result.images == 60  # two batches of 30


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 9 TB"), RuntimeError("std::bad_alloc")])
def test_too_little_memory_of_the_machine_says_nothing_of_the_network(error, task, recipe) -> None:
    with pytest.raises(MachineError, match="too little memory at present"):
        train(seeded_build(lambda: TooLarge(error), 0), task, recipe, seed=0)


def test_other_errors_are_not_hidden(task, recipe) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        train(seeded_build(lambda: TooLarge(RuntimeError("a bug")), 0), task, recipe, seed=0)


def test_it_can_be_stopped_between_steps(task, recipe, small) -> None:
    asked = []
    result = train(small, task, recipe, seed=0, stop=lambda: len(asked) == 7 or asked.append(1) is not None)
    assert result.reason == "stopped in epoch 2 of 4"
    assert result.images == 7 * 30
    assert len(result.history) == 1


@pytest.mark.parametrize("n", [2, 3, 33, 65])
def test_no_batch_has_a_single_image(n, recipe) -> None:
    """33 and 65 images in batches of 32 would leave one over, which batch norm on 1 x 1 maps cannot take."""
    model = seeded_build(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 4)), 0)
    result = train(model, Pixels(*stripes(n), (0.35,) * 3, (0.2,) * 3), recipe, seed=0)
    assert result.reason == ""
    assert result.images == 4 * n


def test_one_image_is_too_few(recipe, small) -> None:
    with pytest.raises(DataError, match="at least 2 images"):
        train(small, Pixels(*stripes(1), (0.35,) * 3, (0.2,) * 3), recipe, seed=0)


def test_a_share_of_the_data(task, recipe, small) -> None:
    result = train(small, task, recipe.with_(data_fraction=0.5), seed=0)
    share = result.images / 4
    assert 73 <= share <= 77  # half of each of the four classes, rounded


def test_grey_images_of_another_size(recipe) -> None:
    pixels = Pixels(*stripes(60, channels=1, size=12), (0.35,), (0.2,))
    sizes = []
    model = seeded_build(lambda: Small(channels=1), 0)
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[1:])))
    result = train(model, pixels, recipe, seed=0, validation=pixels)
    assert result.reason == ""
    assert set(sizes) == {(1, 8, 8)}


def test_memory_map_and_tensor_train_alike(tmp_path, recipe) -> None:
    images, labels = stripes(60)
    np.save(tmp_path / "images.npy", images)
    outcomes = []
    for source in (images, torch.from_numpy(images), np.load(tmp_path / "images.npy", mmap_mode="r")):
        model = seeded_build(Small, 5)
        train(model, Pixels(source, labels, (0.35,) * 3, (0.2,) * 3), recipe, seed=0)
        outcomes.append(weights(model))
    assert same(outcomes[0], outcomes[1])
    assert same(outcomes[0], outcomes[2])


def test_training_flags_come_back(task, recipe, small) -> None:
    small.eval()
    small.head.train()
    train(small, task, recipe.with_(epochs=1), seed=0)
    assert not small.training
    assert small.head.training
