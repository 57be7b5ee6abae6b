"""Pictures from arrays, `.npz` files and dataset objects."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archduel.data.source import Source, digest, label_codes
from archduel.errors import DataError

__all__ = ["from_arrays", "from_dataset", "from_npz", "picture"]

IMAGES = ("images", "x", "data", "X")
LABELS = ("labels", "y", "targets", "Y")
PARTS = (("train", 0), ("val", 1), ("validation", 1), ("valid", 1), ("test", 2))


def _plain(value: Any) -> NDArray[Any]:
    """Returns an array, a tensor of any device or a nested list as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value)


def _channels_first(shape: tuple[int, ...], tensor: bool) -> bool:
    """Returns whether (a, b, c) is (C, H, W): by the axis of 1, 3 or 4; a tensor's where both could be."""
    first, last = shape[0] in (1, 3, 4), shape[-1] in (1, 3, 4)
    return first and (tensor or not last)


def picture(value: Any, *, scale: float = 1.0, tensor: bool = False) -> Image.Image:
    """Returns one array as a picture.

    Args:
        value: (H, W), (C, H, W) or (H, W, C) with C = 1, 3 or 4; uint8, uint16, bool or float.
        scale: what float values are multiplied by to lie in 0..255.
        tensor: take (C, H, W) where the shape leaves it open.

    Raises:
        DataError: for another shape or type, or values out of range.
    """
    array = _plain(value)
    if array.ndim == 3:
        if _channels_first(array.shape, tensor):
            array = array.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
        if array.shape[2] == 1:
            array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise DataError(
            f"a picture must be (H, W), (C, H, W) or (H, W, C) with C = 1, 3 or 4, got {array.shape}"
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
        raise DataError(f"a picture must hold numbers, got {array.dtype}")
    values = array.astype(np.float64) * (scale if array.dtype.kind == "f" else 1.0)
    if not bool(np.isfinite(values).all()) or values.min() < 0 or values.max() > 255.5:
        raise DataError(
            f"values run from {array.min():.3g} to {array.max():.3g}; give pictures as they are before normalisation: "
            "uint8, floats in 0..1 or numbers in 0..255"
        )
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _scale(sample: NDArray[Any]) -> float:
    """Returns 255 for floats of 0..1, else 1."""
    return 255.0 if sample.dtype.kind == "f" and sample.size and float(np.nanmax(sample)) <= 1.0 else 1.0


def _check(images: NDArray[Any], n_labels: int, name: str) -> None:
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
    pixels = _plain(images)
    codes, names = label_codes(_plain(labels), classes)
    _check(pixels, len(codes), name)
    scale = _scale(pixels)
    split = np.zeros(len(codes), np.int8) if given is None else given

    def read(number: int) -> Image.Image:
        return picture(pixels[number], scale=scale, tensor=tensor)

    return Source(
        name, codes, names, read, key or digest("arrays", pixels, codes), split, flip=flip, resident=True
    )


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Returns one array of an `.npz`; never unpickles."""
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _pairs(found: set[str], path: Path) -> list[tuple[str, str, int]]:
    """Returns (images, labels, split) names in an `.npz`."""
    for images, labels in zip(IMAGES, LABELS):
        if {images, labels} <= found:
            return [(images, labels, 0)]
    for images in IMAGES:
        for labels in LABELS:
            if {images, labels} <= found:
                return [(images, labels, 0)]
            parts = [
                (*pair, code)
                for part, code in PARTS
                for pair in (
                    (f"{images}_{part}", f"{labels}_{part}"),
                    (f"{part}_{images}", f"{part}_{labels}"),
                )
                if set(pair) <= found
            ]
            if parts and parts[0][2] == 0:
                return parts
    raise DataError(
        f"{path} holds {', '.join(sorted(found)) or 'nothing'}; expected the arrays 'images' and 'labels' (or x and y, or "
        "x_train, y_train, x_test, y_test)"
    )


def from_npz(path: Path) -> Source:
    """Returns the source for an `.npz` file: `images` and `labels`, or such pairs for train, validation and test.

    Raises:
        DataError: for a file that is no `.npz`, lacks the arrays, or holds Python objects (which are never unpickled).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = {entry.removesuffix(".npy") for entry in archive.namelist()}
            pairs = _pairs(found, path)
            images = [_member(archive, pair[0]) for pair in pairs]
            labels = [_plain(_member(archive, pair[1])).reshape(-1) for pair in pairs]
            classes = _member(archive, "classes").tolist() if "classes" in found else None
    except (zipfile.BadZipFile, OSError, EOFError, KeyError) as error:
        raise DataError(f"{path} cannot be read as .npz: {error}") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} cannot be read: {error}; object arrays are refused, save plain numbers"
        ) from error
    for pair, pixels, codes in zip(pairs, images, labels):
        _check(pixels, len(codes), f"{path.name} ({pair[0]})")
    given = np.concatenate([np.full(len(codes), pair[2], np.int8) for pair, codes in zip(pairs, labels)])
    return from_arrays(
        images[0] if len(images) == 1 else np.concatenate(images),
        np.concatenate(labels),
        name=str(path),
        classes=classes,
        given=given,
    )


def from_dataset(dataset: Any, *, name: str = "dataset") -> Source:
    """Returns the source for an object with ``len()`` whose items are (picture, label): PIL, array or tensor, and integer.

    Labels are taken from ``targets`` where the dataset has them and does not change them, else every item is read once more.

    Raises:
        DataError: for items of another form.
    """
    n = len(dataset)
    if not n:
        raise DataError(f"{name} is empty")
    item = dataset[0]
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise DataError(f"the items of {name} must be (picture, label), got {type(item).__name__}")
    targets = getattr(dataset, "targets", None)
    if targets is None or len(targets) != n or getattr(dataset, "target_transform", None) is not None:
        targets = [int(dataset[number][1]) for number in range(n)]
    codes, names = label_codes(_plain(targets), getattr(dataset, "classes", None))
    sample = [dataset[number][0] for number in range(0, n, max(1, n // 50))]
    floats = [_plain(value) for value in sample if not isinstance(value, Image.Image)]
    scale = _scale(np.array([value.max() for value in floats])) if floats else 1.0

    def read(number: int) -> Image.Image:
        value = dataset[number][0]
        if isinstance(value, Image.Image):
            return value.copy()  # the caller closes what it gets
        return picture(value, scale=scale, tensor=hasattr(value, "detach"))

    return Source(name, codes, names, read, None, np.zeros(n, np.int8), resident=True)
