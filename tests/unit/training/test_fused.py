"""Networks trained together end as each ends alone: every operation of the three cell spaces, diverging ones, early ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archduel import registry
from archduel.core import Arch, Scale, Space, parse, sample
from archduel.errors import SettingError
from archduel.fusing.networks import fuse
from archduel.fusing.training import evaluate_fused, train_fused
from archduel.spaces.family import build
from archduel.spaces.layers import set_drop_path
from archduel.training.images import Pixels
from archduel.training.loop import train
from archduel.training.metrics import evaluate
from archduel.training.recipe import Recipe
from archduel.training.runtime import seeded_build

SIDE = 8
SCALES = {
    "nasbench201": Scale(2, 1, SIDE, 1, 3),
    "darts": Scale(2, 3, SIDE, 1, 3),
    "nasbench101": Scale(6, 1, SIDE, 1, 3),
}
RECIPE = Recipe(
    epochs=10,
    batch_size=8,
    lr=0.02,
    crop_pad=1,
    cutout=2,
    channels=2,
    depth=1,
    image_size=SIDE,
    grad_clip=0.0,
)


class AsDouble(nn.Module):
    """A network of doubles for images of floats."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.double())  # type: ignore[no-any-return]


def pixels(n: int = 40) -> Pixels:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 1, SIDE, SIDE), dtype=np.uint8)
    return Pixels(images, rng.integers(0, 3, n), (0.5,), (0.25,))


def archs_of(space: str, n: int = 3) -> list[Arch]:
    """Returns architectures that together have every operation."""
    if space == "nasbench201":
        return [
            parse("nasbench201:3.2.1.4.0.3"),
            parse("nasbench201:3.3.3.3.3.3"),
            parse("nasbench201:0.1.0.4.2.0"),
        ]
    home: Space = registry.make("space", space)
    rng = np.random.default_rng(1)
    found = [sample(home, rng) for _ in range(20)]
    chosen: list[Arch] = []
    while len(chosen) < n:  # the next that has most operations that the others do not have
        have = {choice for arch in chosen for choice in arch.choices}
        chosen.append(max(found, key=lambda arch: len(set(arch.choices) - have)))
    return chosen


def built(space: str, dtype: torch.dtype, *, auxiliary: bool = False) -> list[nn.Module]:
    return [
        seeded_build(lambda arch=arch: build(arch, SCALES[space], auxiliary=auxiliary), seed).to(dtype)  # type: ignore[misc]
        for seed, arch in enumerate(archs_of(space))
    ]


def difference(ones: Sequence[nn.Module], others: Sequence[nn.Module]) -> float:
    """Returns the largest difference of weights and used statistics."""
    pairs = [p for one, other in zip(ones, others) for p in zip(one.parameters(), other.parameters())]
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize(
    ("space", "own"),
    [("nasbench201", False), ("nasbench201", True), ("darts", True), ("nasbench101", False)],
    ids=lambda value: value if isinstance(value, str) else "own-batches" if value else "shared-batches",
)
def test_fifty_steps_in_float64(space: str, own: bool) -> None:
    alone, together = built(space, torch.float64), built(space, torch.float64)
    seeds = [5, 6, 7] if own else [5, 5, 5]
    for network, seed in zip(alone, seeds):
        train(AsDouble(network), pixels(), RECIPE, seed=seed)
    fused = fuse(together, SCALES[space], dtype=torch.float64)
    after, numbers, trained = train_fused(fused, pixels(), RECIPE, seeds=seeds if own else [5])
    assert numbers == [0, 1, 2]
    assert [t.images for t in trained] == [400] * 3
    judged = evaluate_fused(after, pixels())
    assert difference(alone, after.extract()) < 1e-9  # type: ignore[attr-defined]
    for network, said in zip(alone, judged):
        np.testing.assert_allclose(
            evaluate(AsDouble(network), pixels()).probabilities, said.probabilities, atol=1e-6
        )


@pytest.mark.parametrize("space", list(SCALES))
def test_five_steps_in_float32_with_clipping(space: str) -> None:
    recipe = RECIPE.with_(epochs=1, grad_clip=1.0, mixup=0.2, label_smoothing=0.1, ema=0.9)
    alone, together = built(space, torch.float32), built(space, torch.float32)
    histories = [train(network, pixels(), recipe, seed=5).history for network in alone]
    after, _, trained = train_fused(fuse(together, SCALES[space]), pixels(), recipe, seeds=[5])
    assert difference(alone, after.extract()) < 1e-5  # type: ignore[attr-defined]
    for history, result in zip(histories, trained):
        assert result.history[-1] == pytest.approx(history[-1], abs=1e-5)


def test_drop_path_and_auxiliary_heads() -> None:
    recipe = RECIPE.with_(epochs=2, drop_path=0.4, auxiliary_weight=0.4)
    alone = built("darts", torch.float64, auxiliary=True)
    together = built("darts", torch.float64, auxiliary=True)
    for network in alone:
        train(AsDouble(network), pixels(), recipe, seed=5, drop_path=set_drop_path)
    after, _, _ = train_fused(
        fuse(together, SCALES["darts"], dtype=torch.float64), pixels(), recipe, seeds=[5]
    )
    assert difference(alone, after.extract()) < 1e-9  # type: ignore[attr-defined]


