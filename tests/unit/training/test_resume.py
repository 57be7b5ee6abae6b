"""A training that was interrupted continues exactly."""

from __future__ import annotations

import pytest
import torch
from conftest import Small

from archduel.core.storage import save_state
from archduel.errors import StateError
from archduel.training.loop import train
from archduel.training.runtime import seeded_build


class Killed(Exception):
    """Stands for whatever ended the process."""


VARIANTS = {
    "plain": {},
    "everything": {
        "ema": 0.9, "mixup": 0.2, "cutout": 2, "crop_pad": 1, "flip": True, "warmup_epochs": 1.5, "channels_last": True,
        "precision": "fp16", "data_fraction": 0.8, "epochs": 3.75, "decay_norm_bias": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("killed_in", [1, 2, 3])
def test_resumed_equals_uninterrupted(changes, killed_in, task, held_out, recipe, tmp_path) -> None:
    recipe = recipe.with_(**changes)
    whole = seeded_build(Small, 5)
    expected = train(whole, task, recipe, seed=3, validation=held_out)

    path = tmp_path / "training.safetensors"
    steps = 0

    def kill() -> bool:
        nonlocal steps
        steps += 1
        if steps > 4 * killed_in + 2:  # in the middle of an epoch
            raise Killed
        return False

    with pytest.raises(Killed):
        train(seeded_build(Small, 5), task, recipe, seed=3, checkpoint=path, checkpoint_seconds=0, validation=held_out, stop=kill)
    resumed = seeded_build(Small, 99)  # other initial weights: all must come from the file
    epochs = []
    result = train(
        resumed, task, recipe, seed=3, checkpoint=path, checkpoint_seconds=0, validation=held_out, on_epoch=epochs.append
    )
    assert 0 < len(epochs) < len(expected.history)
    assert result.history == expected.history
    assert (result.images, result.reason) == (expected.images, "")
    assert all(torch.equal(whole.state_dict()[name], tensor) for name, tensor in resumed.state_dict().items())


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_finished_training_returns_at_once(ema, task, recipe, small, tmp_path) -> None:
    path, recipe = tmp_path / "training.safetensors", recipe.with_(ema=ema)
    first = train(small, task, recipe, seed=3, checkpoint=path)
    again = seeded_build(Small, 99)
    result = train(again, task, recipe, seed=3, checkpoint=path, stop=lambda: pytest.fail("it trained again"))
    assert (result.history, result.images) == (first.history, first.images)
    assert all(torch.equal(small.state_dict()[name], tensor) for name, tensor in again.state_dict().items())


def test_checkpoints_are_not_written_more_often_than_said(task, recipe, small, tmp_path) -> None:
    path = tmp_path / "training.safetensors"
    there = []
    train(small, task, recipe, seed=3, checkpoint=path, checkpoint_seconds=1e9, on_epoch=lambda _: there.append(path.exists()))
    assert there == [False, False, False, True]


def test_another_training_is_refused_by_its_difference(task, recipe, small, tmp_path) -> None:
    path = tmp_path / "training.safetensors"
    train(small, task, recipe, seed=3, checkpoint=path)
    with pytest.raises(StateError, match=r"lr 0\.1 \(now 0\.2\)"):
        train(small, task, recipe.with_(lr=0.2), seed=3, checkpoint=path)
    with pytest.raises(StateError, match=r"seed 3 \(now 4\)"):
        train(small, task, recipe, seed=4, checkpoint=path)
    with pytest.raises(StateError, match="does not fit this network"):
        train(seeded_build(lambda: Small(classes=7), 0), task, recipe, seed=3, checkpoint=path)


def test_a_state_that_is_no_checkpoint_is_refused(task, recipe, small, tmp_path) -> None:
    path = tmp_path / "training.safetensors"
    save_state(path, {"weights": 1})
    with pytest.raises(StateError, match="not a checkpoint"):
        train(small, task, recipe, seed=3, checkpoint=path)


@pytest.mark.parametrize("how", ["empty", "text", "cut", "flipped", "zeros"])
def test_a_damaged_checkpoint_is_put_aside_and_the_training_begins_again(how, task, recipe, tmp_path) -> None:
    path, fresh = tmp_path / "training.safetensors", seeded_build(Small, 0)
    train(fresh, task, recipe, seed=3, checkpoint=path)
    data = path.read_bytes()
    middle = len(data) // 2
    damaged = {
        "empty": b"", "text": b"not this", "cut": data[:middle], "zeros": bytes(len(data)),
        "flipped": data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :],
    }  # fmt: skip
    path.write_bytes(damaged[how])
    notes: list[str] = []
    again = seeded_build(Small, 0)
    result = train(again, task, recipe, seed=3, checkpoint=path, on_note=notes.append)
    assert len(result.history) == recipe.epochs
    assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), again.state_dict().values()))
    assert "training.safetensors is not a saved state" in notes[0]
    assert (tmp_path / "training.safetensors.damaged").read_bytes() == damaged[how]

