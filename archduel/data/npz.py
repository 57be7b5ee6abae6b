"""Images from `.npz` files; large ones are never in memory as a whole."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from archduel.data.arrays import as_image, check_images, float_scale, from_arrays
from archduel.data.dataset import Source, digest, label_codes
from archduel.data.stored import Item, keep, kept_once
from archduel.errors import DataError

__all__ = ["from_npz"]

IMAGES = ("images", "x", "data", "X")
LABELS = ("labels", "y", "targets", "Y")
PARTS = (("train", 0), ("val", 1), ("validation", 1), ("valid", 1), ("test", 2))
SMALL = 64 * 2**20  # bytes of pixels up to which a file is simply read
ROWS = 256  # images read at a time from a larger one


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Returns one array, whole; never unpickles."""
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(cast(BinaryIO, file), allow_pickle=False)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Returns shape, Fortran order and type of the array that begins here."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return tuple(shape), bool(fortran), dtype


def _blocks(archive: zipfile.ZipFile, name: str) -> Iterator[NDArray[Any]]:
    """Yields an array a few hundred rows at a time."""
    with archive.open(f"{name}.npy") as member:
        file = cast(BinaryIO, member)
        shape, fortran, dtype = _header(file)
        if fortran or dtype.hasobject:
            raise DataError(
                f"{name} is stored in Fortran order or as objects; save it again with numpy.ascontiguousarray"
            )
        row = int(np.prod(shape[1:])) * dtype.itemsize
        for start in range(0, shape[0], ROWS):
            n = min(ROWS, shape[0] - start)
            raw = file.read(n * row)
            if len(raw) != n * row:
                raise DataError(f"{name} is cut off")
            yield np.frombuffer(raw, dtype).reshape(n, *shape[1:])  # (n, ...)


def _pairs(found: set[str], path: Path) -> list[tuple[str, str, int]]:
    """Returns (images, labels, split) names in the file."""
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


def _small(archive: zipfile.ZipFile, path: Path, pairs: list[tuple[str, str, int]], codes: _Labels) -> Source:
    images = [_array(archive, pair[0]) for pair in pairs]
    for pair, pixels, n in zip(pairs, images, codes.counts):
        check_images(pixels, n, f"{path.name} ({pair[0]})")
    if len({pixels.shape[1:] for pixels in images}) > 1:
        raise DataError(f"{path}: the splits hold images of different shapes")
    joined = images[0] if len(images) == 1 else np.concatenate(images)
    return from_arrays(joined, codes.labels, name=str(path), classes=codes.classes, given=codes.given)


class _Labels:
    """The labels of all pairs, joined: codes, class names, splits, and how many each pair has."""

    def __init__(self, archive: zipfile.ZipFile, pairs: list[tuple[str, str, int]], found: set[str]) -> None:
        parts = [_array(archive, pair[1]) for pair in pairs]
        parts = [part[:, 0] if part.ndim == 2 and part.shape[1] == 1 else part for part in parts]
        names = [str(name) for name in _array(archive, "classes").tolist()] if "classes" in found else None
        if any(part.ndim != 1 for part in parts):
            raise DataError(
                f"labels must be one number or name an image, got shapes {[part.shape for part in parts]}"
            )
        self.counts = [len(part) for part in parts]
        self.labels, self.classes = label_codes(np.concatenate(parts), names)
        self.given = np.repeat(np.array([pair[2] for pair in pairs], np.int8), self.counts)


def _scale(archive: zipfile.ZipFile, pairs: list[tuple[str, str, int]]) -> float:
    """Returns what floats are multiplied by: 255 only if no value in the file is above 1."""
    blocks = (block for pair in pairs for block in _blocks(archive, pair[0]))
    first = next(blocks)
    return 1.0 if first.dtype.kind != "f" else min(float_scale(first), *map(float_scale, blocks), 255.0)


def _items(path: Path, pairs: list[tuple[str, str, int]], codes: _Labels) -> Iterator[Item]:
    """Yields every image as uint8, its label and split."""
    with zipfile.ZipFile(path) as archive:
        scale = _scale(archive, pairs)
        number = 0
        for pair in pairs:
            for block in _blocks(archive, pair[0]):
                for pixels in block:
                    array = np.asarray(as_image(pixels, scale=scale))
                    yield array, int(codes.labels[number]), int(codes.given[number])
                    number += 1


def _large(
    archive: zipfile.ZipFile, path: Path, pairs: list[tuple[str, str, int]], codes: _Labels, converted: Path
) -> Source:
    """Returns the source for a file that is first copied, in a stream, into a kept set."""
    first = next(_blocks(archive, pairs[0][0]))
    for pair, n in zip(pairs, codes.counts):
        with archive.open(f"{pair[0]}.npy") as member:
            shape, _, dtype = _header(cast(BinaryIO, member))
        check_images(np.broadcast_to(np.zeros((), dtype), shape), n, f"{path.name} ({pair[0]})")
        if shape[1:] != first.shape[1:]:
            raise DataError(f"{path}: the splits hold images of different shapes")
    stamp = path.stat()
    final = converted / f"npz-{digest(path.resolve(), stamp.st_size, stamp.st_mtime_ns)[:16]}"
    shape = np.asarray(as_image(first[0], scale=float_scale(first))).shape
    return kept_once(
        final,
        lambda folder: keep(folder, _items(path, pairs, codes), codes.classes, shape=shape),
        name=str(path),
    )


def from_npz(path: Path, converted: Path) -> Source:
    """Returns the source for an `.npz` file: `images` and `labels`, or such pairs for train, validation and test.

    Args:
        path: the file.
        converted: folder for the copies of large files that can be memory-mapped.

    Raises:
        DataError: for a file that is no `.npz`, lacks the arrays, or holds Python objects (which are never unpickled).
    """
    if not path.is_file():
        raise DataError(
            f"there is no file {path}" if not path.exists() else f"{path} is a folder, expected an .npz file"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            found = {entry.removesuffix(".npy") for entry in archive.namelist()}
            pairs = _pairs(found, path)
            codes = _Labels(archive, pairs, found)
            size = sum(archive.getinfo(f"{pair[0]}.npy").file_size for pair in pairs)
            return (
                _small(archive, path, pairs, codes)
                if size <= SMALL
                else _large(archive, path, pairs, codes, converted)
            )
    except DataError:
        raise
    except ValueError as error:
        raise DataError(
            f"{path} cannot be read: {error}; object arrays are refused, save plain numbers"
        ) from error
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, MemoryError, StopIteration) as error:
        raise DataError(f"{path} cannot be read as .npz: {error}") from error
