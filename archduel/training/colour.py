"""Random changes of colour, a whole batch at a time where the batch lives.

As torchvision's ``ColorJitter``: brightness, contrast, saturation and hue, each image with factors of its own.
Deviation: the order of the four changes is drawn once a batch, not once an image.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["jittered", "shifted_hue", "to_grey"]

CHANGES = ("brightness", "contrast", "saturation", "hue")


def to_grey(images: Tensor) -> Tensor:
    """Returns the luma (N, 1, H, W) of float RGB images (N, 3, H, W), weights of ITU-R 601."""
    red, green, blue = images.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]  # (N, 1, H, W)


def shifted_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Returns float RGB images (N, 3, H, W) in 0..1 with their hue turned by ``turn`` (N,), 1 = full circle."""
    value, _ = images.max(1)
    chroma = value - images.min(1).values  # (N, H, W)
    red, green, blue = images.unbind(1)
    safe = chroma.clamp(min=1e-8)
    hue = torch.where(value == red, (green - blue) / safe, torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4))
    hue = hue / 6 + turn.view(-1, 1, 1)  # (N, H, W), in turns
    places = torch.stack([hue * 6 + offset for offset in (5.0, 3.0, 1.0)], 1) % 6  # (N, 3, H, W)
    share = torch.minimum(places, 4 - places).clamp(0, 1)
    return value[:, None] - chroma[:, None] * share


def jittered(images: Tensor, factors: Tensor, order: list[int]) -> Tensor:
    """Returns float images (N, C, H, W) in 0..1 with changed colours.

    Args:
        images: RGB or, with one channel, grey (saturation and hue then change nothing).
        factors: (4, N) brightness, contrast and saturation factors around 1, and turns of the hue around 0.
        order: in which the four changes happen, by number.
    """
    for change in order:
        factor = factors[change].view(-1, 1, 1, 1)
        if CHANGES[change] == "brightness":
            images = images * factor
        elif CHANGES[change] == "contrast":
            grey = to_grey(images) if images.shape[1] == 3 else images
            mean = grey.mean((1, 2, 3), keepdim=True)
            images = torch.lerp(mean.expand_as(images), images, factor)
        elif images.shape[1] != 3:
            continue
        elif CHANGES[change] == "saturation":
            images = torch.lerp(to_grey(images).expand_as(images), images, factor)
        else:
            images = shifted_hue(images, factors[change])
        images = images.clamp(0, 1)
    return images
