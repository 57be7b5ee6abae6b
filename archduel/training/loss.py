"""What a batch costs a network: cross entropy of its labels, mixed ones included, and of its auxiliary head."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from archduel.training.recipe import Recipe

__all__ = ["autocast", "forward_loss"]

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Returns the context in which a network computes with ``precision``."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST[precision])


def forward_loss(
    call: Callable[[Tensor], Any], x: Tensor, labels: Tensor, recipe: Recipe, share: float = 1.0, partner: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the loss, that of the auxiliary head included, and the logits.

    Args:
        call: the network: (N, C, H, W) -> logits (N, classes), or logits and those of the auxiliary head.
        x: (N, C, H, W) normalised images.
        labels: (N,) int64.
        recipe: precision, label smoothing and the weight of the auxiliary head.
        share: how much of each image is its own where images are mixed.
        partner: (N,) the image that each is mixed with; None = not mixed.
    """
    with autocast(x.device, recipe.precision):
        out = call(x)
        logits, extra = out if isinstance(out, tuple) else (out, None)
        loss = _cross_entropy(logits, labels, recipe.label_smoothing, share, partner)
        if extra is not None and recipe.auxiliary_weight:
            loss = loss + recipe.auxiliary_weight * _cross_entropy(extra, labels, recipe.label_smoothing, share, partner)
    return loss, logits


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float, share: float, partner: Tensor | None) -> Tensor:
    """Returns cross entropy, of two labels for mixed images."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    if partner is None:
        return loss
    return share * loss + (1 - share) * F.cross_entropy(logits, labels[partner], label_smoothing=smoothing)
