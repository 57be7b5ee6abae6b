"""From a folder like ImageNet's to lists of its images (:class:`Catalogue`), one a split, made once and kept.

A split is a folder ``train``, ``val`` or ``test`` (or another of their usual names) with class folders, tar archives, or, for
``val`` and ``test``, loose images and a list of labels; or archives ``train-*.tar``, ``val-*.tar`` side by side.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from archduel.data.cache import publish
from archduel.data.dataset import SPLITS, digest, naturally
from archduel.data.decode import SUFFIXES
from archduel.data.folder import find_list, read_list
from archduel.data.layout import SPLIT_NAMES, below, entries, is_folder, left_behind, split_of
from archduel.errors import DataError
from archduel.text import composed, printable

__all__ = ["Catalogue", "Item", "catalogues", "members", "open_catalogue", "write_catalogue"]

# -- A list of images on disk that is itself on disk, so that millions of them take no memory: names, labels, places --
#
# The images are files in class folders, loose files with a list of labels (:mod:`archduel.data.folder`), or members of tar
# archives (:mod:`archduel.data.listing`), which are read in place.


FORMAT = 1
ARRAYS = {"ends": np.int64, "labels": np.int32, "shard": np.int32, "start": np.int64, "size": np.int64}
BLOCK = 65_536  # items kept in memory while a list is written

Item = tuple[str, int, int, int, int]
"""Name, label, and for members of archives: number of the archive, first byte, bytes (else -1, 0, 0)."""


@dataclass
class Catalogue:
    """An opened list; the arrays are memory-mapped.

    Attributes:
        folder: where the list is.
        root: what names are relative to.
        classes: names in label order.
        labels: (N,) int32.
        key: SHA-256 of names and labels.
        shards: names of the archives, empty for plain files.
    """

    folder: Path
    root: Path
    classes: tuple[str, ...]
    labels: NDArray[np.int32]
    key: str
    shards: tuple[str, ...]
    _arrays: dict[str, NDArray[Any]]
    _names: NDArray[np.uint8]
    _opened: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, row: int) -> str:
        """Returns the name of image ``row``."""
        ends = self._arrays["ends"]
        begin = int(ends[row - 1]) if row else 0
        return bytes(self._names[begin : int(ends[row])]).decode("utf-8", "surrogateescape")

    def open(self, row: int) -> BinaryIO:
        """Returns the bytes of image ``row`` as an open file.

        Raises:
            OSError: if it cannot be read.
        """
        shard = int(self._arrays["shard"][row])
        if shard < 0:
            return open(self.root / self.name(row), "rb")
        if shard not in self._opened:
            self._opened[shard] = os.open(self.root / self.shards[shard], os.O_RDONLY)
        size = int(self._arrays["size"][row])
        data = os.pread(self._opened[shard], size, int(self._arrays["start"][row]))
        if len(data) != size:
            raise OSError(f"{self.shards[shard]} is cut off")
        return io.BytesIO(data)

    def close(self) -> None:
        """Closes the archives."""
        for descriptor in self._opened.values():
            os.close(descriptor)
        self._opened.clear()


def write_catalogue(
    final: Path, items: Iterable[Item], root: Path, classes: Iterable[str], shards: Iterable[str] = ()
) -> None:
    """Writes a list from a stream of items, whole or not at all.

    Raises:
        DataError: for no items.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name[:16]}.", dir=final.parent))
    try:
        n, key = _write_arrays(temporary, items)
        if n == 0:
            raise DataError(f"{root} holds no images")
        facts = {
            "format": FORMAT, "root": str(root), "classes": [printable(name) for name in classes], "shards": list(shards), "n": n, "key": key,
        }  # fmt: skip
        (temporary / "catalogue.json").write_text(json.dumps(facts))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    publish(temporary, final)