def test_a_network_that_diverges_leaves_and_the_others_do_not_notice() -> None:
    recipe = RECIPE.with_(epochs=3)
    alone, together = built("nasbench201", torch.float64), built("nasbench201", torch.float64)
    with torch.no_grad():
        next(together[1].parameters()).fill_(float("nan"))
    for network in alone:
        train(AsDouble(network), pixels(), recipe, seed=5)
    fused = fuse(together, SCALES["nasbench201"], dtype=torch.float64)
    after, numbers, trained = train_fused(fused, pixels(), recipe, seeds=[5])
    assert numbers == [0, 2]
    assert "not finite in epoch 1" in trained[1].reason
    assert [t.reason for t in (trained[0], trained[2])] == ["", ""]
    assert difference([alone[0], alone[2]], after.extract()) < 1e-9  # type: ignore[attr-defined]


def test_all_networks_diverging_ends_the_training() -> None:
    networks = built("nasbench201", torch.float32)
    after, numbers, trained = train_fused(
        fuse(networks, SCALES["nasbench201"]), pixels(), RECIPE.with_(lr=1e30), seeds=[5]
    )
    assert numbers == []
    assert all("not finite" in t.reason for t in trained)
    assert len(after) == 3


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_early_ends_shrink_the_batch(ema: float) -> None:
    recipe = RECIPE.with_(epochs=4, ema=ema)
    alone, together = built("nasbench201", torch.float64), built("nasbench201", torch.float64)
    asked = []

    def worst_out(epochs: int, numbers: list[int], latest: list[dict[str, float]]) -> list[int]:
        asked.append((epochs, list(numbers)))
        return [n for n in numbers if n != 1] if epochs == 2 else numbers

    for network in alone:
        train(AsDouble(network), pixels(), recipe, seed=5)
    fused = fuse(together, SCALES["nasbench201"], dtype=torch.float64)
    after, numbers, trained = train_fused(
        fused, pixels(), recipe, seeds=[5], validation=pixels(10), prune=worst_out
    )
    assert asked == [(1, [0, 1, 2]), (2, [0, 1, 2]), (3, [0, 2])]
    assert numbers == [0, 2]
    assert trained[1].reason == "stopped early after epoch 2 of 4"
    assert [len(t.history) for t in trained] == [4, 2, 4]
    assert difference([alone[0], alone[2]], after.extract()) < 1e-9  # type: ignore[attr-defined]


@pytest.mark.parametrize("nesterov", [False, True])
def test_learning_rates_of_their_own(nesterov: bool) -> None:
    alone, together = built("nasbench201", torch.float64), built("nasbench201", torch.float64)
    rates = [1.0, 0.5, 2.0]
    for network, rate in zip(alone, rates):
        recipe = RECIPE.with_(lr=rate * RECIPE.lr, epochs=3, nesterov=nesterov)
        train(AsDouble(network), pixels(), recipe, seed=5)
    fused = fuse(together, SCALES["nasbench201"], dtype=torch.float64)
    together_recipe = RECIPE.with_(epochs=3, nesterov=nesterov)
    after, _, trained = train_fused(fused, pixels(), together_recipe, seeds=[5], rates=rates)
    assert difference(alone, after.extract()) < 1e-9  # type: ignore[attr-defined]
    assert trained[2].history[0]["lr"] == pytest.approx(2 * trained[0].history[0]["lr"])


@pytest.mark.parametrize("rates", [[1.0, 1.0, 1.0], [1.0, 0.5, 2.0]], ids=["one-rate", "own-rates"])
def test_plain_momentum_and_a_rate_that_changes_by_epoch(rates: list[float]) -> None:
    recipe = RECIPE.with_(epochs=3, nesterov=False, lr_update="epoch", decay_norm_bias=False)
    alone, together = built("nasbench201", torch.float64), built("nasbench201", torch.float64)
    for network, rate in zip(alone, rates):
        train(AsDouble(network), pixels(), recipe.with_(lr=recipe.lr * rate), seed=5)
    fused = fuse(together, SCALES["nasbench201"], dtype=torch.float64)
    after, _, _ = train_fused(fused, pixels(), recipe, seeds=[5], rates=rates)
    assert difference(alone, after.extract()) < 1e-9  # type: ignore[attr-defined]


def test_what_cannot_be_fused_says_so() -> None:
    resnet = seeded_build(lambda: build(parse("resnet:0.0"), Scale(4, 1, SIDE, 1, 3)), 0)
    with pytest.raises(SettingError, match="one by one"):
        fuse([resnet], Scale(4, 1, SIDE, 1, 3))
    with pytest.raises(SettingError, match="at least one"):
        fuse([], SCALES["nasbench201"])
    fused = fuse(built("nasbench201", torch.float32), SCALES["nasbench201"])
    with pytest.raises(SettingError, match="seeds must be"):
        train_fused(fused, pixels(), RECIPE, seeds=[1, 2])
    for precision in ("fp16", "bf16"):
        with pytest.raises(SettingError, match=precision):
            train_fused(fused, pixels(), RECIPE.with_(precision=precision), seeds=[1])
    for alone in ({"frozen_norms": True}, {"layer_decay": 0.5}):
        with pytest.raises(SettingError, match="one by one"):
            train_fused(fused, pixels(), RECIPE.with_(**alone), seeds=[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("space", list(SCALES))
def test_a_cuda_device_gives_the_same(space: str) -> None:
    recipe = RECIPE.with_(
        epochs=1, grad_clip=1.0, crop_pad=0, cutout=0
    )  # augmentation draws other numbers there
    alone, together = built(space, torch.float32), built(space, torch.float32)
    for network in alone:
        train(network, pixels(), recipe, seed=5)
    after, _, _ = train_fused(fuse(together, SCALES[space], device="cuda"), pixels(), recipe, seeds=[5])
    assert difference(alone, after.extract()) < 1e-3  # type: ignore[attr-defined]
