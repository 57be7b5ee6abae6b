"""Depthwise convolutions whose gradients in bfloat16 do not take a hundred times as long as their outputs on a CPU.

Two of oneDNN's kernels are slow there (torch 2.13, one core, batches of 32, channels last): the gradient of the input with stride 2, and the
gradient of a 5x5 kernel. Both can be said with kernels that are fast: the first as a depthwise convolution of the spread-out gradient,
the second as four gradients of 3x3 kernels. Forward and backward of a layer then take 2.0 to 7.2 times less, a training step of
EfficientNet-Lite0 2.6 times less (``benchmarks/records/depthwise.json``); numbers are the same up to rounding. In float32 torch's own
kernels are as fast or faster, and are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Depthwise", "quick_depthwise"]

SMALL = 3  # pixels: a map that a kernel of 3 hardly fits into is given its border first, or oneDNN takes its slow way


class Depthwise(torch.autograd.Function):
    """A depthwise convolution with a square kernel of 3 or 5, stride 1 or 2, and zeros around the map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        """Returns (N, C, h, w) of (N, C, H, W) and (C, 1, k, k)."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, None, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        """Returns the gradients of input and kernel."""
        x, weight = ctx.saved_tensors
        into = _of_input(grad, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        of_weight = _of_weight(grad, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return into, of_weight, None, None


def _backward(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, mask: list[bool]) -> Tensor:
    """Returns torch's own gradient of the input or of the kernel."""
    sides = [stride, stride], [padding, padding], [1, 1]
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(grad, x, weight, None, *sides, False, [0, 0], x.shape[1], mask)
    return found[mask.index(True)]


def _of_input(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Returns the gradient of the input: with stride 2 a convolution of the gradient, zeros between its pixels, with the turned kernel."""
    if stride == 1:
        return _backward(grad, x, weight, 1, padding, [True, False, False])
    kernel = weight.shape[-1]
    height, width = (side + 2 * padding - kernel + 1 for side in x.shape[2:])
    spread = torch.zeros((*x.shape[:2], height, width), dtype=grad.dtype, device=grad.device).to(memory_format=torch.channels_last)
    spread[:, :, ::stride, ::stride] = grad
    return functional.conv2d(spread, weight.flip(2, 3), None, 1, kernel - 1 - padding, 1, x.shape[1])


def _of_weight(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Returns the gradient of the kernel; one of 5 x 5 is put together of four of 3 x 3, which overlap in the middle row and column."""
    if padding and (weight.shape[-1] == 5 or x.shape[-1] <= SMALL):
        x, padding = functional.pad(x, (padding,) * 4), 0
    only_weight = [False, True, False]
    if weight.shape[-1] == 3:
        return _backward(grad, x, weight, stride, padding, only_weight)
    height, width = (stride * (side - 1) + 3 for side in grad.shape[2:])
    found, small = torch.empty_like(weight), weight[:, :, :3, :3].contiguous()
    for top in (0, 2):
        for left in (0, 2):
            window = x[:, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)
            found[:, :, top : top + 3, left : left + 3] = _backward(grad, window, small, stride, 0, only_weight)
    return found


class _Quick(nn.Conv2d):
    """A depthwise convolution with quick gradients; a convolution becomes one for a while, and nothing else of it changes."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns what the convolution returns."""
        if not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        kind = torch.get_autocast_dtype("cpu")
        x, weight = x.to(kind), self.weight.to(kind)
        return Depthwise.apply(x, weight, self.stride[0], self.padding[0])  # type: ignore[no-any-return, no-untyped-call]


def _slow(module: nn.Module) -> bool:
    """Whether a layer is a depthwise convolution of the kind whose gradients are slow, and nothing special."""
    return (
        type(module) is nn.Conv2d and 1 < module.groups == module.in_channels == module.out_channels and module.bias is None
        and module.dilation == (1, 1) and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        and module.kernel_size in ((3, 3), (5, 5)) and module.stride in ((1, 1), (2, 2)) and len(set(module.padding)) == 1
        and module.padding[0] < module.kernel_size[0] and (module.stride == (2, 2) or module.kernel_size == (5, 5))
        and not module._forward_hooks and not module._forward_pre_hooks and module.weight.device.type == "cpu"
    )  # fmt: skip


@contextmanager
def quick_depthwise(model: nn.Module) -> Iterator[None]:
    """Lets the depthwise convolutions of a network on the CPU have quick gradients under autocast for a while; results are equal up to rounding.

    Args:
        model: its layers are what they were afterwards.
    """
    layers = [module for module in model.modules() if _slow(module)]
    for layer in layers:
        layer.__class__ = _Quick
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.Conv2d
