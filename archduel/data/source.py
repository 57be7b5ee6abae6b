"""Labelled images before they are decoded, whatever they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archduel.errors import DataError

__all__ = ["SPLITS", "Source", "digest", "label_codes", "naturally"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """Labelled images that are read one at a time.

    Attributes:
        name: as the user gave it.
        labels: (N,) int64, positions in ``classes``.
        classes: names in label order.
        read: image number -> image; raises anything for one that cannot be read; callable from several threads.
        key: SHA-256 that changes when the images do; None where only reading them all would tell.
        given: (N,) int8, the split that each belongs to (0 train, 1 validation, 2 test); a split nobody belongs to is made
            from train.
        names: file names, one an image, or empty.
        flip: whether a mirrored image keeps its label; None = not known.
        resident: whether the images are in memory anyway, so that few of them need no cache.
        warnings: what was odd while listing.
    """

    name: str
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    read: Callable[[int], Image.Image]
    key: str | None
    given: NDArray[np.int8]
    names: Sequence[str] = ()
    flip: bool | None = None
    resident: bool = False
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def label_of(self, index: int) -> str:
        """Returns how to name image ``index`` to a person."""
        return self.names[index] if self.names else f"image {index}"


def digest(*parts: Any) -> str:
    """Returns the SHA-256 over arrays, bytes and the text of everything else, in order."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype.str}{part.shape}".encode())
            total.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        else:
            total.update(part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape"))
        total.update(b"\0")
    return total.hexdigest()


def naturally(names: Iterable[str]) -> list[str]:
    """Returns names sorted: as numbers where all are, else as text."""
    listed = list(names)
    if all(name.isascii() and name.isdigit() for name in listed):
        return sorted(listed, key=lambda name: (int(name), name))
    return sorted(listed)


def label_codes(
    values: Any, classes: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Returns (labels (N,) int64 from 0, class names) for labels that are integers or texts.

    Args:
        values: (N,) integers, integral floats, booleans, bytes or texts.
        classes: names in label order, for integer labels 0..len-1; without them the distinct values are the names.

    Raises:
        DataError: for labels of another shape or type, or outside ``classes``.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # (N, 1) -> (N,)
    if array.ndim != 1:
        raise DataError(f"labels must be one number or name an image, got an array of shape {array.shape}")
    if array.dtype.kind == "f" and bool(np.all(array == np.rint(array))):
        array = array.astype(np.int64)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind not in "iubU":
        raise DataError(f"labels must be integers or texts, got an array of {array.dtype}")
    if classes is not None and array.dtype.kind != "U":
        codes = array.astype(np.int64)
        if len(codes) and (codes.min() < 0 or codes.max() >= len(classes)):
            raise DataError(
                f"labels run from {codes.min()} to {codes.max()}, but {len(classes)} class names are given"
            )
        return codes, tuple(str(name) for name in classes)
    found, codes = np.unique(array, return_inverse=True)
    return codes.reshape(-1).astype(np.int64), tuple(str(value) for value in found.tolist())
