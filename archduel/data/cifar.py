"""CIFAR-10 and CIFAR-100 from the original archives (python or binary form), packed or unpacked."""

from __future__ import annotations

import io
import pickle
import pickletools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.data.dataset import Source, digest
from archduel.data.download import checksum, take_members
from archduel.data.stored import Item, keep, kept_once
from archduel.errors import DataError, in_one_line
from archduel.text import printable

__all__ = ["FORMS", "Form", "check_archive", "form_of_folder", "from_cifar", "read_form", "safe_unpickle"]

# -- Reading the pickles of the original CIFAR archives without running anything that stands in them --------------------


class _Dtype:
    """Stands for ``numpy.dtype``: bytes, whatever state the file gives it (a forged one makes NumPy read foreign memory)."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code.decode("ascii", "replace") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """Takes no state."""


class _Array:
    """Stands for ``numpy.ndarray``: its state makes the array, from bytes alone."""

    value: NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        """Takes (version, shape, dtype, Fortran order, bytes)."""
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or dtype.code not in ("u1", "|u1") or not isinstance(raw, bytes):
            raise DataError("it holds arrays that are not of bytes")
        self.value = np.frombuffer(raw, np.uint8).reshape(tuple(map(int, shape)), order="F" if fortran else "C")


def _array(*_: Any) -> _Array:
    """Stands for ``_reconstruct``, with which NumPy begins an array."""
    return _Array()


# the only names such a file may ask for, how NumPy writes an array, and what stands for them
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Returns what stands for the named object where it is on the list."""
        if (module, name) not in ALLOWED:
            raise DataError(printable(f"it asks for {module}.{name}, which no CIFAR file needs; it is refused")[:300])
        return ALLOWED[module, name]


LARGEST = 1 << 29
"""Bytes of a pickle; the largest of the archives has 155 MB."""
MOST_TUPLES = 16
"""Tuples in a pickle: NumPy writes an array with six. More of them could hold each other, and hashing one would never end."""


def _check_operations(raw: bytes) -> None:
    """Raises for operations that would take memory or time which the file has no use for."""
    tuples = remembered = 0
    for operation, argument, _ in pickletools.genops(raw):
        tuples += operation.name.startswith("TUPLE")
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            place = int(argument or 0)
            if place > remembered + 256:  # a reader makes room for as many as the number says
                raise DataError(f"it remembers object {place} after {remembered}")
            remembered = max(remembered, place + 1)
    if tuples > MOST_TUPLES:
        raise DataError(f"it holds {tuples} tuples, more than an array needs")


def safe_unpickle(path: Path) -> dict[bytes, Any]:
    """Returns the dictionary in a CIFAR pickle; its texts are bytes.

    Raises:
        DataError: for a file that asks for anything but arrays, is damaged or holds no dictionary.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"it has {path.stat().st_size:,} bytes, expected at most {LARGEST:,}")
        raw = path.read_bytes()
        _check_operations(raw)
        value = _Reader(io.BytesIO(raw), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error
    except Exception as error:  # a damaged pickle can raise anything, running out of memory included
        raise DataError(f"{path.name} is damaged: {in_one_line(error)}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path.name} holds {type(value).__name__}, expected a dictionary")
    return {key: item.value if isinstance(item, _Array) else item for key, item in value.items()}


SIDE = 32
PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class Form:
    """One of the published archives.

    Attributes:
        data: name of the set.
        archive: file name.
        sha256: of the archive.
        size: of the archive in bytes, 0 where it is not known.
        folder: inside the archive.
        train: files of the training split, in order.
        test: file of the test split.
        meta: file of the class names.
        md5: of the files, in the order train, test, meta; empty where none are published.
        label_bytes: before the pixels of a binary record; 0 for the python form.
    """

    data: str
    archive: str
    sha256: str
    size: int
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    md5: tuple[str, ...] = ()
    label_bytes: int = 0

    @property
    def url(self) -> str:
        """The original public address."""
        return f"https://www.cs.toronto.edu/~kriz/{self.archive}"

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read."""
        return (*self.train, self.test, self.meta)

    @property
    def n_classes(self) -> int:
        """10 or 100."""
        return 10 if self.data == "cifar10" else 100


BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
FORMS = (
    Form(
        "cifar10", "cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170_052_171, "cifar-10-batches-bin", tuple(f"{name}.bin" for name in BATCHES), "test_batch.bin",
        "batches.meta.txt", label_bytes=1,
    ),
    Form(
        "cifar10", "cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        170_498_071, "cifar-10-batches-py", BATCHES, "test_batch", "batches.meta",
        (
            "c99cafc152244af753f735de768cd75f", "d4bba439e000b95fd0a9bffe97cbabec", "54ebc095f3ab1f0389bbae665268c751",
            "634d18415352ddfa80567beed471001a", "482c414d41f54cd18b22e5b47cb7c3cb", "40351d587109b95175f43aff81a1287e",
            "5ff9c542aee3614f3951f8cda6e48888",
        ),
    ),
    Form(
        "cifar100", "cifar-100-binary.tar.gz", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        0, "cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", label_bytes=2,
    ),
    Form(
        "cifar100", "cifar-100-python.tar.gz", "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        169_001_437, "cifar-100-python", ("train",), "test", "meta",
        ("16019d7e3df5f24257cddd939b257f8d", "f0ef6b0ae62326f3e7ffdfab6717acfc", "7973b15100ade9c7d40fb424638fde48"),
    ),
)  # fmt: skip


