"""Images from `.npz` files; large ones are never in memory as a whole."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from archduel.data.arrays import as_image, check_images, decided, from_arrays
from archduel.data.dataset import PARTS, Source, ValueRange, digest, label_codes
from archduel.data.download import FREE, MOST_RATIO
from archduel.data.levels import spread_of
from archduel.data.stored import Item, keep, kept_once
from archduel.errors import AbsentError, DataError, reading
from archduel.text import printable

__all__ = ["from_npz", "pairs_among"]

IMAGES = ("images", "x", "data", "X")
LABELS = ("labels", "y", "targets", "Y")
SMALL = 64 * 2**20  # bytes of pixels up to which a file is simply read
ROWS = 256  # images read at a time from a larger one
LONGEST = 4_096  # bytes of one value: the longest class name


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Returns shape, Fortran order and type of the array that begins here."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return tuple(shape), bool(fortran), dtype


def _facts(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Returns shape, Fortran order and type of an array, after checking that it is plain and has the bytes that it claims."""
    with archive.open(f"{name}.npy") as member:
        shape, fortran, dtype = _header(cast(BinaryIO, member))
        start = member.tell()
    if dtype.hasobject:
        raise DataError(f"{name} holds Python objects; object arrays are refused, save plain numbers")
    if not 0 < dtype.itemsize <= LONGEST:
        raise DataError(f"{name} holds {dtype} of {dtype.itemsize} bytes each, expected numbers or short texts")
    if math.prod(shape) * dtype.itemsize != archive.getinfo(f"{name}.npy").file_size - start:
        raise DataError(f"{name} says shape {shape} of {dtype}, but has another number of bytes; it is cut off or damaged")
    return shape, fortran, dtype


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Returns one array, whole; never unpickles."""
    _facts(archive, name)
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(cast(BinaryIO, file), allow_pickle=False)


def _blocks(archive: zipfile.ZipFile, name: str) -> Iterator[NDArray[Any]]:
    """Yields an array a few hundred rows at a time."""
    shape, fortran, dtype = _facts(archive, name)
    if fortran:
        raise DataError(f"{name} is stored in Fortran order; save it again with numpy.ascontiguousarray")
    with archive.open(f"{name}.npy") as member:
        file = cast(BinaryIO, member)
        _header(file)
        row = int(np.prod(shape[1:])) * dtype.itemsize
        for start in range(0, shape[0], ROWS):
            n = min(ROWS, shape[0] - start)
            raw = file.read(n * row)
            if len(raw) != n * row:
                raise DataError(f"{name} is cut off")
            yield np.frombuffer(raw, dtype).reshape(n, *shape[1:])  # (n, ...)


def _check_sizes(archive: zipfile.ZipFile, path: Path, pairs: list[tuple[str, str, int]]) -> None:
    """Raises for a decompression bomb, and for labels that are not one an image, before any of it is unpacked."""
    members = {f"{name}.npy" for pair in pairs for name in pair[:2]} | ({"classes.npy"} & set(archive.namelist()))
    size, limit = sum(archive.getinfo(name).file_size for name in members), max(FREE, path.stat().st_size * MOST_RATIO)
    if size > limit:
        raise DataError(f"{path} unpacks to {size:,} bytes, more than {MOST_RATIO} times its size; it is refused")
    for images, labels, _ in pairs:
        n, m = (shape[0] if shape else 0 for shape in (_facts(archive, images)[0], _facts(archive, labels)[0]))
        if n != m:
            raise DataError(f"{path.name} ({images}) has {n} images but {m} labels; there must be one label an image")


def pairs_among(found: set[str], what: str) -> list[tuple[str, str, int]]:
    """Returns (images, labels, split) for the names of arrays that stand beside each other.

    Raises:
        DataError: where ``what`` has no such names.
    """
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
        f"{what} holds {printable(', '.join(sorted(found)[:20])) or 'nothing'}; expected the arrays 'images' and 'labels' (or x and y, or "
        "x_train, y_train, x_test, y_test)"
    )


def _small(archive: zipfile.ZipFile, path: Path, pairs: list[tuple[str, str, int]], codes: _Labels) -> Source:
    images = [_array(archive, pair[0]) for pair in pairs]
    for pair, pixels, n in zip(pairs, images, codes.counts):
        check_images(pixels, n, f"{path.name} ({pair[0]})")
    if len({(pixels.shape[1:], pixels.dtype) for pixels in images}) > 1:
        raise DataError(f"{path}: the splits hold images of different shapes or types")
    joined = images[0] if len(images) == 1 else np.concatenate(images)
    return from_arrays(joined, codes.labels, name=str(path), classes=codes.classes, given=codes.given)


def _one_hot(part: NDArray[Any]) -> bool:
    rows = part.ndim == 2 and len(part) > 0 and part.dtype.kind in "fiub"
    return rows and bool(((part == 0) | (part == 1)).all() and (part.sum(axis=1) == 1).all())


class _Labels:
    """The labels of all pairs, joined: codes, class names, splits, and how many each pair has."""

    def __init__(self, archive: zipfile.ZipFile, pairs: list[tuple[str, str, int]], found: set[str]) -> None:
        parts = [_array(archive, pair[1]) for pair in pairs]
        parts = [part[:, 0] if part.ndim == 2 and part.shape[1] == 1 else part for part in parts]
        parts = [part.argmax(axis=1) if _one_hot(part) else part for part in parts]
        names = [str(name) for name in _array(archive, "classes").tolist()] if "classes" in found else None
        if any(part.ndim != 1 for part in parts):
            raise DataError(
                f"labels must be one number or name an image, got shapes {[part.shape for part in parts]}"
            )
        self.counts = [len(part) for part in parts]
        self.labels, self.classes = label_codes(np.concatenate(parts), names)
        self.given = np.repeat(np.array([pair[2] for pair in pairs], np.int8), self.counts)


def _decided(archive: zipfile.ZipFile, pairs: list[tuple[str, str, int]]) -> tuple[ValueRange | None, list[str]]:
    """Returns the range of the numbers of all images together, and what a person should know of it."""
    kinds = {_facts(archive, pair[0])[2] for pair in pairs}
    if len(kinds) > 1:
        raise DataError(f"the splits hold images of different types: {', '.join(sorted(map(str, kinds)))}")
    (dtype,) = kinds
    if dtype == np.uint8 or dtype.kind == "b":
        return None, []
    return decided(spread_of(image for pair in pairs for block in _blocks(archive, pair[0]) for image in block), dtype)


def _items(
    archive: zipfile.ZipFile, pairs: list[tuple[str, str, int]], codes: _Labels, value_range: ValueRange | None
) -> Iterator[Item]:
    """Yields every image as uint8, its label and split."""
    number = 0
    for pair in pairs:
        for block in _blocks(archive, pair[0]):
            for pixels in block:
                array = np.asarray(as_image(pixels, value_range=value_range))
                yield array, int(codes.labels[number]), int(codes.given[number])
                number += 1


def _convert(path: Path, pairs: list[tuple[str, str, int]], codes: _Labels, folder: Path) -> None:
    """Copies a large file, in a stream, into a kept set."""
    with zipfile.ZipFile(path) as archive:
        taken, told = _decided(archive, pairs)
        first = next(_blocks(archive, pairs[0][0]))
        shape = np.asarray(as_image(first[0], value_range=taken)).shape
        items = _items(archive, pairs, codes, taken)
        keep(folder, items, codes.classes, shape=shape, value_range=taken, warnings=told)


def _large(
    archive: zipfile.ZipFile, path: Path, pairs: list[tuple[str, str, int]], codes: _Labels, converted: Path
) -> Source:
    """Returns the source for a file that is first copied, in a stream, into a kept set."""
    shapes = set()
    for pair, n in zip(pairs, codes.counts):
        shape, _, dtype = _facts(archive, pair[0])
        check_images(np.broadcast_to(np.zeros((), dtype), shape), n, f"{path.name} ({pair[0]})")
        shapes.add(shape[1:])
    if len(shapes) > 1:
        raise DataError(f"{path}: the splits hold images of different shapes")
    stamp = path.stat()
    # with the time at which the system last noted a change: a file put in its place may have the same size and time
    mark = digest(path.resolve(), stamp.st_size, stamp.st_mtime_ns, stamp.st_ctime_ns)
    return kept_once(converted / f"npz-{mark[:16]}", lambda folder: _convert(path, pairs, codes, folder), name=str(path))


def from_npz(path: Path, converted: Path) -> Source:
    """Returns the source for an `.npz` file: `images` and `labels`, or such pairs for train, validation and test.

    Args:
        path: the file.
        converted: folder for the copies of large files that can be memory-mapped.

    Raises:
        DataError: for a file that is no `.npz`, lacks the arrays, or holds Python objects (which are never unpickled).
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        if not path.exists():
            raise AbsentError(f"there is no file {path}")
        raise DataError(f"{path} is {kind}, expected an .npz file")
    try:
        with reading(path, DataError, " as .npz"), zipfile.ZipFile(path) as archive:
            found = {entry.removesuffix(".npy") for entry in archive.namelist()}
            pairs = pairs_among(found, str(path))
            _check_sizes(archive, path, pairs)
            codes = _Labels(archive, pairs, found)
            size = sum(archive.getinfo(f"{pair[0]}.npy").file_size for pair in pairs)
            if size > SMALL:
                return _large(archive, path, pairs, codes, converted)
            return _small(archive, path, pairs, codes)
    except DataError as error:
        raise DataError(str(error) if path.name in str(error) else f"{path}: {error}") from error
