"""Weights that are the same on every machine and with every version of torch: spread numbers instead of random ones."""

from __future__ import annotations

import math

import torch

__all__ = ["filled", "spread"]


def spread(shape: tuple[int, ...], number: int) -> torch.Tensor:
    """Returns float64 values in -1..1, those of tensor ``number``: the place of a value, mixed as a hash does it."""
    places = torch.arange(math.prod(shape), dtype=torch.int64) + (number << 20)
    for factor, shift in ((2654435761, 15), (2246822519, 13), (3266489917, 16)):
        places = places * factor & 0xFFFFFFFF
        places = places ^ places >> shift
    return (places.double() / (1 << 31) - 1).reshape(shape)


def filled(shape: tuple[int, ...], number: int, own: str) -> torch.Tensor:
    """Returns the tensor ``own`` (weight, bias, running_mean ...) with values that keep the maps of a network about as large."""
    values = spread(shape, number)
    if own == "num_batches_tracked":
        return torch.tensor(0)
    if own == "running_var":
        return (1 + 0.5 * values).float()
    if own in ("running_mean", "bias"):
        return (0.1 * values).float()
    if len(shape) == 1:
        return (1 + 0.3 * values).float()
    return (values * math.sqrt(6 / math.prod(shape[1:]))).float()