def _write_arrays(folder: Path, items: Iterable[Item]) -> tuple[int, str]:
    """Writes names and arrays a block at a time; returns how many items there were, and a SHA-256 of names and labels."""
    total = hashlib.sha256()
    files = {name: open(folder / f"{name}.bin", "wb") for name in (*ARRAYS, "names")}  # noqa: SIM115 - closed below
    n, end = 0, 0
    block: list[Item] = []

    def flush() -> None:
        """Writes the block and adds it to the hash."""
        nonlocal end, n
        names = [item[0].encode("utf-8", "surrogateescape") for item in block]
        ends = end + np.cumsum([len(name) for name in names], dtype=np.int64)
        values = np.array([item[1:] for item in block], np.int64).T  # (4, B)
        columns = {"ends": ends, **dict(zip(("labels", "shard", "start", "size"), values))}
        for name, column in columns.items():
            files[name].write(column.astype(ARRAYS[name]).tobytes())
        files["names"].write(b"".join(names))
        total.update(b"\0".join(names) + columns["labels"].tobytes())
        end, n = int(ends[-1]), n + len(block)
        block.clear()

    try:
        for item in items:
            block.append(item)
            if len(block) == BLOCK:
                flush()
        if block:
            flush()
    finally:
        for file in files.values():
            file.close()
    return n, total.hexdigest()


