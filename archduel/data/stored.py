"""Sets that archduel keeps itself: arrays, archives and dataset objects turned into a folder that any process can open."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archduel.data.arrays import as_image
from archduel.data.cache import RowFile, locked, publish
from archduel.data.dataset import Source, ValueRange, digest
from archduel.data.preprocess import turned
from archduel.errors import DataError

__all__ = ["Item", "is_kept", "keep", "kept_once", "open_kept"]

Item = tuple["Image.Image | NDArray[np.uint8]", int, int]  # image, label, split code
FORMAT = 1
PLAIN = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # modes that PNG holds without loss


def _encoded(image: Image.Image | NDArray[np.uint8]) -> bytes:
    """Returns an image as a lossless file."""
    upright = turned(image) if isinstance(image, Image.Image) else as_image(image)
    buffer = io.BytesIO()
    if upright.mode in PLAIN:
        upright.save(buffer, "PNG", compress_level=1)
    else:
        upright.save(buffer, "TIFF")
    return buffer.getvalue()


def _write_arrays(
    folder: Path, items: Iterable[Item], shape: tuple[int, ...]
) -> tuple[list[int], list[int], str]:
    """Writes equally shaped uint8 images as one array; returns labels, split codes and the hash of the content."""
    labels, given, content = [], [], hashlib.sha256()
    with RowFile(folder / "images.npy", shape) as file:
        for pixels, label, split in items:
            content.update(file.append(np.asarray(pixels)))
            labels.append(label)
            given.append(split)
    return labels, given, content.hexdigest()


def _write_packed(folder: Path, items: Iterable[Item]) -> tuple[list[int], list[int], str]:
    """Writes images of any size as files one after another; returns labels, split codes and the hash of the content."""
    labels, given, ends, content = [], [], [0], hashlib.sha256()
    with open(folder / "pack.bin", "wb") as file:
        for image, label, split in items:
            raw = _encoded(image)
            content.update(raw)
            file.write(raw)
            ends.append(ends[-1] + len(raw))
            labels.append(label)
            given.append(split)
    np.save(folder / "offsets.npy", np.array(ends, np.int64))
    return labels, given, content.hexdigest()


def keep(
    final: Path,
    items: Iterable[Item],
    classes: Sequence[str] | Callable[[], Sequence[str]],
    *,
    shape: tuple[int, ...] | None = None,
    flip: bool | None = None,
    value_range: ValueRange | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Writes a set from a stream, whole or not at all.

    Args:
        final: its folder; if it is there already it stays as it is.
        items: (image, label, split code).
        classes: names in label order, or a function asked after the stream has ended.
        shape: the shape that all images have as uint8 arrays; None = images of any size and mode.
        flip: whether mirrored images keep their label.
        value_range: see :class:`archduel.data.dataset.Source`.
        warnings: what was odd about the images.

    Raises:
        DataError: if the stream is empty.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name[:16]}.", dir=final.parent))
    try:
        if shape is None:
            labels, given, content = _write_packed(temporary, items)
        else:
            labels, given, content = _write_arrays(temporary, items, shape)
        if not labels:
            raise DataError(f"there are no images to keep as {final.name}")
        names = list(classes() if callable(classes) else classes)
        columns = np.array(labels, np.int64), np.array(given, np.int8)
        np.save(temporary / "labels.npy", columns[0])
        np.save(temporary / "given.npy", columns[1])
        facts = {
            "format": FORMAT,
            "classes": names,
            "flip": flip,
            "content": content,
            "labels": digest(*columns),
            "packed": shape is None,
            "value_range": value_range,
            "warnings": list(warnings),
        }
        (temporary / "set.json").write_text(json.dumps(facts))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    publish(temporary, final)


def is_kept(folder: Path) -> bool:
    """Returns whether ``folder`` holds a set written by :func:`keep`."""
    return (folder / "set.json").is_file()


def kept_once(final: Path, write: Callable[[Path], None], *, name: str) -> Source:
    """Returns the set in ``final``; ``write`` makes it where it is missing or damaged, in one process at a time."""
    found = _open_whole(final, name)
    if found is not None:
        return found
    with locked(final.parent / f".{final.name}.lock"):
        found = _open_whole(final, name)
        if found is None:
            shutil.rmtree(final, ignore_errors=True)
            write(final)
    return found or open_kept(final, name=name)


def _open_whole(folder: Path, name: str) -> Source | None:
    try:
        return open_kept(folder, name=name) if is_kept(folder) else None
    except DataError:
        return None


def open_kept(folder: Path, *, name: str) -> Source:
    """Returns the images of a set written by :func:`keep`, memory-mapped.

    Raises:
        DataError: if the folder is damaged.
    """
    try:
        facts = json.loads((folder / "set.json").read_text(encoding="utf-8"))
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        given = np.load(folder / "given.npy", allow_pickle=False)
        classes, packed = tuple(facts["classes"]), bool(facts["packed"])
        if labels.ndim != 1 or labels.shape != given.shape or not set(np.unique(given).tolist()) <= {0, 1, 2}:
            raise ValueError("labels and splits do not fit")
        if not len(labels) or not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
            raise ValueError("labels without a class")
        if facts.get("labels", digest(labels, given)) != digest(labels, given):
            raise ValueError("other labels than were written")
        read = _reader(folder, len(labels), packed=packed, content=str(facts["content"]))
        key = digest("kept", facts["content"], labels, given)
        taken = facts.get("value_range")
        return Source(
            name, labels.astype(np.int64), classes, read, key, given.astype(np.int8), flip=facts["flip"],
            warnings=tuple(facts.get("warnings", ())), value_range=None if taken is None else (float(taken[0]), float(taken[1])),
        )  # fmt: skip
    except Exception as error:  # a damaged file leads the readers to anything
        what = f"{type(error).__name__}: {error}"[:200]
        raise DataError(f"{folder} is damaged ({what}); remove that folder and fetch, import or give the images again") from error


CHECKED = 64 * 2**20  # bytes of images up to which they are compared with their hash


def _reader(folder: Path, n: int, *, packed: bool, content: str) -> Callable[[int], Image.Image]:
    """Returns the function that reads an image, after checking that there are ``n`` and, in a small set, that they are the same."""
    if not packed:
        images = np.asarray(np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False))
        if images.dtype != np.uint8 or len(images) != n:
            raise ValueError(f"{len(images)} images for {n} labels")
        _check_content(images, content)
        return lambda number: as_image(images[number])
    ends = np.load(folder / "offsets.npy", allow_pickle=False)
    pack = np.asarray(np.memmap(folder / "pack.bin", np.uint8, "r"))
    if ends.shape != (n + 1,) or ends[0] != 0 or ends[-1] != len(pack) or bool((np.diff(ends) <= 0).any()):
        raise ValueError("places of images that do not fit the file")
    _check_content(pack, content)
    return lambda number: Image.open(
        io.BytesIO(pack[ends[number] : ends[number + 1]].tobytes()), formats=("PNG", "TIFF")
    )


def _check_content(values: NDArray[np.uint8], content: str) -> None:
    if values.nbytes <= CHECKED and hashlib.sha256(np.ascontiguousarray(values).data).hexdigest() != content:
        raise ValueError("other images than were written")
