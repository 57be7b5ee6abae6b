"""Depthwise convolutions whose gradient costs less on a CPU.

The gradient of the input of such a convolution is the same convolution with the kernel turned round, which the library computes
several times faster forwards than as a gradient (most of all with dilation). With stride 2 and dilation 2 only every other row
and column is ever read, so it is a convolution of neither on a quarter of the pixels.

For the gradient of the weights the library has quick code for kernels of at most three columns without dilation, about ten times
as fast as its other code (torch 2.13, channels last). A kernel of five columns is two of three; dilation 2 is four
convolutions without dilation, each on every other row and column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight
from torch.utils.checkpoint import checkpoint

from archduel.spaces.layers import DropPath

__all__ = ["Again", "DepthwiseConv2d", "quick_depthwise"]

# -- Computing a part of a network again on the way back instead of keeping what it computed: less memory, a bit more time 


class Again:
    """Runs a cell so that its inner results are computed again for the gradients, with the very same numbers.

    The second time, batch norms keep no statistics and drop path draws the same masks.

    Args:
        cell: the part of the network.
    """

    def __init__(self, cell: nn.Module) -> None:
        norms = (module for module in cell.modules() if isinstance(module, nn.BatchNorm2d))
        self.norms = [norm for norm in norms if norm.running_mean is not None]
        self.drops = [module for module in cell.modules() if isinstance(module, DropPath)]

    def __call__(self, step: Callable[..., torch.Tensor], *inputs: object) -> torch.Tensor:
        """Returns ``step(*inputs)``."""
        masks = [drop.generator for drop in self.drops if drop.p and drop.generator is not None]
        states = [generator.get_state() for generator in masks]
        contexts = partial(self._contexts, masks, states)
        out = checkpoint(step, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
        assert isinstance(out, torch.Tensor)
        return out

    def _contexts(
        self, masks: list[torch.Generator], states: list[torch.Tensor]
    ) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
        return nullcontext(), self._second_time(masks, states)

    @contextmanager
    def _second_time(self, masks: list[torch.Generator], states: list[torch.Tensor]) -> Iterator[None]:
        now = [generator.get_state() for generator in masks]
        for generator, state in zip(masks, states):
            generator.set_state(state)
        try:
            with _unmoved(self.norms):
                yield
        finally:
            for generator, state in zip(masks, now):
                generator.set_state(state)


@contextmanager
def _unmoved(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    """Lets batch norms run in training mode without moving statistics or counts; what they keep for gradients is the same."""
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution of stride 1 that keeps the size; padding and dilation are those of both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return F.conv2d(x, weight, None, 1, padding, dilation, x.shape[1])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        how = 1, ctx.padding, ctx.dilation, x.shape[1]
        of_x = F.conv2d(grad, weight.flip(2, 3), None, *how) if ctx.needs_input_grad[0] else None
        of_weight = _weight_gradient(x, grad, weight.shape[2], *how[1:3]) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None


def _weight_gradient(x: Tensor, grad: Tensor, side: int, padding: int, dilation: int) -> Tensor:
    """Returns (C, 1, side, side): the gradient of the weights, by the library's quick code where that is possible."""
    channels, (height, width) = x.shape[1], x.shape[2:]
    last = x.is_contiguous(memory_format=torch.channels_last)
    if not last or side > 5 or dilation > 2 or (dilation == 2 and (height % 2 or width % 2)):
        return conv2d_weight(x, (channels, 1, side, side), grad, 1, padding, dilation, channels)  # type: ignore[no-any-return]
    if dilation == 2:
        x, grad, padding = _every_other(x), _every_other(grad), padding // 2
    if side == 3:
        return conv2d_weight(x, (channels, 1, 3, 3), grad, 1, padding, 1, channels)  # type: ignore[no-any-return]
    columns = [
        conv2d_weight(F.pad(x, border), (channels, 1, 5, 3), grad, 1, (padding, 0), 1, channels) for border in ((2, 0), (0, 2))
    ]
    return torch.cat((columns[0], columns[1][..., 1:]), dim=3)  # the middle column is in both


def _every_other(x: Tensor) -> Tensor:
    """Returns (4 N, C, H / 2, W / 2), channels last: the even and odd rows and columns of (N, C, H, W)."""
    n, c, h, w = x.shape
    parts = x.unflatten(2, (h // 2, 2)).unflatten(4, (w // 2, 2)).permute(3, 5, 0, 2, 4, 1)  # (2, 2, N, H / 2, W / 2, C)
    return parts.reshape(4 * n, h // 2, w // 2, c).permute(0, 3, 1, 2)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution without bias of stride 1, or of stride and dilation 2, that keeps the size (or halves it).

    On a CPU in full precision its gradients take the quick way.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns (N, C, ceil(H / stride), ceil(W / stride))."""
        if x.device.type != "cpu" or not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        dilation, padding = self.dilation[0], int(self.padding[0])
        if self.stride[0] == 2:
            layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
            x, dilation, padding = x[:, :, ::2, ::2].contiguous(memory_format=layout), 1, padding // 2
        out = _Depthwise.apply(x, self.weight, padding, dilation)  # type: ignore[no-untyped-call]
        assert isinstance(out, Tensor)
        return out


def quick_depthwise(module: nn.Module) -> None:
    """Replaces the depthwise convolutions inside ``module`` that can be quicker; names and weights stay."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and child.groups == child.in_channels == child.out_channels and _fits(child):
                new = DepthwiseConv2d(
                    child.in_channels, child.out_channels, child.kernel_size[0], child.stride[0], int(child.padding[0]),
                    child.dilation[0], child.groups, bias=False,
                )  # fmt: skip
                new.weight = child.weight
                setattr(parent, name, new)


def _fits(child: nn.Conv2d) -> bool:
    """Returns whether stride is 1, or 2 with dilation 2, and there is no bias and as much padding as keeps the size."""
    side, stride, dilation = child.kernel_size[0], child.stride[0], child.dilation[0]
    wanted = (stride,) * 2, (side,) * 2, (dilation,) * 2, (dilation * (side - 1) // 2,) * 2, None
    square = (child.stride, child.kernel_size, child.dilation, child.padding, child.bias) == wanted
    return square and side % 2 == 1 and (stride == 1 or stride == dilation == 2)
