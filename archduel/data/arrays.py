"""Images from arrays in memory, and one array as an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archduel.data.dataset import Source, ValueRange, digest, label_codes
from archduel.data.levels import Spread, range_of, range_warnings, spread_of, usual_range
from archduel.errors import DataError

__all__ = ["as_image", "check_images", "decided", "from_arrays", "plain"]

STRAY = 0.01  # share of an image's values that may lie far outside the range of its set


def plain(value: Any) -> NDArray[Any]:
    """Returns an array, a tensor of any device, type and layout, or a nested list as an array.

    Raises:
        DataError: for lists of unequal lengths, or what is no array at all.
    """
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            value = value.to_dense() if str(value.layout) != "torch.strided" else value
            value = value.float() if str(value.dtype) == "torch.bfloat16" else value  # NumPy has no such type
        return np.asarray(value)
    except Exception as error:  # whatever an object's conversion leads to
        raise DataError(f"{type(value).__name__} is no array of numbers: {type(error).__name__}: {error}"[:300]) from error


def _channels_first(shape: tuple[int, ...], tensor: bool) -> bool:
    """Returns whether (a, b, c) is (C, H, W): by the axis of 1, 3 or 4; a tensor's where both could be."""
    first, last = shape[0] in (1, 3, 4), shape[-1] in (1, 3, 4)
    return first and (tensor or not last)


def as_image(value: Any, *, value_range: ValueRange | None = None, tensor: bool = False) -> Image.Image:
    """Returns one array as an image.

    Args:
        value: (H, W), (C, H, W) or (H, W, C) with C = 1, 3 or 4; uint8, uint16, bool or numbers.
        value_range: the values that become black and white; None = uint16 by 0..65535, all others by 0..255.
        tensor: take (C, H, W) where the shape leaves it open.

    Raises:
        DataError: for another shape or type, or values out of range.
    """
    array = plain(value)
    if array.ndim == 3:
        if _channels_first(array.shape, tensor):
            array = array.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
        if array.shape[2] == 1:
            array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise DataError(
            f"an image must be (H, W), (C, H, W) or (H, W, C) with C = 1, 3 or 4, got {array.shape}"
        )
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16 and value_range is None:
        array = array if array.ndim == 2 else np.rint(array / 257).astype(np.uint8)
    elif array.dtype != np.uint8:
        array = _from_numbers(array, value_range or (0.0, 255.0))
    return Image.fromarray(np.ascontiguousarray(array))


def _from_numbers(array: NDArray[Any], value_range: ValueRange) -> NDArray[np.uint8]:
    """Returns floats or wide integers as uint8; what lies a little outside the range, or seldom, is cut off."""
    if array.dtype.kind not in "fiu":
        raise DataError(f"an image must hold numbers, got {array.dtype}")
    black, white = value_range
    values = (array.astype(np.float64) - black) * (255 / (white - black))
    stray = float(((values < -128) | (values > 383)).mean())
    if not bool(np.isfinite(values).all()) or stray > STRAY:
        raise _unusual(float(array.min()), float(array.max()))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _unusual(least: float, most: float) -> DataError:
    return DataError(
        f"values run from {least:.3g} to {most:.3g}; give images as they are before normalisation: "
        "uint8, floats in 0..1 or numbers in 0..255"
    )


def decided(spread: Spread | None, dtype: np.dtype[Any]) -> tuple[ValueRange | None, list[str]]:
    """Returns the range of a set of arrays of one type, None for 8 bits, and what a person should know of it.

    Raises:
        DataError: for numbers of no usual range (normalised images, say: what they were before cannot be known).
    """
    floats = dtype.kind == "f"
    if dtype == np.uint8 or dtype.kind == "b" or spread is None:
        return None, []
    if usual_range(spread, floats=floats) is None:
        raise _unusual(spread.least, spread.most)
    taken = range_of(spread, floats=floats)
    return taken, range_warnings(spread, taken, expected=_by_type(spread, dtype))


def _by_type(spread: Spread, dtype: np.dtype[Any]) -> ValueRange:
    """Returns the range that goes without saying for numbers of a type; it was the only one once."""
    if dtype == np.uint16:
        return 0.0, 65535.0
    return (0.0, 1.0) if dtype.kind == "f" and spread.most <= 1 else (0.0, 255.0)


def check_images(images: NDArray[Any], n_labels: int, name: str) -> None:
    """Raises where an array cannot be ``n_labels`` images.

    Raises:
        DataError: naming type, shape or length.
    """
    if images.dtype.kind not in "uifb":
        raise DataError(f"the images of {name} must be numbers, got an array of {images.dtype}")
    if images.ndim not in (3, 4):
        raise DataError(
            f"the images of {name} must be (N, H, W), (N, C, H, W) or (N, H, W, C), got {images.shape}"
        )
    if len(images) != n_labels:
        raise DataError(
            f"{name} has {len(images)} images but {n_labels} labels; there must be one label an image"
        )
    if not n_labels:
        raise DataError(f"{name} is empty")


def from_arrays(
    images: Any,
    labels: Any,
    *,
    name: str = "arrays",
    classes: Any = None,
    given: NDArray[np.int8] | None = None,
    key: str | None = None,
    flip: bool | None = None,
) -> Source:
    """Returns the source for images and labels in memory (or memory-mapped).

    Args:
        images: (N, H, W), (N, C, H, W) or (N, H, W, C) array or tensor.
        labels: (N,) integers or texts, or (N, K) with a single 1 in each row.
        name: for messages.
        classes: names in label order.
        given: (N,) int8, the split of each; None = splits are made.
        key: identifies the content; None = hashed here.
        flip: whether mirrored images keep their label.

    Raises:
        DataError: for shapes, types or lengths that do not fit, or values of no usual range.
    """
    tensor = hasattr(images, "detach")
    pixels = plain(images)
    codes, names = label_codes(plain(labels), classes)
    check_images(pixels, len(codes), name)
    eight = pixels.dtype == np.uint8 or pixels.dtype.kind == "b"
    spread = None if eight else spread_of(pixels)
    taken, told = decided(spread, pixels.dtype)
    split = np.zeros(len(codes), np.int8) if given is None else given

    def read(number: int) -> Image.Image:
        return as_image(pixels[number], value_range=taken, tensor=tensor)

    # a set that was always scaled so keeps the key that it has in caches and run folders
    usual = spread is None or taken == _by_type(spread, pixels.dtype)
    mark = key or digest("arrays", pixels, codes, *(() if usual else (taken,)))
    return Source(name, codes, names, read, mark, split, flip=flip, resident=True, warnings=tuple(told), value_range=taken)
