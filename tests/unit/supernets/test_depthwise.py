"""Quick depthwise convolutions: the same numbers and gradients as the library's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from archduel.spaces.darts.supernet import DepthwiseConv2d, quick_depthwise
from archduel.spaces.layers import conv, dilated, separable


@pytest.mark.parametrize(("width", "layout"), [(7, torch.contiguous_format), (7, torch.channels_last), (8, torch.channels_last)])
@pytest.mark.parametrize(
    ("kernel", "dilation", "stride"), [(3, 1, 1), (5, 1, 1), (3, 2, 1), (5, 2, 1), (3, 2, 2), (5, 2, 2)]
)
def test_gradients_are_those_of_the_library(
    kernel: int, dilation: int, stride: int, width: int, layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    plain = nn.Sequential(conv(3, 3, kernel, stride, dilation=dilation, groups=3)).double()
    quick = nn.Sequential(conv(3, 3, kernel, stride, dilation=dilation, groups=3)).double()
    quick.load_state_dict(plain.state_dict())
    quick_depthwise(quick)
    assert isinstance(quick[0], DepthwiseConv2d)
    x = torch.randn(2, 3, 6, width, generator=generator, dtype=torch.float64).to(memory_format=layout)
    found = []
    for network in (plain, quick):
        own = x.clone().requires_grad_()  # in the same layout
        out = network(own)
        out.square().sum().backward()
        found.append((out, own.grad, network[0].weight.grad))
    for one, other in zip(*found):
        assert torch.allclose(one, other, atol=1e-10)
    assert torch.autograd.gradcheck(quick, (x[:1].requires_grad_(),))


def test_only_some_depthwise_layers_are_replaced() -> None:
    for layers, replaced in ((separable(4, 3, 1), 2), (separable(4, 3, 2), 1), (dilated(4, 5, 2), 1), (dilated(4, 5, 1), 1)):
        names = list(layers.state_dict())
        quick_depthwise(layers)
        assert sum(isinstance(m, DepthwiseConv2d) for m in layers.modules()) == replaced
        assert list(layers.state_dict()) == names
