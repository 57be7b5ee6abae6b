"""The cache of decoded images: one folder an entry, memory-mapped, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core.disk import lock, user_folder

__all__ = ["Entry", "RowFile", "cache_root", "clear", "entry_size", "locked", "opened", "publish", "recovered", "replace_folder", "write_entry"]

# -- A `.npy` file that grows by one array at a time, so that nobody needs to hold, or to count, all of them first ------


class RowFile:
    """Writes equally shaped uint8 arrays as one `.npy` array (N, ...).

    Attributes:
        n: how many were written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.n = 0
        self._shape = shape
        self._file = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._header()
        self._start = self._file.tell()

    def _header(self) -> None:
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "|u1", "fortran_order": False, "shape": (self.n, *self._shape)}
        )

    def append(self, row: NDArray[np.uint8]) -> bytes:
        """Writes one array; returns its bytes."""
        assert row.shape == self._shape
        assert row.dtype == np.uint8
        raw = row.tobytes()
        self._file.write(raw)
        self.n += 1
        return raw

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._file.seek(0)
                self._header()
                assert self._file.tell() == self._start  # NumPy leaves room for the first axis to grow
        finally:
            self._file.close()


FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """Decoded images, in the order train, validation, test.

    Attributes:
        images: (N, C, H, W) uint8, memory-mapped copy-on-write.
        rows: (N,) int64, the number of each image in its source.
        digests: (N, 16) uint8, a hash of each image's pixels.
        counts: images in train, validation, test.
        histogram: (C, 256) int64, how often each value occurs in the training images.
        skipped: image number -> reason, for those that could not be read.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    digests: NDArray[np.uint8]
    counts: tuple[int, int, int]
    histogram: NDArray[np.int64]
    skipped: dict[int, str]


def cache_root(given: Path | str | None = None) -> Path:
    """Returns the folder of downloads and decoded images: as given, $ARCHDUEL_CACHE, or the user's cache folder."""
    if given is not None:
        return Path(given).expanduser()
    if named := os.environ.get("ARCHDUEL_CACHE"):
        return Path(named).expanduser()
    return user_folder("XDG_CACHE_HOME", ".cache", "ARCHDUEL_CACHE") / "archduel"


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds an exclusive lock of the operating system on ``path``; it ends with the process, however that ends.

    Gives whether it is held: where there are no such locks (some network drives) two processes do the same work, and the first to
    finish publishes it.

    Raises:
        RunError: if a link or something else lies at ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = lock(path, path.parent, wait=True)
    try:
        yield held.sure
    finally:
        held.release()


FEW_FILES = 64  # that are waited for one by one


def publish(temporary: Path, final: Path) -> None:
    """Renames a finished folder to its place; if another process was first, its equal folder stays and ours goes.

    All of it is on disk before the name is: a power cut leaves a whole folder or none.
    """
    inside = list(temporary.rglob("*"))
    if len(inside) > FEW_FILES and hasattr(os, "sync"):
        os.sync()  # one wait for all
    for path in inside if len(inside) <= FEW_FILES else ():
        _settle(path)
    _settle(temporary)
    try:
        os.rename(temporary, final)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not final.is_dir():
            raise
    _settle(final.parent)


