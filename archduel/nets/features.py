"""The feature pyramid of a network: its last map at every size, for tasks other than naming the picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

__all__ = ["pyramid", "stepwise"]


def stepwise(x: torch.Tensor, layers: Iterable[nn.Module]) -> Iterator[torch.Tensor]:
    """Yields what each layer makes of the one before; the first gets ``x``."""
    for layer in layers:
        x = layer(x)
        yield x


def pyramid(x: torch.Tensor, maps: Iterable[torch.Tensor]) -> dict[int, torch.Tensor]:
    """Returns stride -> the last map of that stride, finest first.

    A stride is the product of the halvings so far, so that it is a power of two also where an odd side was rounded up;
    a map of one pixel cannot shrink any further and keeps its stride.

    Args:
        x: (N, C, H, W), what entered the network.
        maps: (N, c, h, w), in the order in which the network makes them.
    """
    found: dict[int, torch.Tensor] = {}
    stride, side = 1, x.shape[-1]
    for made in maps:
        stride *= 2 if made.shape[-1] < side else 1
        side = made.shape[-1]
        found[stride] = made
    return found
