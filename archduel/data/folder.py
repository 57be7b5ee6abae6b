"""Images from folders: one subfolder a class, also below `train/`, `val/` and `test/`."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from archduel.data.dataset import SPLITS, Source, digest, naturally
from archduel.data.decode import SUFFIXES, open_image
from archduel.errors import DataError

__all__ = ["LISTS", "class_words", "find_list", "from_folder", "read_list"]

# -- Labels of loose images: ImageNet's validation images lie in one folder and are named in a list beside them -----


LISTS = (
    "val.txt", "val_labels.txt", "validation_labels.txt", "val_annotations.txt", "LOC_val_solution.csv",
    "imagenet_2012_validation_synset_labels.txt", "ILSVRC2012_validation_ground_truth.txt", "labels.txt", "labels.csv",
)  # fmt: skip
"""Names under which such lists are found, beside the folder of images or inside it."""


def find_list(folder: Path) -> Path | None:
    """Returns the list of labels of the loose images in ``folder``, or None."""
    return next((place / name for name in LISTS for place in (folder, folder.parent) if (place / name).is_file()), None)


def read_list(path: Path, names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Returns the label of each of ``names`` (file names in sorted order).

    The list has a line an image: ``NAME CLASS`` (space, tab or comma between; more words are left out; a class is its name or
    a number from 0 in the order of the classes), or ``CLASS`` alone in the order of the sorted names.

    Raises:
        DataError: for an image without label, an unknown class, or numbers that say no classes.
    """
    words, alone = class_words(path, names)
    if alone and all(word.isdigit() for word in words) and not set(classes) >= set(words):
        raise DataError(
            f"{path} has bare numbers, which do not say their classes (ImageNet's development kit counts in an order of its "
            "own); give a list of lines `NAME CLASS`, with the names of the class folders"
        )
    place = {label: number for number, label in enumerate(classes)}
    return [_code(word, place, len(classes), path) for word in words]


def class_words(path: Path, names: Sequence[str]) -> tuple[list[str], bool]:
    """Returns what a list says of each of ``names``, and whether it has nothing but classes, in the order of the names.

    Raises:
        DataError: for a file that cannot be read, or an image without label.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list of labels {path} cannot be read: {error}") from error
    rows = [row for row in csv.reader(_tidied(lines), delimiter=" ", skipinitialspace=True) if row]
    if rows and rows[0][0].lower() in ("imageid", "image", "filename", "file", "name"):
        rows = rows[1:]
    if rows and all(len(row) == 1 for row in rows):
        if len(rows) != len(names):
            raise DataError(f"{path} has {len(rows)} labels for {len(names)} images")
        return [row[0] for row in rows], True
    said = {Path(row[0]).stem: row[1] for row in rows if len(row) > 1}
    missing = [name for name in names if Path(name).stem not in said]
    if missing:
        raise DataError(f"{path} has no label for {len(missing)} of {len(names)} images, such as {missing[0]}")
    return [said[Path(name).stem] for name in names], False


def _tidied(lines: Sequence[str]) -> list[str]:
    return [line.replace(",", " ").replace("\t", " ").strip() for line in lines]


def _code(text: str, place: dict[str, int], n: int, path: Path) -> int:
    if text in place:
        return place[text]
    if text.isdigit() and int(text) < n:
        return int(text)
    raise DataError(f"{path} names the class {text!r}, which the training images do not have")


SPLIT_NAMES = {
    "train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "testing": 2,
}  # fmt: skip
IGNORED = frozenset(("thumbs.db", "desktop.ini", "__macosx"))


File = tuple[str, int, int]  # path below the root, size, time of change


@dataclass
class _Listing:
    """Files found below a folder of classes: class -> files; and what was not an image."""

    classes: dict[str, list[File]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in IGNORED


def _below(path: str, root: Path) -> str:
    """Returns a path that begins with ``root`` without it (os.path.relpath takes ten times as long)."""
    return path.removeprefix(str(root)).lstrip(os.sep)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (entry for entry in entries if not _hidden(entry.name)), key=lambda entry: entry.name
            )
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be listed: {error.strerror}") from error


def _walk(folder: str, root: Path, listing: _Listing, into: list[File], seen: set[str]) -> None:
    """Adds the images below ``folder``, each real folder once (links may form a circle)."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    for entry in _entries(folder):
        relative = _below(entry.path, root)
        if entry.is_dir():
            _walk(entry.path, root, listing, into, seen)
        elif _is_image(entry.name):
            try:
                facts = entry.stat()
                into.append((relative, facts.st_size, facts.st_mtime_ns))
            except OSError:  # a link that leads nowhere: reading it will say so
                into.append((relative, -1, -1))
        else:
            listing.others.append(relative)


def _list(folder: Path, root: Path) -> _Listing:
    """Returns the classes below ``folder``."""
    listing = _Listing()
    for entry in _entries(str(folder)):
        if entry.is_dir():
            _walk(entry.path, root, listing, listing.classes.setdefault(entry.name, []), set())
        elif _is_image(entry.name):
            listing.loose.append(_below(entry.path, root))
        else:
            listing.others.append(_below(entry.path, root))
    return listing


