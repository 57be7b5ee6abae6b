"""The feature pyramid: strides, sizes, the same maps that the classifier sees, gradients, every network."""

from __future__ import annotations

import pytest
import torch

from archduel.core import Scale
from archduel.spaces.family import build
from archduel.spaces.layers import pyramid
from archduel.spaces.lookup import resolve

CIFAR, IMAGENET = [1, 2, 4], [2, 4, 8, 16, 32]
STRIDES = {
    "relativenas": (CIFAR, IMAGENET),
    "darts_supercell": (CIFAR, IMAGENET),
    "ctnas_mobile": ([1, 2, 4, 8], IMAGENET),
    "ctnas_nasbench101": (CIFAR, IMAGENET),
    "nasbench201:3.1.2.4.3.0": (CIFAR, IMAGENET),
    "natsbench_sss:0.1.2.3.4": (CIFAR, IMAGENET),
    "resnet:2.3": (CIFAR, IMAGENET),
}


def network(text: str, size: int, **options: object) -> torch.nn.Module:
    if text == "darts_supercell":
        text = "darts_supercell:" + ".".join("3" for _ in range(28))
    space, arch = resolve(text)
    depth = 6 if space.name.startswith("darts") else 1
    scale = Scale(4, depth, size, 3, 5)
    return build(arch, scale, generator=torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("text", STRIDES)
def test_every_network_gives_its_last_map_of_every_stride(text: str) -> None:
    for size, strides in zip((32, 224), STRIDES[text]):
        model = network(text, size).to("meta").eval()  # shapes without arithmetic
        maps = model.features(torch.zeros(1, 3, size, size, device="meta"))
        assert list(maps) == strides
        assert all(maps[stride].shape[2:] == (size // stride, size // stride) for stride in strides)


@pytest.mark.parametrize("text", STRIDES)
def test_the_coarsest_map_is_what_the_classifier_sees(text: str) -> None:
    model = network(text, 32, auxiliary=True).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        *_, last = model.features(x).values()
        assert torch.equal(model.tail(last), model(x))


def test_odd_images_of_another_size_are_rounded_up_and_gradients_flow() -> None:
    model = network("cnas", 32).train()
    maps = model.features(torch.randn(2, 3, 45, 45))
    assert {stride: value.shape[-1] for stride, value in maps.items()} == {1: 45, 2: 23, 4: 12}
    sum(value.mean() for value in maps.values()).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.startswith("tail"))


def test_a_network_with_a_resolution_of_its_own_takes_images_as_they_are() -> None:
    space, arch = resolve("ctnas_mobile")
    model = build(arch, Scale(4, 5, 64, 3, 5)).eval()
    maps = model.features(torch.zeros(1, 3, 64, 96))
    assert maps[1].shape[2:] == (64, 96)
    assert space.name == "mobilenetv3"


def test_a_map_of_one_pixel_keeps_its_stride() -> None:
    maps = [torch.zeros(1, c, side, side) for c, side in ((1, 4), (2, 2), (3, 1), (4, 1))]
    found = pyramid(torch.zeros(1, 3, 4, 4), maps)
    assert {stride: value.shape[1] for stride, value in found.items()} == {1: 1, 2: 2, 4: 4}
