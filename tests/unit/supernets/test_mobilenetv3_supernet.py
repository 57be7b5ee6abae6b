"""The once-for-all supernet: parts of the largest blocks, kernels, extraction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from shared_task import pixels
from torch import nn

from archduel.core import Query, Scale, sample
from archduel.errors import InvalidArchError, SettingError
from archduel.estimators.shared import SharedWeights
from archduel.spaces import family as nets
from archduel.spaces.family import supernet
from archduel.spaces.mobilenetv3.network import LARGEST, norm
from archduel.spaces.mobilenetv3.space import MobileNetV3
from archduel.training.recipe import Recipe

SCALE = Scale(4, 1, 8, 3, 4)
SPACE = MobileNetV3()


def made(seed: int = 0, scale: Scale = SCALE) -> Any:
    network = supernet("mobilenetv3", scale, generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                assert tensor is not None
                tensor.data.uniform_(0.5, 1.5, generator=generator)
    for block in network.blocks:
        for matrix in block.matrices:
            matrix.data.add_(0.1 * torch.randn(matrix.shape, generator=generator))
    return network


def drawn(n: int, space: MobileNetV3 = SPACE) -> list[Any]:
    rng = np.random.default_rng(0)
    return [sample(space, rng) for _ in range(n)]


def test_an_extracted_network_says_the_same() -> None:
    network = made().eval()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    for arch in [LARGEST, *drawn(2)]:
        alone = network.extract(arch).eval()
        assert torch.allclose(alone(x), network(x, arch), atol=1e-4, rtol=1e-4)
        assert sum(p.numel() for p in alone.parameters()) == nets.count(arch, SCALE).params


def test_a_resolution_is_the_architecture_s_own() -> None:
    space = MobileNetV3(resolutions=(96, 128))
    network = made().eval()
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    for arch in drawn(2, space):
        assert torch.allclose(network.extract(arch).eval()(x), network(x, arch), atol=1e-3, rtol=1e-3)


def test_a_small_kernel_is_the_centre_of_the_large_one_times_matrices() -> None:
    block = made().blocks[3]
    depthwise, (nine, twentyfive) = block.parts()[2].weight[:5], block.matrices
    five = (twentyfive @ depthwise[:, 0, 1:6, 1:6].reshape(5, 25, 1)).view(5, 5, 5)
    three = (nine @ five[:, 1:4, 1:4].reshape(5, 9, 1)).view(5, 3, 3)
    assert torch.equal(block.kernel(5, 7), depthwise)
    assert torch.allclose(block.kernel(5, 5)[:, 0], five, atol=1e-5)
    assert torch.allclose(block.kernel(5, 3)[:, 0], three, atol=1e-5)


def test_a_part_of_a_norm_is_a_norm_of_that_part() -> None:
    layer, small = nn.BatchNorm2d(6), nn.BatchNorm2d(4)
    x = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0)) + 2
    assert torch.allclose(norm(layer, x), small(x), atol=1e-6)
    assert layer.running_mean is not None
    assert small.running_mean is not None
    assert torch.allclose(layer.running_mean[:4], small.running_mean)
    assert not layer.running_mean[4:].any()
    layer.momentum = small.momentum = None
    for module in (layer, small):
        module.reset_running_stats()
    for shift in (0.0, 1.0):
        norm(layer, x + shift)
        small(x + shift)
    assert torch.allclose(layer.running_mean[:4], small.running_mean)


def test_absent_blocks_get_no_gradient() -> None:
    network, arch = made(), drawn(1)[0]
    network(torch.randn(2, 3, 8, 8), arch).sum().backward()
    there = {".".join(name.split(".")[:2]) for name, p in network.named_parameters() if "blocks" in name and p.grad is not None}
    assert there == network.modules_of(arch) < network.operations


def test_shared_weights_over_it_learn_score_and_compete() -> None:
    recipe = Recipe(epochs=2, batch_size=8, lr=0.02, channels=4, image_size=8, crop_pad=1)
    network = supernet("mobilenetv3", SCALE, generator=torch.Generator().manual_seed(0))
    shared = SharedWeights(network, pixels(24, 1), pixels(16, 2), recipe, n_classes=4, seed=0, recalibration=1)
    first, second = drawn(2)
    shared.learn([first, second], 2)
    one, two = shared.compete(first, second, 1)
    shared.inherit(first, second)
    assert not one.failed
    assert not two.failed
    assert shared.estimate([Query(first)])[0].score == shared.estimate([Query(first)])[0].score
    with pytest.raises(SettingError, match="cannot mix"):
        shared.loss({"cell": torch.ones(1, 1)}, next(shared.batches("train")))


def test_an_architecture_of_elsewhere_is_named() -> None:
    from archduel.core import parse

    with pytest.raises(InvalidArchError):
        made()(torch.zeros(1, 3, 8, 8), parse("nasbench201:0.0.0.0.0.0"))
