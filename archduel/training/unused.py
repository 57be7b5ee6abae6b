"""Which parameters of a network never get a gradient: operations whose output goes nowhere."""

from __future__ import annotations

import copy

import torch
from torch import nn

from archduel.training.pixels import Images

__all__ = ["unused_parameters"]


def unused_parameters(model: nn.Module, images: Images, device: torch.device) -> list[str]:
    """Returns the names of parameters that a training step leaves without a gradient, tried on a copy with two images.

    Args:
        model: not changed.
        images: what it will be trained on.
        device: where.
    """
    trial = copy.deepcopy(model).to(device).train()
    raw, _ = next(images.batches([torch.arange(2)], 0))
    with torch.enable_grad():
        out = trial(raw.to(device).float() / 255)
        sum(part.sum() for part in (out if isinstance(out, tuple) else (out,))).backward()
    return [name for name, parameter in trial.named_parameters() if parameter.grad is None]