def _pickled(path: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """Returns (N, 3072) pixels and labels of one file of the python form."""
    content = safe_unpickle(path)
    pixels = content.get(b"data")
    labels: Any = content.get(b"fine_labels", content.get(b"labels"))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (PIXELS,):
        raise DataError(f"{path.name} must hold 'data', uint8 of shape (N, {PIXELS})")
    if (
        not isinstance(labels, list)
        or not all(isinstance(label, int) for label in labels)
        or len(labels) != len(pixels)
    ):
        raise DataError(f"{path.name} must hold one integer label for each of its {len(pixels)} images")
    return pixels, labels


def _records(path: Path, label_bytes: int) -> Iterator[tuple[NDArray[np.uint8], list[int]]]:
    """Yields (N, 3072) pixels and labels of one binary file, 1,000 records at a time."""
    length = label_bytes + PIXELS
    if path.stat().st_size % length or not path.stat().st_size:
        raise DataError(
            f"{path.name} has {path.stat().st_size:,} bytes, expected a multiple of {length}: it is cut off"
        )
    with open(path, "rb") as file:
        while block := file.read(1_000 * length):
            records = np.frombuffer(block, np.uint8).reshape(-1, length)  # (N, labels + 3072)
            yield (
                records[:, label_bytes:],
                records[:, label_bytes - 1].astype(int).tolist(),
            )  # the fine label is last


def _class_names(form: Form, folder: Path) -> list[str]:
    """Returns the class names in label order."""
    if form.label_bytes:
        names = [
            line.strip()
            for line in (folder / form.meta).read_text("ascii", "replace").splitlines()
            if line.strip()
        ]
    else:
        content = safe_unpickle(folder / form.meta)
        listed = content.get(b"fine_label_names", content.get(b"label_names"))
        names = [name.decode("ascii", "replace") for name in listed or [] if isinstance(name, bytes)]
    if len(names) != form.n_classes:
        raise DataError(f"{form.meta} names {len(names)} classes, expected {form.n_classes}")
    return names


def read_form(form: Form, folder: Path) -> Iterator[Item]:
    """Yields ((32, 32, 3) uint8, label, split code) of an unpacked archive, in the published order.

    Raises:
        DataError: for files that are missing, damaged or hold labels out of range.
    """
    for name in form.files:
        if not (folder / name).is_file():
            raise DataError(
                f"{folder} lacks {name}; expected the unpacked {form.archive} with {', '.join(form.files)}"
            )
    for name in (*form.train, form.test):
        split = 2 if name == form.test else 0
        path = folder / name
        for pixels, labels in _records(path, form.label_bytes) if form.label_bytes else [_pickled(path)]:
            if labels and not 0 <= min(labels) <= max(labels) < form.n_classes:
                raise DataError(
                    f"{name} holds labels {min(labels)}..{max(labels)}, expected 0..{form.n_classes - 1}"
                )
            images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)  # (N, 3072) -> (N, H, W, C)
            for image, label in zip(images, labels):
                yield image, label, split


def form_of_folder(folder: Path) -> Form | None:
    """Returns which archive a folder is the unpacked form of, by its files, or None."""
    return next((form for form in FORMS if all((folder / name).is_file() for name in form.files)), None)


def _check_files(form: Form, folder: Path) -> None:
    for name, published in zip(form.files, form.md5):
        if (found := checksum(folder / name, "md5")) != published:
            raise DataError(
                f"{folder / name} has the MD5 {found}, the published one is {published}: it is incomplete or altered"
            )


def check_archive(form: Form, path: Path) -> None:
    """Raises where the archive is not the published one, bit by bit.

    Raises:
        DataError: with both checksums.
    """
    if (found := checksum(path)) != form.sha256:
        raise DataError(
            f"{path} has the SHA-256 {found}, the published {form.archive} has {form.sha256}: it is incomplete or altered; "
            f"download it again from {form.url}"
        )


def _write(form: Form, path: Path, final: Path, verify: bool) -> None:
    """Turns an archive or an unpacked folder into a kept set."""
    with tempfile.TemporaryDirectory(prefix="archduel-") as scratch:
        folder = path
        if path.is_file():
            if verify:
                check_archive(form, path)
            folder = Path(scratch)
            take_members(path, [f"{form.folder}/{name}" for name in form.files], folder)
        elif verify:
            _check_files(form, folder)
        keep(
            final,
            read_form(form, folder),
            lambda: _class_names(form, folder),
            shape=(SIDE, SIDE, 3),
            flip=True,
        )


def from_cifar(
    form: Form, path: Path, sets: Path, *, name: str = "", final: Path | None = None, verify: bool = True
) -> Source:
    """Returns the source for a CIFAR archive or its unpacked folder; read once, then kept as arrays.

    Args:
        form: which archive it is.
        path: the archive or the folder.
        sets: folder of the kept sets.
        name: for messages.
        final: where to keep it; None = under a name made from the path, its size and its time.
        verify: compare with the published checksums (the binary form, once unpacked, has none).

    Raises:
        DataError: for files that are missing, damaged, altered or hostile.
    """
    files = [path] if path.is_file() else [path / part for part in form.files]
    facts = [file.stat() for file in files]
    stamps = [(fact.st_size, fact.st_mtime_ns, fact.st_ctime_ns) for fact in facts]
    place = final or sets / f"{form.data}-{digest(path.resolve(), stamps)[:16]}"
    return kept_once(place, lambda folder: _write(form, path, folder, verify), name=name or form.data)
