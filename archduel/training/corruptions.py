"""Spoiled copies of pictures: noise, blur, contrast, JPEG. For asking how a network bears what a camera does.

Four simple changes in the spirit of Hendrycks and Dietterich (ICLR 2019), with their strengths where those are plain
numbers (noise, contrast, JPEG quality); they are not the files of CIFAR-10-C, and results on the two do not compare.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from archduel.errors import SettingError, unknown

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupted"]

SEVERITIES = (1, 2, 3, 4, 5)
NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation, of values in 0..1
BLUR = (0.4, 0.6, 1.0, 1.3, 1.6)  # standard deviation in pixels up to 32 px, in proportion above
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # share of the distance from the picture's mean that is kept
QUALITY = (80, 65, 58, 50, 40)  # of JPEG


def _noise(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """Returns the pictures with independent normal noise."""
    noise = torch.randn(images.shape, generator=generator)
    return images.float() + 255 * NOISE[level] * noise


def _blur(images: Tensor, level: int, _: torch.Generator) -> Tensor:
    """Returns the pictures through a Gaussian, rows then columns."""
    sigma = BLUR[level] * max(1.0, images.shape[-1] / 32)
    reach = min(math.ceil(3 * sigma), images.shape[-1] - 1)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).repeat(images.shape[1], 1, 1, 1)  # (C, 1, 1, 2 reach + 1)
    padded = F.pad(images.float(), (reach,) * 4, mode="reflect")
    across = F.conv2d(padded, weights, groups=images.shape[1])
    return F.conv2d(across, weights.transpose(2, 3), groups=images.shape[1])


def _contrast(images: Tensor, level: int, _: torch.Generator) -> Tensor:
    """Returns the pictures nearer to their own mean colour."""
    floats = images.float()
    mean = floats.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
    return mean + CONTRAST[level] * (floats - mean)


def _jpeg(images: Tensor, level: int, _: torch.Generator) -> Tensor:
    """Returns the pictures written as JPEG and read again."""
    return torch.from_numpy(np.stack([_compressed(image, QUALITY[level]) for image in images.numpy()]))


def _compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    grey = len(pixels) == 1
    file = io.BytesIO()
    Image.fromarray(pixels[0] if grey else pixels.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
    again = np.asarray(Image.open(file))
    return again[None] if grey else again.transpose(2, 0, 1)  # (C, H, W)


CORRUPTIONS: Mapping[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "jpeg": _jpeg,
}


def corrupted(images: Tensor, kind: str, severity: int, generator: torch.Generator) -> Tensor:
    """Returns spoiled copies.

    Args:
        images: (N, C, H, W) uint8 on the CPU; not changed.
        kind: a name in ``CORRUPTIONS``.
        severity: 1 (mild) to 5.
        generator: of the noise; the others draw nothing.

    Returns:
        (N, C, H, W) uint8, rounded and clipped.

    Raises:
        UnknownNameError: for another kind.
        SettingError: for another severity.
    """
    if kind not in CORRUPTIONS:
        raise unknown("corruption", kind, CORRUPTIONS)
    if severity not in SEVERITIES:
        raise SettingError(f"severity must be 1 to 5, got {severity}")
    changed = CORRUPTIONS[kind](images, severity - 1, generator)
    return changed.float().round_().clamp_(0, 255).byte()
