"""The optimizers against torch.optim."""

from __future__ import annotations

import pytest
import torch
from conftest import Small
from torch import nn

from archduel.errors import SettingError
from archduel.training.optimizer import SGD, AdamW, optimizer_for, sgd_settings
from archduel.training.recipe import Recipe
from archduel.training.runtime import seeded_build


@pytest.mark.parametrize(("channels_last", "nesterov"), [(False, True), (True, True), (False, False)])
@pytest.mark.parametrize(
    ("momentum", "decay_norm_bias", "clip"), [(0.9, True, 0.0), (0.9, False, 0.5), (0.0, True, 0.5), (0.0, False, 0.0)]
)
def test_it_is_that_of_torch(
    channels_last: bool, nesterov: bool, momentum: float, decay_norm_bias: bool, clip: float
) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    mine, theirs = (seeded_build(Small, 3).to(memory_format=layout).eval() for _ in range(2))
    ours = SGD(
        mine, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=0.05, decay_norm_bias=decay_norm_bias, grad_clip=clip
    )
    plain = [p for p in theirs.parameters() if p.ndim == 1]
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim > 1]},
        {"params": plain, "weight_decay": 0.05 if decay_norm_bias else 0.0},
    ]
    reference = torch.optim.SGD(groups, lr=0.1, momentum=momentum, nesterov=nesterov and momentum > 0, weight_decay=0.05)
    _same_steps(mine, ours, theirs, reference, clip, layout)


def _same_steps(
    mine: nn.Module, ours: SGD | AdamW, theirs: nn.Module, reference: torch.optim.Optimizer, clip: float, layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    for step in range(4):
        x = torch.randn(6, 3, 8, 8, generator=generator).to(memory_format=layout)
        for model, optimizer in ((mine, ours), (theirs, reference)):
            if step == 2:
                ours.lr *= 0.3
                for group in reference.param_groups:
                    group["lr"] *= 0.3
            optimizer.zero_grad()
            (3 * model(x).square().mean()).backward()
            if clip and model is theirs:
                assert nn.utils.clip_grad_norm_(theirs.parameters(), clip) > clip or step
            optimizer.step()
            if step == 2:
                ours.lr /= 0.3
                for group in reference.param_groups:
                    group["lr"] /= 0.3
        for a, b in zip(mine.parameters(), theirs.parameters()):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("channels_last", "decay_norm_bias", "clip"), [(False, True, 0.0), (True, False, 0.5)])
def test_adamw_is_that_of_torch(channels_last: bool, decay_norm_bias: bool, clip: float) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    mine, theirs = (seeded_build(Small, 3).to(memory_format=layout).eval() for _ in range(2))
    ours = AdamW(mine, lr=0.01, weight_decay=0.05, decay_norm_bias=decay_norm_bias, grad_clip=clip)
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim > 1]},
        {"params": [p for p in theirs.parameters() if p.ndim == 1], "weight_decay": 0.05 if decay_norm_bias else 0.0},
    ]
    _same_steps(mine, ours, theirs, torch.optim.AdamW(groups, lr=0.01, weight_decay=0.05), clip, layout)


class Ordered(nn.Sequential):
    """Two layers that say their order."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 2), nn.Linear(2, 1))

    def in_order(self) -> list[nn.Module]:
        """Returns both."""
        return [self[0], self[1]]


def test_the_first_step_of_adamw_is_the_rate_of_its_layer() -> None:
    model = seeded_build(Ordered, 0)
    before = [p.clone() for p in model.parameters()]
    optimizer = optimizer_for(model, Recipe(optimizer="adamw", lr=0.01, weight_decay=0.0, layer_decay=0.5))
    assert isinstance(optimizer, AdamW)
    model(torch.tensor([[1.0, 1000.0]])).sum().backward()
    optimizer.step()
    steps = [float((p - b).detach().abs().max()) for p, b in zip(model.parameters(), before)]
    assert steps == pytest.approx([0.005, 0.005, 0.01, 0.01], rel=1e-3)  # whatever the sizes of the gradients


def test_velocities_of_an_older_run_are_left() -> None:
    model = seeded_build(lambda: nn.Linear(2, 1), 0)
    optimizer = AdamW(model, lr=0.1)
    optimizer.load_state_dict(SGD(model, lr=0.1).state_dict())
    assert all(not tensor.any() for tensors in optimizer.state_dict().values() for group in tensors for tensor in group)


@pytest.mark.parametrize(("name", "value", "known"), [("optimizer", "adamw", "'sgd'"), ("frozen_norms", True, "False"), ("layer_decay", 0.8, "1.0")])
def test_what_only_one_network_alone_is_trained_with_is_refused_for_several(name: str, value: object, known: str) -> None:
    with pytest.raises(SettingError, match=f"trained with {name} {known}, got {value!r}; set it to {known}, or train one by one"):
        sgd_settings(Recipe(**{name: value}))
    model = seeded_build(lambda: nn.Linear(2, 1), 0)
    assert type(optimizer_for(model, Recipe(**{name: value}))) is (AdamW if value == "adamw" else SGD)


def test_parameters_without_a_gradient_stay() -> None:
    model = seeded_build(lambda: nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)]), 0)
    model[1].bias.requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    optimizer = SGD(model, lr=0.1, weight_decay=0.1, grad_clip=1.0)
    optimizer.step()  # none has one
    model[0](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    moved = [bool((p != b).any()) for p, b in zip(model.parameters(), before)]
    assert moved == [True, True, False, False]


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_its_state_continues(kind: type[SGD] | type[AdamW]) -> None:
    def steps(model: nn.Module, optimizer: SGD | AdamW, n: int) -> None:
        for _ in range(n):
            optimizer.zero_grad()
            model(torch.ones(1, 2)).square().sum().backward()
            optimizer.step()

    build = lambda: nn.Linear(2, 1)  # noqa: E731
    whole = seeded_build(build, 0)
    steps(whole, kind(whole, lr=0.1), 5)
    first, second = seeded_build(build, 0), seeded_build(build, 1)
    optimizer = kind(first, lr=0.1)
    steps(first, optimizer, 3)
    second.load_state_dict(first.state_dict())
    resumed = kind(second, lr=0.1)
    resumed.load_state_dict(optimizer.state_dict())
    steps(second, resumed, 2)
    assert torch.equal(whole.weight, second.weight)
