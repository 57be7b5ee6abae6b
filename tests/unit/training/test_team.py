"""Parts of a step: every image once, weights that do not depend on how the step is cut; averages over processes."""

from __future__ import annotations

import pytest
import torch
from conftest import Small, stripes
from torch import nn

from archduel.errors import RunError, SettingError
from archduel.training.distributed import ALONE, Team, joined, member, peers_lost, unused_parameters
from archduel.training.images import Pixels, Streamed
from archduel.training.loop import train
from archduel.training.norms import SyncedBatchNorm2d, synced
from archduel.training.recipe import Recipe
from archduel.training.runtime import channels_last_for, seeded_build


@pytest.mark.parametrize(("size", "accumulate", "n"), [(1, 1, 7), (2, 1, 7), (3, 2, 20), (4, 3, 25)])
def test_every_image_of_a_step_belongs_to_one_part(size: int, accumulate: int, n: int) -> None:
    parts = [part for rank in range(size) for part in Team(rank, size, accumulate).parts(n)]
    assert [row for part in parts for row in range(n)[part]] == list(range(n))
    assert max(len(range(n)[p]) for p in parts) - min(len(range(n)[p]) for p in parts) <= 1


def without_norm() -> nn.Module:
    model = Small(auxiliary=True)
    for norm in (1, 4):
        model.body[norm] = nn.Identity()
    model.drop = nn.Identity()
    return model


def test_micro_batches_add_up_to_the_step() -> None:
    pixels = Pixels(*stripes(50), (0.4,) * 3, (0.25,) * 3)
    recipe = Recipe(epochs=2, batch_size=20, lr=0.05, crop_pad=1, cutout=2, auxiliary_weight=0.4, image_size=8)
    models = []
    for accumulate in (1, 3):
        model = seeded_build(without_norm, 1)
        result = train(model, pixels, recipe, seed=0, team=Team(accumulate=accumulate))
        models.append((model, result))
    (one, first), (three, second) = models
    for a, b in zip(one.parameters(), three.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert first.images == second.images == 100
    assert [e["train_loss"] for e in first.history] == pytest.approx([e["train_loss"] for e in second.history], rel=1e-4)


def test_a_step_too_small_for_the_team_is_refused() -> None:
    pixels = Pixels(*stripes(30), (0.4,) * 3, (0.25,) * 3)
    with pytest.raises(SettingError, match="a step of 10 images is too small for 1 processes x 6 micro-batches; it needs at least 12"):
        train(seeded_build(Small, 0), pixels, Recipe(batch_size=10, image_size=8), seed=0, team=Team(accumulate=6))


def test_without_a_launcher_there_is_one_process(monkeypatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert member() == (0, 1, 0)
    with joined(torch.device("cpu"), accumulate=2) as team:
        assert (team.main, team.size, team.accumulate) == (True, 1, 2)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert member() == (5, 8, 1)


def test_a_lost_process_is_said_in_words_and_other_errors_stay() -> None:
    with pytest.raises(RunError, match="another of the 4 processes"), peers_lost(4):
        raise RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="shape"), peers_lost(4):
        raise RuntimeError("shape mismatch")


def test_synchronised_norms_compute_what_plain_ones_do(monkeypatch) -> None:
    monkeypatch.setattr("torch.distributed.all_reduce", lambda value: None)  # a team of one
    plain, other = (seeded_build(Small, 3) for _ in range(2))
    plain.drop = other.drop = nn.Identity()
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with synced(other, True):
        assert type(other.body[1]) is SyncedBatchNorm2d
        for model in (plain, other):
            model.train()(x).square().sum().backward()
    assert type(other.body[1]) is nn.BatchNorm2d
    for a, b in zip(plain.parameters(), other.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])
    torch.testing.assert_close(plain.eval()(x), other.eval()(x))


def test_parameters_that_no_output_needs_are_found() -> None:
    torch_state = torch.get_rng_state()  # dropout draws; the loop keeps the global numbers, the function alone does not

    class Loose(Small):
        def __init__(self) -> None:
            super().__init__()
            self.loose = nn.Linear(2, 2)

    pixels = Pixels(*stripes(10), (0.4,) * 3, (0.25,) * 3)
    assert unused_parameters(seeded_build(Loose, 0), pixels, torch.device("cpu")) == ["loose.weight", "loose.bias"]
    assert unused_parameters(seeded_build(Small, 0), pixels, torch.device("cpu")) == []
    torch.set_rng_state(torch_state)
    assert ALONE.total(torch.ones(2)).tolist() == [1, 1]


class Memory:
    """A stream whose images are in memory."""

    class preprocessing:
        size, mean, std = 8, (0.4,) * 3, (0.25,) * 3

    def __init__(self, images) -> None:
        self.images = images

    def batches(self, parts, seed=0):
        for part in parts:
            yield self.images[part]


def test_a_stream_trains_as_pixels_do() -> None:
    images, labels = stripes(60)
    recipe = Recipe(epochs=2, batch_size=20, lr=0.05, crop_pad=1, image_size=8, data_fraction=0.5)
    models = []
    for task in (Pixels(images, labels, (0.4,) * 3, (0.25,) * 3), Streamed(Memory(images), labels)):
        model = seeded_build(Small, 1)
        train(model, task, recipe, seed=0, validation=task.subset(torch.arange(9)))
        models.append(model.state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    with pytest.raises(SettingError, match="read at 8 px, training wants 16"):
        task.resized(16)


def test_networks_that_torch_crashes_on_are_trained_channels_first() -> None:
    class Halving(Small):
        def __init__(self) -> None:
            super().__init__()
            self.body[0] = nn.Sequential(nn.Conv2d(3, 4, 1, 2, bias=False), nn.Conv2d(4, 8, 1, bias=False))

    halving, plain = seeded_build(Halving, 0), seeded_build(Small, 0)
    large, cpu = Recipe(image_size=64), torch.device("cpu")
    assert not channels_last_for(halving, large, cpu)
    assert channels_last_for(halving, large.with_(image_size=32), cpu)
    assert channels_last_for(halving, large, torch.device("cuda"))
    assert channels_last_for(plain, large, cpu)
    assert not channels_last_for(plain, large.with_(channels_last=False), cpu)
    images, labels = stripes(50, size=64)
    task = Pixels(images, labels, (0.4,) * 3, (0.25,) * 3)
    result = train(seeded_build(Halving, 0), task, Recipe(epochs=2, batch_size=25, image_size=64), seed=0)
    assert result.reason == ""
