"""Shared weights over a person's own space keep the contract; where there can be none, the decision is named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import archduel
from archduel import choose, switch
from archduel.core import Scale, SharedEstimator, sample
from archduel.errors import SettingError
from archduel.estimators import SharedWeights
from archduel.testing import SharedEstimatorContract
from archduel.training import Pixels, Recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "own"))
from own_networks import Small

SCALE = Scale(16, 3, 8, 1, 3)
SMALL = archduel.space_of(Small, check=False).at_scale(SCALE)


def shared_network(space: Any, seed: int = 0) -> Any:
    return archduel.supernet(space.name, SCALE, generator=torch.Generator().manual_seed(seed))


class TestOwnSharedWeights(SharedEstimatorContract):
    space = SMALL

    def make(self, seed: int) -> SharedEstimator:
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 255, (60, 1, 8, 8)).astype(np.uint8), np.arange(60) % 3
        pixels = [Pixels(images[part], labels[part], (0.5,), (0.2,)) for part in (slice(0, 40), slice(40, 60))]
        recipe = Recipe(epochs=4, batch_size=10, image_size=8, crop_pad=1, cutout=0)
        return SharedWeights(shared_network(SMALL, seed), *pixels, recipe, n_classes=3, seed=seed, recalibration=2)


def test_an_architecture_of_shared_weights_is_a_person_s_own_module_with_slices() -> None:
    network, rng = shared_network(SMALL).eval(), np.random.default_rng(1)
    x = torch.rand(4, 1, 8, 8)
    for _ in range(6):
        arch = sample(SMALL, rng)
        alone = network.extract(arch)
        assert type(alone) is Small
        torch.testing.assert_close(network(x, arch), alone.eval()(x))
        assert network.modules_of(arch) <= network.operations
    relu, silu = (SMALL.read(f"blocks_first=1, width=8, blocks=1, blocks[0].kernel={k}, blocks[0].act=relu") for k in (3, 5))
    small, large = network.extract(relu).body[0].conv.weight, network.extract(silu).body[0].conv.weight
    assert torch.equal(small, large[:, :, 1:4, 1:4])


def test_options_of_a_switch_have_weights_of_their_own() -> None:
    class Two(nn.Module):
        def __init__(self, in_channels: int, n_classes: int) -> None:
            super().__init__()
            self.op = switch("op", {"wide": lambda: nn.Conv2d(in_channels, 4, 3, padding=1), "narrow": lambda: nn.Conv2d(in_channels, 4, 1)})
            self.head = nn.Linear(4, n_classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.op(x).mean((2, 3)))  # type: ignore[no-any-return]

    space = archduel.space_of(Two, check=False).at_scale(SCALE)
    network = shared_network(space)
    first, second = (network.extract(space.read(f"op={name}")).op.weight for name in ("wide", "narrow"))
    assert not torch.equal(first[:, :, 1:2, 1:2], second)
    assert len(network.operations) == 2
    assert network.modules_of(space.start()) < network.operations


def test_the_decision_that_forbids_shared_weights_is_named() -> None:
    class Mixed(nn.Module):
        def __init__(self, in_channels: int, n_classes: int) -> None:
            super().__init__()
            flat = choose("flat", [False, True])
            self.layer = nn.Linear(in_channels * 64, n_classes) if flat else nn.Conv2d(in_channels, n_classes, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.flatten(1)) if isinstance(self.layer, nn.Linear) else self.layer(x).mean((2, 3))  # type: ignore[no-any-return]

    space = archduel.space_of(Mixed, check=False)
    with pytest.raises(SettingError, match="which differ in flat"):
        shared_network(space)


@pytest.mark.usefixtures("no_onnx")
def test_a_one_shot_search_of_ones_own_space(tmp_path: Path) -> None:
    run = archduel.search(
        "digits", space=Small, strategy="spos", evaluations=4, out=tmp_path / "run", max_images=120, workers=1, executor="local", final_seeds=1, quiet=True,
        baselines=False, set={"label.epochs": 1, "reevaluate.epochs": 1, "final.epochs": 1},
    )  # fmt: skip
    assert isinstance(run.model(), Small)
    for strategy, words in (("darts", "cannot mix"), ("cnas", "no decisions of kind")):
        with pytest.raises(SettingError, match=words):
            archduel.search("digits", space=Small, strategy=strategy, evaluations=4, out=tmp_path / strategy, max_images=120, workers=1, quiet=True)
