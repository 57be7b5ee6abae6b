"""Batch-norm statistics: measured anew, kept, or left out.

The statistics of a shared network are those of no architecture in particular; before one is judged they are measured for it,
as the plain average over some batches of training images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from archduel.training.modes import mode_kept

__all__ = ["averaging", "batch_statistics", "norms_of", "recalibrate", "statistics_kept"]


def norms_of(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Returns the batch norms of a network that keep statistics."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]


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
        for norm in norms:
            norm.train()
        for batch in batches:
            model(batch)
