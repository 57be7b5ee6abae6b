"""Which memory layout a network is trained in."""

from __future__ import annotations

import torch
from torch import nn

from archduel.training.recipe import Recipe

__all__ = ["channels_last_for", "crashes_channels_last"]


def crashes_channels_last(model: nn.Module) -> bool:
    """Whether ``model`` has a 1x1 convolution of stride 2 with fewer than 8 outputs.

    On maps of 64 pixels torch 2.13 writes past its memory in the gradient of such a convolution, on CPUs, channels last.
    """
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(m.kernel_size == (1, 1) and m.stride == (2, 2) and m.out_channels < 8 for m in convolutions)


def channels_last_for(model: nn.Module, recipe: Recipe, device: torch.device) -> bool:
    """Returns whether ``model`` is trained channels last on ``device``: as ``recipe`` says, unless torch crashes there."""
    if device.type == "cpu" and recipe.image_size > 32 and crashes_channels_last(model):
        return False
    return recipe.channels_last
