"""Training on with int8 in mind: weights and maps are rounded as int8 would in the forward pass, gradients pass as if they were not.

Source: Jacob et al. (CVPR 2018), straight-through estimators of Bengio et al. (arXiv 1308.3432).
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from archduel.training.augment import normalise
from archduel.training.images import Pixels
from archduel.training.norms import freeze, norms_of

__all__ = ["fine_tuned"]

MOMENTUM, BATCH, RANGE_MOMENTUM = 0.9, 32, 0.05


ACTIVATIONS = (nn.ReLU, nn.ReLU6)


def _before_activations(model: nn.Module) -> set[nn.Module]:
    """Returns the norms right before an activation: a runtime computes both in one, and rounds what leaves."""
    chains = [list(m.children()) for m in model.modules() if isinstance(m, nn.Sequential)]
    return {first for chain in chains for first, second in pairwise(chain) if isinstance(second, ACTIVATIONS)}


class RoundedWeight(nn.Module):
    """Weights as they are in int8 with a scale an output channel."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns the rounded weights, with the gradient of the given ones."""
        scale = (weight.detach().abs().flatten(1).amax(1) / 127).clamp_min(1e-8)  # (c_out,)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        rounded: torch.Tensor = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)
        return rounded


class RoundedMap:
    """Rounds what a layer returns to 256 steps between the ends seen so far (a moving average of each batch's)."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self.begun = False

    def __call__(self, module: nn.Module, inputs: Any, out: torch.Tensor) -> torch.Tensor:
        """Returns the rounded map."""
        low, high = min(0.0, float(out.detach().amin())), max(1e-6, float(out.detach().amax()))
        share = RANGE_MOMENTUM if self.begun else 1.0
        self.low, self.high, self.begun = self.low + share * (low - self.low), self.high + share * (high - self.high), True
        scale = (self.high - self.low) / 255
        zero = max(-128, min(127, round(-128 - self.low / scale)))
        rounded: torch.Tensor = torch.fake_quantize_per_tensor_affine(out, scale, zero, -128, 127)
        return rounded


def fine_tuned(network: nn.Module, images: Pixels, *, epochs: int = 3, lr: float = 0.002, seed: int = 0) -> nn.Module:
    """Returns a copy of a network, trained on so that it loses little in int8; norms keep their statistics.

    Maps are rounded behind activations and norms, where a runtime rounds them once norms are folded.

    Args:
        network: input (N, C, H, W) normalised, output logits; it is not changed.
        images: training images.
        epochs: passes over them.
        lr: of the first step, falling linearly to zero.
        seed: of the order.
    """
    model = copy.deepcopy(network)
    weighted = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for module in weighted:
        parametrize.register_parametrization(module, "weight", RoundedWeight())
    inner = _before_activations(model)
    rounded = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, *ACTIVATIONS)) and m not in inner]
    hooks = [m.register_forward_hook(RoundedMap()) for m in rounded]
    model.train()
    if norms_of(model):
        freeze(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(seed)
    total, done = max(1, epochs * -(-len(images) // BATCH)), 0
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(BATCH):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - done / total)
            x, labels = images.batch(rows)
            loss = nn.functional.cross_entropy(model(normalise(x, images.mean, images.std)), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            done += 1
    for hook in hooks:
        hook.remove()
    for module in weighted:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
    return model.eval()