def replace_folder(fresh: Path, final: Path) -> None:
    """Puts a finished folder in the place of another, which goes only when the new one is there; see :func:`recovered`."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        os.rename(final, old)
    try:
        publish(fresh, final)
    finally:
        recovered(final)
    shutil.rmtree(old, ignore_errors=True)


def recovered(final: Path) -> Path:
    """Returns ``final``, put back if a process was killed between taking it away and putting another in its place."""
    old = final.with_name(f".{final.name}.old")
    if old.is_dir() and not final.exists():
        with suppress(OSError):  # another process was first
            os.rename(old, final)
    return final


def _settle(path: Path) -> None:
    """Waits until a file or folder is on disk, where the system can say."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_entry(
    final: Path,
    images: Iterable[tuple[int, NDArray[np.uint8] | str]],
    shape: tuple[int, int, int],
    splits: NDArray[np.int8],
) -> None:
    """Writes an entry from a stream; memory does not grow with the number of images (but 24 bytes each).

    Args:
        final: its folder.
        images: (number in the source, (C, H, W) uint8 or the reason why it could not be read), train first, then
            validation, then test.
        shape: (C, H, W).
        splits: (N,) int8, the split of every image of the source, by its number.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name[:16]}.", dir=final.parent))
    rows, digests, skipped = [], bytearray(), {}
    counts = [0, 0, 0]
    histogram = np.zeros((shape[0], 256), np.int64)
    try:
        with RowFile(temporary / "images.npy", shape) as file:
            for number, pixels in images:
                if isinstance(pixels, str):
                    skipped[number] = pixels
                    continue
                digests += blake2b(file.append(pixels), digest_size=16).digest()
                rows.append(number)
                split = int(splits[number])
                counts[split] += 1
                if split == 0:
                    for channel, values in enumerate(pixels):
                        histogram[channel] += np.bincount(values.ravel(), minlength=256)
        np.save(temporary / "rows.npy", np.array(rows, np.int64))
        np.save(temporary / "digests.npy", np.frombuffer(bytes(digests), np.uint8).reshape(-1, 16))
        facts = {"format": FORMAT, "counts": counts, "histogram": histogram.tolist(), "skipped": skipped}
        (temporary / "entry.json").write_text(json.dumps(facts))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    publish(temporary, final)


def opened(folder: Path, *, mapped: bool = True) -> Entry | None:
    """Returns the entry in ``folder``, or None where there is none that can be used.

    Args:
        folder: where it was written.
        mapped: look into the file (copy on write, so that nobody can change it), else read it into memory.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        rows = np.load(folder / "rows.npy", allow_pickle=False)
        digests = np.load(folder / "digests.npy", allow_pickle=False)
        if facts["format"] != FORMAT or not len(rows):
            return None
        images = np.load(folder / "images.npy", mmap_mode="c" if mapped else None, allow_pickle=False)
        first, second, third = map(int, facts["counts"])
        skipped = {int(number): str(reason) for number, reason in facts["skipped"].items()}
        histogram = np.array(facts["histogram"], np.int64)
        # a plain array that looks into the map: slices of a memmap object are slow to make
        entry = Entry(np.asarray(images), rows, digests, (first, second, third), histogram, skipped)
        return entry if _intact(entry) else None
    except Exception:  # a damaged file leads the readers to anything; an entry can be made again
        return None


CHECKED = 32 * 2**20  # bytes of pixels up to which all images are compared with their hashes
SOME = 64  # images that are compared in a larger entry


def _intact(entry: Entry) -> bool:
    """Returns whether the parts of an entry fit each other, and images their hashes: a lost block of a disk reads as zeros."""
    n, images = len(entry.rows), entry.images
    fit = images.dtype == np.uint8 and images.ndim == 4 and entry.histogram.shape == (images.shape[1], 256)
    if not fit or entry.digests.shape != (n, 16) or not n == len(images) == sum(entry.counts):
        return False
    if entry.rows.dtype != np.int64 or entry.rows.shape != (n,) or len({*entry.rows.tolist(), *entry.skipped}) != n + len(entry.skipped):
        return False
    some = range(n) if images.nbytes <= CHECKED else np.unique(np.linspace(0, n - 1, SOME).astype(int)).tolist()
    return all(blake2b(images[i].tobytes(), digest_size=16).digest() == entry.digests[i].tobytes() for i in some)


def entry_size(folder: Path) -> int:
    """Returns the bytes that a folder takes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def clear(root: Path, *, everything: bool = False) -> int:
    """Removes the decoded images (and with ``everything`` also fetched and imported sets, and added weights); returns the bytes freed."""
    freed = 0
    for part in ("decoded", "converted", "features", *(("downloads", "sets", "backbones") if everything else ())):
        freed += entry_size(root / part)
        shutil.rmtree(root / part, ignore_errors=True)
    return freed
