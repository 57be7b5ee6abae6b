"""Images from arrays, `.npz` files and dataset objects."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archduel.data.dataset import Source, digest, label_codes
from archduel.errors import DataError

__all__ = ["as_image", "check_images", "float_scale", "from_arrays", "from_dataset", "plain"]


def plain(value: Any) -> NDArray[Any]:
    """Returns an array, a tensor of any device or a nested list as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value)


def _channels_first(shape: tuple[int, ...], tensor: bool) -> bool:
    """Returns whether (a, b, c) is (C, H, W): by the axis of 1, 3 or 4; a tensor's where both could be."""
    first, last = shape[0] in (1, 3, 4), shape[-1] in (1, 3, 4)
    return first and (tensor or not last)


def as_image(value: Any, *, scale: float = 1.0, tensor: bool = False) -> Image.Image:
    """Returns one array as an image.

    Args:
        value: (H, W), (C, H, W) or (H, W, C) with C = 1, 3 or 4; uint8, uint16, bool or float.
        scale: what float values are multiplied by to lie in 0..255.
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
    elif array.dtype == np.uint16 and array.ndim == 3:
        array = np.rint(array / 257).astype(np.uint8)
    elif array.dtype not in (np.uint8, np.uint16):
        array = _from_numbers(array, scale)
    return Image.fromarray(np.ascontiguousarray(array))


def _from_numbers(array: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    """Returns floats or wide integers as uint8."""
    if array.dtype.kind not in "fiu":
        raise DataError(f"an image must hold numbers, got {array.dtype}")
    values = array.astype(np.float64) * (scale if array.dtype.kind == "f" else 1.0)
    if not bool(np.isfinite(values).all()) or values.min() < 0 or values.max() > 255.5:
        raise DataError(
            f"values run from {array.min():.3g} to {array.max():.3g}; give images as they are before normalisation: "
            "uint8, floats in 0..1 or numbers in 0..255"
        )
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def float_scale(sample: NDArray[Any]) -> float:
    """Returns 255 for floats of 0..1, else 1."""
    return 255.0 if sample.dtype.kind == "f" and sample.size and float(np.nanmax(sample)) <= 1.0 else 1.0


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
        labels: (N,) integers or texts.
        name: for messages.
        classes: names in label order.
        given: (N,) int8, the split of each; None = splits are made.
        key: identifies the content; None = hashed here.
        flip: whether mirrored images keep their label.

    Raises:
        DataError: for shapes, types or lengths that do not fit.
    """
    tensor = hasattr(images, "detach")
    pixels = plain(images)
    codes, names = label_codes(plain(labels), classes)
    check_images(pixels, len(codes), name)
    scale = float_scale(pixels)
    split = np.zeros(len(codes), np.int8) if given is None else given

    def read(number: int) -> Image.Image:
        return as_image(pixels[number], scale=scale, tensor=tensor)

    return Source(
        name, codes, names, read, key or digest("arrays", pixels, codes), split, flip=flip, resident=True
    )


def from_dataset(dataset: Any, *, name: str = "dataset") -> Source:
    """Returns the source for an object with ``len()`` whose items are (image, label): PIL, array or tensor, and integer.

    Labels are taken from ``targets`` where the dataset has them and does not change them, else every item is read once more.

    Raises:
        DataError: for items of another form.
    """
    n = len(dataset)
    if not n:
        raise DataError(f"{name} is empty")
    item = dataset[0]
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise DataError(f"the items of {name} must be (image, label), got {type(item).__name__}")
    targets = getattr(dataset, "targets", None)
    if targets is None or len(targets) != n or getattr(dataset, "target_transform", None) is not None:
        targets = [int(dataset[number][1]) for number in range(n)]
    codes, names = label_codes(plain(targets), getattr(dataset, "classes", None))
    sample = [dataset[number][0] for number in range(0, n, max(1, n // 50))]
    floats = [plain(value) for value in sample if not isinstance(value, Image.Image)]
    scale = float_scale(np.array([value.max() for value in floats])) if floats else 1.0

    one_at_a_time = Lock()  # such objects are seldom made for threads

    def read(number: int) -> Image.Image:
        """Returns one image; threads wait for each other."""
        with one_at_a_time:
            value = dataset[number][0]
        if isinstance(value, Image.Image):
            return value.copy()  # the caller closes what it gets
        return as_image(value, scale=scale, tensor=hasattr(value, "detach"))

    return Source(name, codes, names, read, None, np.zeros(n, np.int8), resident=True)
