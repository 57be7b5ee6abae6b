"""Random changes of whole batches: crop, flip, cutout, mixup; every function takes its generator.

Crop and flip work on uint8, so padding is black as in the papers; cutout and mixup work on normalised floats, where zero
is the mean colour. The generator lives on the device of the images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from archduel.training.recipe import Recipe

__all__ = ["augmented", "cutout", "mixed", "mixup_share", "normalise", "random_crop", "random_flip"]


def random_crop(images: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Returns each image of (N, C, H, W) shifted by up to ``pad`` pixels either way, zeros moving in."""
    if pad == 0:
        return images
    n, _, height, width = images.shape
    windows = F.pad(images, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 2p+1, 2p+1, H, W), a view
    down, right = torch.randint(2 * pad + 1, (2, n), generator=generator, device=images.device)
    return windows[torch.arange(n, device=images.device), :, down, right]  # (N, C, H, W)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns (N, C, H, W) with half of the images mirrored left to right."""
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Returns float (N, C, H, W) with a ``side`` x ``side`` square of zeros each, centred on a uniform pixel.

    The square is clipped at the border. Source: DeVries and Taylor, arXiv 1708.04552.
    """
    if side == 0:
        return images
    n, _, height, width = images.shape
    rows = _inside(height, side, n, images.device, generator)  # (N, H)
    columns = _inside(width, side, n, images.device, generator)  # (N, W)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)  # mask (N, 1, H, W)


def _inside(length: int, side: int, n: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Returns (N, length) whether a coordinate lies in the N random intervals."""
    first = torch.randint(length, (n, 1), generator=generator, device=device) - side // 2
    place = torch.arange(length, device=device)
    return (place >= first) & (place < first + side)


def mixup_share(alpha: float, rng: np.random.Generator) -> float:
    """Returns the share of the first image, from Beta(alpha, alpha). Source: Zhang et al., arXiv 1710.09412."""
    return float(rng.beta(alpha, alpha))


def mixed(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns ``share`` of each image plus the rest of a random other one (N, C, H, W), and whose that is (N,)."""
    partner = torch.randperm(len(images), generator=generator, device=images.device)
    return torch.lerp(images[partner], images, share), partner


def normalise(
    images: Tensor, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = False
) -> Tensor:
    """Returns uint8 (N, C, H, W) as float32 with ``mean`` and ``std`` (of values in 0..1) taken out."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std)], device=images.device).view(-1, 1, 1)
    return images.to(torch.float32, memory_format=layout).mul_(scale).add_(shift)


def augmented(
    images: Tensor, recipe: Recipe, mean: Sequence[float], std: Sequence[float], generator: torch.Generator
) -> Tensor:
    """Returns uint8 (N, C, H, W) cropped, flipped, normalised and cut out as ``recipe`` says, float32."""
    images = random_crop(images, recipe.crop_pad, generator)
    if recipe.flip:
        images = random_flip(images, generator)
    floats = normalise(images, mean, std, channels_last=recipe.channels_last)
    return cutout(floats, recipe.cutout, generator)
