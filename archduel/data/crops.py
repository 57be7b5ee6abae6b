"""Random crops of random shape, as ImageNet networks are trained with (torchvision's ``RandomResizedCrop``)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archduel.data.picture import upright

__all__ = ["crop_box", "cropped"]

TRIES = 10
LEAST_RATIO, MOST_RATIO = 3 / 4, 4 / 3


def crop_box(width: int, height: int, scale: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of a crop whose area is uniform in ``scale``..1 of the picture's.

    The logarithm of its aspect ratio is uniform between those of 3/4 and 4/3. A crop that does not fit is drawn again; after ten
    times it is the largest centred one with an allowed ratio.
    """
    for _ in range(TRIES):
        area = width * height * rng.uniform(scale, 1)
        ratio = math.exp(rng.uniform(math.log(LEAST_RATIO), math.log(MOST_RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    ratio = min(max(width / height, LEAST_RATIO), MOST_RATIO)
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def cropped(image: Image.Image, size: int, scale: float, mode: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns a random crop of a picture as (C, size, size) uint8 (bilinear, antialiased).

    A JPEG several times larger than needed is decoded at a half, a quarter or an eighth, never below ``size``.
    """
    full = image.size
    box = crop_box(*full, scale, rng)
    finest = min(box[2] - box[0], box[3] - box[1]) / size
    if finest >= 2:
        image.draft(None, (math.ceil(full[0] / finest), math.ceil(full[1] / finest)))
    shrunk = image.size[0] / full[0], image.size[1] / full[1]
    image = upright(image, mode) if image.mode != mode or _turned(image) else image
    if image.size != tuple(round(side * share) for side, share in zip(full, shrunk)):  # a picture that was lying on its side
        box, shrunk = crop_box(*image.size, scale, rng), (1.0, 1.0)
    place = (box[0] * shrunk[0], box[1] * shrunk[1], box[2] * shrunk[0], box[3] * shrunk[1])
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=place), np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # (C, S, S)


def _turned(image: Image.Image) -> bool:
    """Whether the camera says that the picture lies on its side, or it is not opaque."""
    return image.getexif().get(0x0112, 1) != 1 or "transparency" in image.info
