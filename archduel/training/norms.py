"""Batch-norm statistics: measured anew, kept, or left out.

The statistics of a shared network are those of no architecture in particular; before one is judged they are measured for it,
as the plain average over some batches of training images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from archduel.training.runtime import mode_kept

__all__ = ["SyncedBatchNorm2d", "averaging", "batch_statistics", "freeze", "norms_of", "recalibrate", "statistics_kept", "synced"]

# -- Batch norm over the images of all processes, on any backend (torch's own is for CUDA only) -------------------------
#
# With it a training on several processes computes what one process computes with the whole batch. Mean and variance are
# summed in two passes, so the result agrees with the single process to rounding.


class _Sum(torch.autograd.Function):
    """The sum over all processes; gradients are summed likewise."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        # Every process's loss depends on the sum, so its gradient is the sum of theirs.
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose training statistics are those of all processes together."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns (N, C, H, W), normalised."""
        if not self.training:
            return super().forward(x)
        # Sums over a batch of half precision lose their last images.
        wide = x.float()
        count = _Sum.apply(wide.new_tensor([wide.numel() / wide.shape[1]]))
        mean = _Sum.apply(wide.sum((0, 2, 3))) / count  # (C,)
        # The square of the distance, in a second pass: E x^2 - (E x)^2 cancels where the mean is large.
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
        # Normalised by the batch's own variance, kept as an estimate of that of all images, as torch does.
        self.running_var.lerp_(variance * count / (count - 1), share)


@contextmanager
def synced(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Gives ``model`` synchronised batch norms for a while; names and weights stay."""
    norms = [module for module in model.modules() if type(module) is nn.BatchNorm2d] if wanted else []
    for norm in norms:
        # The class and not the module: parameters, names and hooks stay what optimizer and checkpoint know.
        norm.__class__ = SyncedBatchNorm2d
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d


def norms_of(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Returns the batch norms of a network that keep statistics."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]


def freeze(model: nn.Module) -> None:
    """Lets batch norms use their running statistics and not change them, until the network is put into training mode again."""
    for norm in norms_of(model):
        norm.eval()


@contextmanager
def statistics_kept(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Gives running statistics back that were there before."""
    saved = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, value in saved:
            buffer.copy_(value)


@contextmanager
def averaging(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Forgets the running statistics; what runs inside in training mode makes their plain average over batches."""
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            # torch's sign for a plain average over all batches since the reset.
            norm.momentum = None
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum


@contextmanager
def batch_statistics(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Lets batch norms in training mode use each batch's own statistics without keeping them."""
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measures the batch-norm statistics of a network anew, as the average over ``batches`` (N, C, H, W), normalised images.

    Training flags stay as they were; dropout is off.
    """
    norms = norms_of(model)
    with mode_kept(model), averaging(norms):
        model.eval()
        # Norms alone in training mode: dropout and drop path would disturb what is measured.
        for norm in norms:
            norm.train()
        for batch in batches:
            model(batch)
