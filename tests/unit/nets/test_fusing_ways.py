"""Each way to compute many convolutions at once gives what the library's convolution gives, one network after another."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from archduel.fusing import fastest
from archduel.fusing.convolutions import ConvSpec
from archduel.fusing.fastest import WAYS, suitable
from archduel.fusing.memory import Buffers

N, BATCH = 5, 3


def spec(
    c_in: int, c_out: int, kernel: int, stride: int, dilation: int, size: int, depthwise: bool
) -> ConvSpec:
    padding = dilation * (kernel - 1) // 2
    out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    k, s, p, d = ((v, v) for v in (kernel, stride, padding, dilation))
    return ConvSpec(c_in, c_out, k, s, p, d, depthwise, (size, size), (out, out))


SPECS = [
    spec(2, 2, 3, 1, 1, 4, False),
    spec(2, 4, 3, 2, 1, 4, False),
    spec(4, 3, 1, 1, 1, 4, False),
    spec(4, 3, 1, 2, 1, 4, False),
    spec(3, 3, 3, 1, 2, 5, True),
    spec(3, 3, 5, 2, 1, 6, True),
]
CASES = [(shape, name) for shape in SPECS for name in suitable(shape)]


@pytest.mark.parametrize("cache", [1, 3 << 20], ids=["network-by-network", "at-once"])
@pytest.mark.parametrize(("shape", "name"), CASES, ids=[f"{name}-{SPECS.index(s)}" for s, name in CASES])
def test_forward_and_gradients(
    shape: ConvSpec, name: str, cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastest, "CACHE_BYTES", cache)
    rng = torch.Generator().manual_seed(0)
    c_seen = 1 if shape.depthwise else shape.c_in
    x = torch.randn(N, shape.c_in, *shape.size, BATCH, generator=rng, dtype=torch.float64)
    w = torch.randn(N, shape.c_out, c_seen, *shape.kernel, generator=rng, dtype=torch.float64)
    g = torch.randn(N, shape.c_out, *shape.out, BATCH, generator=rng, dtype=torch.float64)
    y, gx, gw, alone = torch.empty_like(g), torch.empty_like(x), torch.empty_like(w), torch.empty_like(w)
    buffers = Buffers(torch.device("cpu"), torch.float64)
    for _ in range(2):  # the second time memory is used again
        WAYS[name].forward(x, w, shape, buffers, y)
        WAYS[name].backward(g, x, w, shape, buffers, gw, gx)
    WAYS[name].backward(g, x, w, shape, buffers, alone, None)  # as for the image
    for k in range(N):
        maps = x[k].permute(3, 0, 1, 2).clone().requires_grad_()  # (B, C, H, W)
        weight = w[k].clone().requires_grad_()
        groups = shape.c_in if shape.depthwise else 1
        out = functional.conv2d(maps, weight, None, shape.stride, shape.padding, shape.dilation, groups)
        grads = torch.autograd.grad(out, (maps, weight), g[k].permute(3, 0, 1, 2))
        torch.testing.assert_close(y[k].permute(3, 0, 1, 2), out.detach())
        torch.testing.assert_close(gx[k].permute(3, 0, 1, 2), grads[0])
        torch.testing.assert_close(gw[k], grads[1])
        torch.testing.assert_close(alone[k], grads[1])


@pytest.mark.parametrize("way", ["taps", "columns"])
def test_padded_maps_of_one_size_and_two_borders(way: str) -> None:
    """8 x 8 padded by 2 and 4 x 4 padded by 4 are both 12 x 12: the first must leave nothing where the second needs zeros."""
    depthwise = way == "taps"
    first, second = spec(3, 3, 5, 2, 1, 8, depthwise), spec(3, 3, 5, 1, 2, 4, depthwise)
    rng = torch.Generator().manual_seed(0)

    def outputs(shape: ConvSpec, x: torch.Tensor, buffers: Buffers) -> torch.Tensor:
        weight = torch.ones(1, 3, 1 if depthwise else 3, 5, 5, dtype=torch.float64)
        y = torch.empty(1, 3, *shape.out, BATCH, dtype=torch.float64)
        WAYS[way].forward(x, weight, shape, buffers, y)
        return y

    large, small = (torch.randn(1, 3, *s.size, BATCH, generator=rng, dtype=torch.float64) for s in (first, second))
    shared = Buffers(torch.device("cpu"), torch.float64)
    outputs(first, large, shared)
    alone = outputs(second, small, Buffers(torch.device("cpu"), torch.float64))
    assert torch.equal(outputs(second, small, shared), alone)
