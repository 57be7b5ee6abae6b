"""Depthwise convolutions with quick gradients compute what torch's own do, and leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from archduel.training.depthwise import Depthwise, quick_depthwise


@pytest.fixture
def still() -> Iterator[None]:
    """Layers draw their weights from torch's own generator."""
    with torch.random.fork_rng():
        yield


CASES = [
    (stride, kernel, padding, side)
    for stride, kernel in ((2, 3), (1, 5), (2, 5))
    for padding in (0, kernel // 2)
    for side in (2, 3, 8, 9, 12)
    if side + 2 * padding >= kernel
]


@pytest.mark.parametrize(("stride", "kernel", "padding", "side"), CASES)
def test_gradients_equal_those_of_torch(stride: int, kernel: int, padding: int, side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.utils.skip_init(nn.Conv2d, 4, 4, kernel, stride, padding, groups=4, bias=False).double()
    nn.init.normal_(layer.weight, generator=generator)
    x = torch.randn(2, 4, side, side + 1, dtype=torch.double, generator=generator).requires_grad_()
    plain = layer(x)
    quick = Depthwise.apply(x, layer.weight, stride, padding)
    assert torch.equal(plain, quick)
    for mine, theirs in zip(*(torch.autograd.grad(y.sin().sum(), (x, layer.weight)) for y in (quick, plain))):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("stride", "kernel"), [(2, 3), (1, 5), (2, 5)])
def test_under_autocast_a_layer_learns_what_it_would(stride: int, kernel: int) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.utils.skip_init(nn.Conv2d, 8, 8, kernel, stride, kernel // 2, groups=8, bias=False)
    nn.init.normal_(layer.weight, generator=generator)
    x = torch.randn(4, 8, 12, 12, generator=generator)
    found = []
    for quick in (False, True):
        layer.zero_grad()
        with quick_depthwise(layer) if quick else nullcontext(), torch.autocast("cpu", torch.bfloat16):
            assert (type(layer) is nn.Conv2d) is not quick
            y = layer(x)
        y.float().square().sum().backward()
        assert layer.weight.grad is not None
        found.append(layer.weight.grad.clone())
    torch.testing.assert_close(*found, rtol=0.02, atol=0.02 * float(found[0].abs().max()))


def test_only_slow_layers_change_and_all_are_plain_afterwards(still: None) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False),
        nn.Conv2d(8, 8, 5, 1, 2, groups=4, bias=False), nn.Conv2d(8, 8, 5, 1, 4, dilation=2, groups=8, bias=False),
        nn.Conv2d(8, 8, 5, 1, 2, groups=8, bias=True), nn.Conv2d(8, 8, 5, 1, "same", groups=8, bias=False),
    )  # fmt: skip
    with pytest.raises(ZeroDivisionError), quick_depthwise(network):  # noqa: PT012 - layers are looked at inside
        assert [type(layer) is nn.Conv2d for layer in network] == [True, False, True, True, True, True, True]
        raise ZeroDivisionError
    assert all(type(layer) is nn.Conv2d for layer in network)


def test_under_autocast_the_gradient_of_weights_is_float32(still: None) -> None:
    layer = nn.Conv2d(4, 4, 5, 2, 2, groups=4, bias=False)
    with quick_depthwise(layer), torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(2, 4, 9, 9))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
