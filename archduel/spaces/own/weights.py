"""Weights of one network as the beginning of another: by name, the leading channels where the shapes differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["inherit", "window"]


@torch.no_grad()
def inherit(model: nn.Module, weights: Mapping[str, Tensor]) -> int:
    """Gives ``model`` the weights of the same names, and returns how many tensors got any.

    Where a tensor is larger on one side, the leading channels (first two dimensions) and the middle of kernels (further ones) are
    taken; the rest keeps what it had. A tensor of another number of dimensions is left as it is.

    Args:
        model: changed in place.
        weights: a state dict.
    """
    taken = 0
    for name, own in model.state_dict().items():
        given = weights.get(name)
        if given is None or given.ndim != own.ndim:
            continue
        both = [min(a, b) for a, b in zip(own.shape, given.shape)]
        own[window(own, both)] = given[window(given, both)].to(own)
        taken += 1
    return taken


def window(tensor: Tensor, sides: Sequence[int]) -> tuple[slice, ...]:
    """Returns where in ``tensor`` a smaller one lies: leading channels (two dimensions), the middle of kernels (further ones)."""
    starts = [0 if i < 2 else (whole - part) // 2 for i, (whole, part) in enumerate(zip(tensor.shape, sides))]
    return tuple(slice(start, start + part) for start, part in zip(starts, sides))
