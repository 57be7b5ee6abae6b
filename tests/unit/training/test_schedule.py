"""Steps, learning rates and drop path, by hand."""

from __future__ import annotations

import pytest

from archduel.training.optimizer import drop_path_at, learning_rate, plan
from archduel.training.recipe import Recipe


@pytest.mark.parametrize(
    ("n", "batch", "epochs", "per_epoch", "steps"),
    [
        (100, 50, 2, 2, 4),
        (101, 50, 2, 3, 6),
        (10, 64, 3, 1, 3),  # a batch size above the number of images is one batch of all
        (3, 2, 1, 1, 1),  # no batch of a single image
        (2, 1, 1, 1, 1),
        (100, 10, 0.25, 10, 2),
        (100, 10, 1.5, 10, 15),
        (100, 100, 0.1, 1, 1),  # at least one step
    ],
)
def test_steps(n: int, batch: int, epochs: float, per_epoch: int, steps: int) -> None:
    result = plan(Recipe(epochs=epochs, batch_size=batch), n)
    assert (result.per_epoch, result.steps) == (per_epoch, steps)
    assert sum(len(result.steps_of(epoch)) for epoch in range(result.epochs)) == steps


def rates(**settings: object) -> list[float]:
    recipe = Recipe(epochs=2, batch_size=10, lr=0.8, **settings)  # type: ignore[arg-type]
    total = plan(recipe, 40)
    return [learning_rate(recipe, step, total) for step in range(total.steps)]


def test_cosine() -> None:
    root = 0.8 * 0.5 * (1 + 2**-0.5)
    assert rates()[::2] == pytest.approx([0.8, root, 0.4, 0.8 - root])
    assert rates(lr_min=0.2)[4] == pytest.approx(0.5)


def test_linear_and_constant() -> None:
    assert rates(schedule="linear") == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert rates(schedule="linear", lr_min=0.4)[4] == pytest.approx(0.6)
    assert rates(schedule="constant") == [0.8] * 8


def test_warm_up_rises_linearly_to_the_peak_then_the_schedule_begins() -> None:
    assert rates(schedule="linear", warmup_epochs=1) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.6, 0.4, 0.2])
    assert rates(warmup_epochs=0.5)[:3] == pytest.approx([0.4, 0.8, 0.8])
    assert rates(warmup_epochs=9)[-1] == pytest.approx(0.8)  # longer than the training: it only rises


def test_drop_path_rises_over_the_epochs() -> None:
    recipe = Recipe(epochs=4, drop_path=0.2)
    assert [drop_path_at(recipe, epoch) for epoch in range(4)] == pytest.approx([0, 0.05, 0.1, 0.15])