def open_catalogue(folder: Path) -> Catalogue | None:
    """Returns the list in ``folder``, or None where there is none that can be used."""
    try:
        facts = json.loads((folder / "catalogue.json").read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            return None
        arrays = {name: np.memmap(folder / f"{name}.bin", kind, "r") for name, kind in ARRAYS.items()}
        names = np.memmap(folder / "names.bin", np.uint8, "r")
        if any(len(array) != facts["n"] for array in arrays.values()) or int(arrays["ends"][-1]) != len(names):
            return None
        if not 0 <= int(arrays["labels"].min()) <= int(arrays["labels"].max()) < len(facts["classes"]):
            return None
        return Catalogue(
            folder, Path(facts["root"]), tuple(facts["classes"]), arrays["labels"], facts["key"], tuple(facts["shards"]), dict(arrays), names
        )
    except Exception:  # a damaged file leads the readers to anything; a list can be made again
        return None


# -- Images inside tar archives, found once and then read in place: no unpacking, any order ---------------------------


WORDS = (".cls", ".label", ".txt")


def members(root: Path, shards: Sequence[str]) -> Iterator[tuple[str, str, int, int, int]]:
    """Yields (name, class, number of the archive, first byte, bytes) of every image.

    The class is the member's folder (``n01440764/x.jpg``) or the text of a member of the same name that ends in ``.cls``
    (``000123.jpg`` and ``000123.cls``).

    Raises:
        DataError: for an archive that is compressed or damaged, or an image without a class.
    """
    for number, shard in enumerate(shards):
        try:
            with tarfile.open(root / shard, "r:") as archive:
                yield from _of(archive, number, shard)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(
                f"{root / shard} cannot be read as a plain tar archive ({error}); compressed ones must be unpacked first"
            ) from error


def _of(archive: tarfile.TarFile, number: int, shard: str) -> Iterator[tuple[str, str, int, int, int]]:
    waiting: dict[str, tuple[str, int, int]] = {}
    said: dict[str, str] = {}
    for member in archive:
        *above, last = PurePosixPath(member.name).parts or ("",)
        if not member.isfile() or left_behind(last, folder=False) or any(part != "." and left_behind(part) for part in above):
            continue
        path = PurePosixPath(member.name)
        key, end = str(path.with_suffix("")), path.suffix.lower()
        if end in WORDS:
            file = archive.extractfile(member)
            said[key] = file.read(200).decode("utf-8", "replace").strip() if file else ""
        elif end in SUFFIXES and path.parent.name:
            yield member.name, path.parent.name, number, member.offset_data, member.size
        elif end in SUFFIXES:
            waiting[key] = (member.name, member.offset_data, member.size)
        for found in [k for k in (key,) if k in waiting and k in said]:
            name, start, size = waiting.pop(found)
            yield name, said.pop(found), number, start, size
    if waiting:
        name = next(iter(waiting.values()))[0]
        raise DataError(f"{shard} says no class for {len(waiting)} images, such as {name}; expected a folder or a .cls member")


def catalogues(root: Path, cache: Path) -> dict[str, Catalogue]:
    """Returns split (``train``, ``validation``, ``test``) -> list of its images; labels follow the classes of train.

    Args:
        root: the folder.
        cache: root of the cache, where the lists are kept; they are made anew when a folder or an archive changes.

    Raises:
        DataError: for a folder without training images, images without labels, or classes that train lacks.
    """
    root = root.expanduser().resolve()
    places = _places(root)
    if "train" not in places:
        raise DataError(
            f"{root} has no training images to be read while training; expected a folder train/ with class folders or tar "
            "archives, or train-*.tar"
        )
    found: dict[str, Catalogue] = {}
    for split in SPLITS:
        if split in places:
            classes = found["train"].classes if split != "train" else ()
            found[split] = _kept(root, split, places[split], classes, cache)
    return found


def _places(root: Path) -> dict[str, list[Path]]:
    """Returns split -> its folder, or its archives."""
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    places: dict[str, list[Path]] = {}
    for path in sorted(root.iterdir()):
        code = split_of(path.name.removesuffix(".tar"))
        if code is None or left_behind(path.name):
            continue
        exact = path.name.lower() in SPLIT_NAMES
        if path.is_dir() and (exact or (SPLITS[code] not in places and not _also_exact(root, code))):
            archives = sorted(path.glob("*.tar"))
            places[SPLITS[code]] = archives or [path]
        elif path.suffix == ".tar":
            places.setdefault(SPLITS[code], []).append(path)
    return places


def _also_exact(root: Path, code: int) -> bool:
    """Returns whether a folder with a plain name for a split stands beside one that only has the word in its name."""
    return any(SPLIT_NAMES.get(path.name.lower()) == code and path.is_dir() for path in root.iterdir())


def _kept(root: Path, split: str, places: list[Path], classes: tuple[str, ...], cache: Path) -> Catalogue:
    """Returns the list of a split, from the cache if nothing has changed."""
    inside = [Path(e.path) for e in os.scandir(places[0]) if e.is_dir()] if places[0].is_dir() else []
    beside = [path for path in (find_list(places[0]) if places[0].is_dir() else None,) if path]
    facts = [(path, path.stat()) for path in sorted([*places, *inside, *beside])]
    stamps = [(str(path), fact.st_mtime_ns, fact.st_ctime_ns, fact.st_size) for path, fact in facts]
    final = cache / "lists" / digest(root, split, *stamps, *classes)[:24]
    found = open_catalogue(final)
    if found is None:
        _write(final, root, places, classes)
        found = open_catalogue(final)
    assert found is not None
    if classes and found.classes != classes:
        strange = [name for name in found.classes if name not in classes]
        raise DataError(f"the {split} images of {root} have classes that train lacks: {', '.join(strange[:3])}")
    return found


def _write(final: Path, root: Path, places: list[Path], classes: tuple[str, ...]) -> None:
    if places[0].suffix == ".tar":
        shards = [str(path.relative_to(root)) for path in places]
        names = classes or tuple(naturally({text for _, text, *_ in members(root, shards)}))
        place = {printable(composed(name)): number for number, name in enumerate(names)}
        items = ((name, _number(text, place, root), *rest) for name, text, *rest in members(root, shards))
        write_catalogue(final, items, root, names, shards)  # type: ignore[arg-type]
        return
    folder = places[0]
    inside = naturally(entry.name for entry in entries(str(folder)) if is_folder(entry))
    filled = [name for name in inside if next(_files(folder / name), None)]
    if filled:
        write_catalogue(final, _in_folders(root, folder, filled, classes or tuple(filled)), root, classes or tuple(filled))
        return
    write_catalogue(final, _loose(root, folder, classes), root, classes)


def _number(text: str, place: dict[str, int], root: Path) -> int:
    text = printable(composed(text))
    if text not in place:
        raise DataError(f"{root} has images of the class {text!r}, which the training images do not have")
    return place[text]


def _files(folder: Path) -> Iterator[str]:
    """Yields the images below ``folder``, in order."""
    yield from map(str, below(folder))


def _in_folders(root: Path, folder: Path, names: list[str], classes: tuple[str, ...]) -> Iterator[Item]:
    place = {printable(composed(name)): number for number, name in enumerate(classes)}
    for name in names:
        number = _number(name, place, folder)
        for path in _files(folder / name):
            yield os.path.relpath(path, root), number, -1, 0, 0


def _loose(root: Path, folder: Path, classes: tuple[str, ...]) -> Iterator[Item]:
    """Yields the images that lie in ``folder`` without class folders, with labels from the list beside them."""
    names = sorted(os.path.basename(path) for path in _files(folder))
    if not names:
        raise DataError(f"{folder} holds no images")
    if not classes:
        raise DataError(f"{folder} has no class folders; training images need one a class")
    path = find_list(folder)
    if path is None:
        raise DataError(
            f"{folder} holds {len(names)} loose images and no list of their classes; put val.txt with lines `NAME CLASS` beside it"
        )
    for name, number in zip(names, read_list(path, names, classes)):
        yield os.path.relpath(folder / name, root), number, -1, 0, 0
