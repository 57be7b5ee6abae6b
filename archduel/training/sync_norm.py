"""Batch norm over the images of all processes, on any backend (torch's own is for CUDA only).

With it a training on several processes computes what one process computes with the whole batch. Mean and variance are
summed in two passes, so the result agrees with the single process to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

__all__ = ["SyncedBatchNorm2d", "synced"]


class _Sum(torch.autograd.Function):
    """The sum over all processes; gradients are summed likewise."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose training statistics are those of all processes together."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns (N, C, H, W), normalised."""
        if not self.training:
            return super().forward(x)
        wide = x.float()
        count = _Sum.apply(wide.new_tensor([wide.numel() / wide.shape[1]]))
        mean = _Sum.apply(wide.sum((0, 2, 3))) / count  # (C,)
        centred = wide - mean.view(1, -1, 1, 1)
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count  # (C,), of the population
        self._note(mean.detach(), variance.detach(), count)
        out = centred * (variance + self.eps).rsqrt().view(1, -1, 1, 1)
        if self.affine:
            out = out * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return out.to(x.dtype)

    @torch.no_grad()
    def _note(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Moves the running statistics, the variance that of a sample."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1), share)


@contextmanager
def synced(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Gives ``model`` synchronised batch norms for a while; names and weights stay."""
    norms = [module for module in model.modules() if type(module) is nn.BatchNorm2d] if wanted else []
    for norm in norms:
        norm.__class__ = SyncedBatchNorm2d
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d