def _split_folders(root: Path) -> dict[int, Path]:
    """Returns split -> folder where the layout is train/ val/ test/, else nothing.

    A folder `train` that holds images itself is a class (of locomotives, say), not a split.
    """
    found: dict[int, Path] = {}
    for entry in _entries(str(root)):
        code = SPLIT_NAMES.get(entry.name.lower())
        if code is not None and entry.is_dir():
            if code in found:
                raise DataError(
                    f"{found[code]} and {entry.path} both look like the {SPLITS[code]} split; keep one"
                )
            found[code] = Path(entry.path)
    if 0 not in found:
        return {}
    inside = _entries(str(found[0]))
    folders = any(entry.is_dir() for entry in inside)
    images = any(entry.is_file() and _is_image(entry.name) for entry in inside)
    return found if folders and not images else {}


def _some(names: list[str], n: int = 5) -> str:
    return ", ".join(repr(name) for name in names[:n]) + (
        f" and {len(names) - n} more" if len(names) > n else ""
    )


def _check_root(root: Path) -> None:
    if not root.exists():
        raise DataError(f"there is no folder {root}; give a folder with one subfolder of images a class")
    if not root.is_dir():
        raise DataError(
            f"{root} is a file, not a folder; give a folder with one subfolder of images a class"
        )


def _nothing(root: Path, listings: dict[int, _Listing]) -> DataError:
    """Returns the error for a folder without images in class folders."""
    loose = [name for listing in listings.values() for name in listing.loose]
    others = [name for listing in listings.values() for name in listing.others]
    if loose:
        return DataError(
            f"{root} holds {len(loose)} images ({_some(loose, 2)}) but no class folders with images; put the images of each "
            "class into a subfolder of its own"
        )
    if others:
        return DataError(
            f"{root} holds no images, only {_some(others)}; known endings: {' '.join(sorted(SUFFIXES))}"
        )
    empty = [name for listing in listings.values() for name in listing.classes]
    if empty:
        return DataError(f"{root} has the folders {_some(empty)} but no images in them")
    return DataError(f"{root} is empty; expected one subfolder of images a class")


def _warnings(
    root: Path, listings: dict[int, _Listing], classes: list[str], layout: dict[int, Path]
) -> list[str]:
    """Returns what a person should know about the files."""
    found = []
    loose = [name for listing in listings.values() for name in listing.loose]
    others = [name for listing in listings.values() for name in listing.others]
    if loose:
        found.append(f"{len(loose)} images lie outside any class folder and are not used: {_some(loose)}")
    if others:
        kinds = Counter(os.path.splitext(name)[1].lower() or "no ending" for name in others)
        listed = ", ".join(f"{n} x {kind}" for kind, n in kinds.most_common(5))
        apple = "; convert HEIC to JPEG first" if kinds.keys() & {".heic", ".heif"} else ""
        found.append(
            f"{len(others)} {'file is no image by its name and is' if len(others) == 1 else 'files are no images by their name and are'} "
            f"not used ({listed}{apple}): {_some(others)}"
        )
    if layout:
        stray = [e.name for e in _entries(str(root)) if e.is_dir() and Path(e.path) not in layout.values()]
        if stray:
            found.append(f"beside the splits, these folders are not used: {_some(stray)}")
    for code, listing in listings.items():
        missing = [name for name in classes if not listing.classes.get(name)]
        if missing and code:
            found.append(f"the given {SPLITS[code]} split has no images of {_some(missing)}")
    return found


def _listings(root: Path, layout: dict[int, Path]) -> tuple[dict[int, _Listing], list[str]]:
    """Returns split -> files (all of them as train without such a layout), and warnings."""
    if not layout:
        return {0: _list(root, root)}, []
    listings = {code: _list(folder, root) for code, folder in sorted(layout.items())}
    flat = [code for code in listings if code and not any(listings[code].classes.values())]
    warnings = [
        f"{layout[code]} holds no class folders with images; a {SPLITS[code]} split is made from train"
        for code in flat
    ]
    return {code: listing for code, listing in listings.items() if code not in flat}, warnings


def _joined(listings: dict[int, _Listing], classes: list[str]) -> tuple[list[File], list[int], list[int]]:
    """Returns the files of all splits, their labels and their splits."""
    number = {label: index for index, label in enumerate(classes)}
    files: list[File] = []
    labels: list[int] = []
    given: list[int] = []
    for code, listing in listings.items():
        unknown = [label for label, found in listing.classes.items() if found and label not in number]
        if unknown:
            raise DataError(
                f"{SPLITS[code]} has classes that train lacks: {_some(unknown)}; add them to train or remove them"
            )
        for label in classes:
            found = listing.classes.get(label, [])
            files += found
            labels += [number[label]] * len(found)
            given += [code] * len(found)
    return files, labels, given


def from_folder(root: Path, *, name: str = "") -> Source:
    """Returns the source for a folder with one subfolder a class, or with such folders in `train/`, `val/`, `test/`.

    Raises:
        DataError: for a path that is missing or a file, a folder without images, a class of a given split that train lacks.
    """
    _check_root(root)
    root = root.resolve()
    layout = _split_folders(root)
    listings, warnings = _listings(root, layout)
    classes = naturally(label for label, files in listings[0].classes.items() if files)
    if not classes:
        raise _nothing(root, listings)
    empty = [label for label, files in listings[0].classes.items() if not files]
    if empty:
        warnings.append(f"class folders without images are not used: {_some(empty)}")
    files, labels, given = _joined(listings, classes)
    names = tuple(file[0] for file in files)
    return Source(
        name=name or str(root),
        labels=np.array(labels, np.int64),
        classes=tuple(classes),
        read=lambda index: open_image(root / names[index]),
        key=digest("folder", root, *files, np.array(labels), np.array(given)),
        given=np.array(given, np.int8),
        names=names,
        warnings=(*warnings, *_warnings(root, listings, classes, layout)),
    )
