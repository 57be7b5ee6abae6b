"""From any image to the array a network sees. Stands alone (Pillow and NumPy): an export carries a copy of this file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["DEEP", "apply_preprocessing", "turned", "upright"]

INNER = 224 / 256
"""Share of the centre square's side that the rule ``inner`` keeps: ImageNet's usual 224 of 256 px."""
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
ORIENTATION = 0x0112
"""EXIF's tag for how the camera was held."""
TURNS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
SAYING = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Where an image that was read says that tag."""


def turned(image: Image.Image) -> Image.Image:
    """Returns the image with the camera's rotation undone; as it is where it says none, or what it says is damaged.

    (``ImageOps.exif_transpose`` writes the other tags anew, and fails where one of them cannot be: of pixels that are whole.)
    """
    image.load()  # which turns TIFF files, and takes the tag from them
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # the reader raises whatever damaged tags lead it to
        return image
    if turn is None:
        return image
    image = image.transpose(turn)
    for key in SAYING:  # else the next one who looks would turn it again
        image.info.pop(key, None)
    return image


def _eight_bit(image: Image.Image, value_range: Any = None) -> Image.Image:
    """Returns a grey image of 16 or 32 bits as 8 bits, by the range of its set.

    Without one: integers by 0..65535, floats by 0..1 or else as 0..255.
    """
    values = np.asarray(image).astype(np.float64)
    if value_range is None:
        values = np.nan_to_num(values)
        value_range = (0, 65535) if image.mode != "F" else (0, 1 if values.max() <= 1 else 255)
    black, white = value_range
    values = np.nan_to_num(values, nan=black, posinf=white, neginf=black)
    return Image.fromarray(np.clip(np.rint((values - black) * (255.0 / (white - black))), 0, 255).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    """Returns the image as RGB on white paper where it has transparency, else unchanged."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    return paper.convert("RGB")


def _square(image: Image.Image, size: int, rule: str) -> Image.Image:
    """Returns the image as ``size`` x ``size`` pixels, its aspect ratio kept."""
    width, height = image.size
    if (width, height) == (size, size) and rule != "inner":
        return image
    if rule == "letterbox":
        scale = size / max(width, height)
        inner = image.resize(
            (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC
        )
        square = Image.new(image.mode, (size, size))  # black
        square.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
        return square
    side = min(width, height) * (INNER if rule == "inner" else 1)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def upright(image: Image.Image, mode: str, value_range: Any = None) -> Image.Image:
    """Returns the image with the camera's rotation undone, 8 bits a channel (by ``value_range``), opaque, in ``mode``."""
    image = turned(image)
    if image.mode in DEEP:
        image = _eight_bit(image, value_range)
    return _opaque(image).convert(mode)


def apply_preprocessing(image: Image.Image, preprocessing: Any) -> NDArray[np.uint8]:
    """Returns any image as the uint8 array that goes into the cache and, scaled, into the network.

    The camera's EXIF rotation is undone, 16-bit grey becomes 8-bit, transparency becomes white, then the image is
    resized (bicubic, antialiased) by the rule. The network's input is ``(array / 255 - mean) / std``.

    Args:
        image: an image of any mode and size.
        preprocessing: anything with ``size`` (pixels), ``mode`` (``RGB`` or ``L``) and ``rule`` (``crop``,
            ``inner``, ``letterbox``, or ``none``: expected to have that size already, cropped if not), and, where images have
            more than 8 bits, ``value_range`` (the values that become black and white).

    Returns:
        (C, size, size) uint8, C = 3 for ``RGB`` and 1 for ``L``.
    """
    image = upright(image, preprocessing.mode, getattr(preprocessing, "value_range", None))
    array = np.asarray(_square(image, preprocessing.size, preprocessing.rule), dtype=np.uint8)
    if array.ndim == 2:
        array = array[:, :, None]  # (H, W) -> (H, W, 1)
    return np.ascontiguousarray(array.transpose(2, 0, 1))  # (H, W, C) -> (C, H, W)
