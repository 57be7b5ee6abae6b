"""Images from folders: one subfolder a class, also below `train/`, `val/` and `test/`."""

from __future__ import annotations

import csv
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from archduel.data.dataset import SPLITS, Source, digest, naturally
from archduel.data.decode import SUFFIXES, open_image
from archduel.data.layout import entries, image_count, is_folder, is_image, layout_of, some
from archduel.errors import AbsentError, DataError
from archduel.text import composed, printable

__all__ = ["LISTS", "class_words", "find_list", "from_folder", "image_files", "read_list"]

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

    The list has a line an image: ``NAME CLASS`` (tab, comma or space between; further columns and numbers are left out; a class
    is its name or a number from 0 in the order of the classes), or ``CLASS`` alone in the order of the sorted names.

    Raises:
        DataError: for an image without label or with two, an unknown class, or numbers that say no classes.
    """
    words, alone = _said(path, names)
    if alone and all(_is_number(word) for word in words) and not set(classes) >= set(words):
        raise DataError(
            f"{path} has bare numbers, which do not say their classes (ImageNet's development kit counts in an order of its "
            "own); give a list of lines `NAME CLASS`, with the names of the class folders"
        )
    place = {composed(label): number for number, label in enumerate(classes)}
    return [_code(word, place, path) for word in words]


def class_words(path: Path, names: Sequence[str]) -> tuple[list[str], bool]:
    """Returns what a list says of each of ``names``, and whether it has nothing but classes, in the order of the names.

    Raises:
        DataError: for a file that cannot be read, or an image without label or with two.
    """
    words, alone = _said(path, names)
    return [_first_words(word) for word in words], alone


def _said(path: Path, names: Sequence[str]) -> tuple[list[str], bool]:
    """Returns all that a list says of each of ``names``: the whole second column, or the first."""
    rows = _rows(path, {composed(name) for name in names})
    if rows and all(len(row) == 1 for row in rows):
        if len(rows) != len(names):
            raise DataError(f"{path} has {len(rows)} labels for {len(names)} images")
        return [row[0] for row in rows], True
    by_name, by_stem = _by_names(path, rows), Counter(Path(name).stem for name in names)
    said, missing = [], []
    for name in names:
        keys = (composed(name), *([Path(composed(name)).stem] if by_stem[Path(name).stem] == 1 else []))
        found = next((by_name[key] for key in keys if key in by_name), None)
        if found is None:
            missing.append(name)
        else:
            said.append(found)
    if missing:
        raise DataError(f"{path} has no label for {len(missing)} of {len(names)} images, such as {printable(missing[0])}")
    return said, False


def _rows(path: Path, names: set[str]) -> list[list[str]]:
    """Returns the fields of the lines of a list: by tab or comma where every line has one, else by space."""
    try:
        if path.stat().st_size > LONGEST_LIST:
            raise DataError(f"the list of labels {path} has {path.stat().st_size:,} bytes, expected at most {LONGEST_LIST:,}")
        lines = [composed(line) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        mark = next((mark for mark in "\t," if lines and all(mark in line for line in lines)), " ")
        if mark == " ":
            lines = [line.replace(",", " ").replace("\t", " ").strip() for line in lines]
        rows = [[field.strip() for field in row] for row in csv.reader(lines, delimiter=mark, skipinitialspace=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the list of labels {path} cannot be read: {error}") from error
    if rows and rows[0][0].lower() in ("imageid", "image", "filename", "file", "name", "file_name", "path", "id") and rows[0][0] not in names:
        rows = rows[1:]
    return [_with_spaces(row, names) for row in rows] if mark == " " else rows


def _with_spaces(row: list[str], names: set[str]) -> list[str]:
    """Returns a row whose first fields are joined where they are a file name with spaces in it."""
    if len(row) < 3 or row[0] in names:
        return row
    joined = next((n for n in range(2, len(row)) if _base(" ".join(row[:n])) in names), 1)
    return [" ".join(row[:joined]), *row[joined:]]


def _base(name: str) -> str:
    """Returns the last part of a path as any system writes it."""
    return name.replace("\\", "/").rpartition("/")[2]


def _by_names(path: Path, rows: Sequence[Sequence[str]]) -> dict[str, str]:
    """Returns file name (and stem, where only one file has it) -> label.

    Raises:
        DataError: for a file with two labels.
    """
    by_name: dict[str, str] = {}
    by_stem: dict[str, set[str]] = {}
    for row in rows:
        if len(row) < 2:
            continue
        name = _base(row[0])
        if by_name.setdefault(name, row[1]) != row[1]:
            raise DataError(f"{path} gives {name!r} two labels, {by_name[name]!r} and {row[1]!r}")
        by_stem.setdefault(Path(name).stem, set()).add(row[1])
    return {**{stem: next(iter(labels)) for stem, labels in by_stem.items() if len(labels) == 1}, **by_name}


def _first_words(text: str) -> str:
    """Returns a label without the numbers after it (boxes in the lists of ImageNet)."""
    first, *rest = text.split(" ")
    return first if rest and all(re.fullmatch(r"-?[\d.]+", word) for word in rest if word) else text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _code(text: str, place: dict[str, int], path: Path) -> int:
    for label in (text, _first_words(text), text.split(" ")[0]):
        if label in place:
            return place[label]
    # a position only where no class is a number: beside classes 1, 2, 3 nobody could say what 1 means
    if _is_number(text) and len(text) < 10 and int(text) < len(place) and not any(map(_is_number, place)):
        return int(text)
    raise DataError(f"{path} names the class {text[:80]!r}, which the training images do not have")


LONGEST_LIST = 1 << 27
"""Bytes of a list of labels that is believed: a hundred for each image of ImageNet."""
File = tuple[str, int, int, int]
"""Path below the root, size, time of change of the content and of the entry (a file put in its place may have the same former)."""


@dataclass
class _Listing:
    """Files found below a folder of classes: class -> files; and what was not an image, not looked at, or left out."""

    classes: dict[str, list[File]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    merged: list[str] = field(default_factory=list)


def _below(path: str, root: Path) -> str:
    """Returns a path that begins with ``root`` without it (os.path.relpath takes ten times as long)."""
    return path.removeprefix(str(root)).lstrip(os.sep)


def _leads_back(entry: os.DirEntry[str], root: Path, seen: set[str]) -> bool:
    """Returns whether a folder is a link to one above it, into the set itself, or to one that another class has already."""
    real = os.path.realpath(entry.path)
    if real in seen:
        return True
    try:
        return entry.is_symlink() and os.path.commonpath([real, str(root)]) in (real, str(root))
    except ValueError:  # on another drive
        return False


def _walk(folder: str, root: Path, listing: _Listing, into: list[File]) -> None:
    """Adds the images below ``folder``; links that lead back into the set are not followed."""
    listing.seen.add(os.path.realpath(folder))
    for entry in entries(folder, listing.left):
        relative = _below(entry.path, root)
        if is_folder(entry):
            if _leads_back(entry, root, listing.seen):
                listing.links.append(relative)
            else:
                _walk(entry.path, root, listing, into)
        elif is_image(entry.name):
            try:
                facts = entry.stat()
            except OSError:  # a link that leads nowhere: reading it will say so
                into.append((relative, -1, -1, -1))
                continue
            if stat.S_ISREG(facts.st_mode):
                into.append((relative, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
            else:
                listing.others.append(relative)  # a pipe or a device, which may never end
        else:
            listing.others.append(relative)


def _list(folder: Path, root: Path, seen: set[str]) -> _Listing:
    """Returns the classes below ``folder``; ``seen`` has the real folders that were read, of other splits too."""
    listing = _Listing(seen=seen)
    for entry in entries(str(folder), listing.left):
        if not is_folder(entry):
            (listing.loose if is_image(entry.name) else listing.others).append(_below(entry.path, root))
        elif _leads_back(entry, root, listing.seen):
            listing.links.append(_below(entry.path, root))
        else:
            name = composed(entry.name)  # two file systems may spell one accent in two ways
            if name in listing.classes:
                listing.merged.append(name)
            _walk(entry.path, root, listing, listing.classes.setdefault(name, []))
    return listing


def _check_root(root: Path) -> None:
    if not root.exists():
        raise AbsentError(f"there is no folder {root}; give a folder with one subfolder of images a class")
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
            f"{root} holds {len(loose)} images ({some(loose, 2)}) but no class folders with images; put the images of each "
            "class into a subfolder of its own"
        )
    if others:
        return DataError(
            f"{root} holds no images, only {some(others)}; known endings: {' '.join(sorted(SUFFIXES))}"
        )
    empty = [name for listing in listings.values() for name in listing.classes]
    if empty:
        return DataError(f"{root} has the folders {some(empty)} but no images in them")
    return DataError(f"{root} is empty; expected one subfolder of images a class")


def _warnings(
    root: Path, listings: dict[int, _Listing], classes: list[str], layout: dict[int, Path]
) -> list[str]:
    """Returns what a person should know about the files."""
    found = []
    loose = [name for listing in listings.values() for name in listing.loose]
    if loose:
        found.append(f"{len(loose)} {'image lies' if len(loose) == 1 else 'images lie'} outside any class folder and {'is' if len(loose) == 1 else 'are'} not used: {some(loose)}")
    found += _tell_others([name for listing in listings.values() for name in listing.others])
    if layout:
        tops = {path.relative_to(root).parts[0] for path in layout.values()}
        stray = [e.name for e in entries(str(root)) if is_folder(e) and e.name not in tops]
        if stray:
            found.append(f"beside the splits, these folders are not used: {some(stray)}")
    for code, listing in listings.items():
        missing = [name for name in classes if not listing.classes.get(name)]
        if missing and code:
            found.append(f"the given {SPLITS[code]} split has no images of {some(missing)}")
    links = [name for listing in listings.values() for name in listing.links]
    if links:
        lead = "link that leads" if len(links) == 1 else "links that lead"
        found.append(f"{len(links)} {lead} back into the set (or to a folder that another class has) {'is' if len(links) == 1 else 'are'} not followed: {some(links)}")
    merged = [name for listing in listings.values() for name in listing.merged]
    if merged:
        found.append(f"folders whose names differ only in how an accent is stored are one class: {some(merged)}")
    return [*found, *_tell_left([path for listing in listings.values() for path in listing.left], root), *_tell_near(classes)]


def _tell_others(others: list[str]) -> list[str]:
    """Returns a warning where files are no images, with their endings."""
    if not others:
        return []
    kinds = Counter(os.path.splitext(name)[1].lower() or "no ending" for name in others)
    listed = ", ".join(f"{n} x {kind}" for kind, n in kinds.most_common(5))
    apple = "; convert HEIC to JPEG first" if kinds.keys() & {".heic", ".heif"} else ""
    what = "file is no image (or no regular file) and is" if len(others) == 1 else "files are no images (or no regular files) and are"
    return [f"{len(others)} {what} not used ({listed}{apple}): {some(others)}"]


def _tell_left(left: list[str], root: Path) -> list[str]:
    """Returns a warning where what systems, file servers and tools leave behind holds images, which are never read."""
    counts: Counter[str] = Counter()
    for path in left:
        counts[os.path.basename(path) if os.path.isdir(path) else "hidden files"] += image_count(path)
    listed = ", ".join(f"{n} in {name!r}" if name != "hidden files" else f"{n} {name}" for name, n in counts.most_common(5) if n)
    if not listed:
        return []
    return [f"{counts.total()} images that systems, file servers or tools leave behind are not read: {listed}"]


def _tell_near(classes: list[str]) -> list[str]:
    """Returns warnings where two classes differ in nothing but case or spaces, or cannot be printed as they are."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(" ".join(name.casefold().split()), []).append(name)
    near = [names for names in groups.values() if len(names) > 1]
    told = [f"classes that differ only in case or spaces: {'; '.join(some(names) for names in near[:5])}; one class or two?"] if near else []
    strange = [printable(name) for name in classes if printable(name) != name]
    if strange:
        told.append(f"names with characters that cannot be printed are written with escapes: {some(strange)}")
    return told


def _listings(root: Path, layout: dict[int, Path]) -> tuple[dict[int, _Listing], list[str]]:
    """Returns split -> files (all of them as train without such a layout), and warnings."""
    seen: set[str] = set()
    if not layout:
        return {0: _list(root, root, seen)}, []
    listings = {code: _list(folder, root, seen) for code, folder in sorted(layout.items())}
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
                f"{SPLITS[code]} has classes that train lacks: {some(unknown)}; add them to train or remove them"
            )
        for label in classes:
            found = listing.classes.get(label, [])
            files += found
            labels += [number[label]] * len(found)
            given += [code] * len(found)
    return files, labels, given


def from_folder(root: Path, *, name: str = "", as_classes: bool = False) -> Source:
    """Returns the source for a folder with one subfolder a class, or with such folders in `train/`, `val/`, `test/`.

    Args:
        root: the folder.
        name: for messages.
        as_classes: where the folders could be splits under other names, take them for classes.

    Raises:
        DataError: for a path that is missing or a file, a folder without images, a class of a given split that train lacks, or
            folders that could be classes as well as splits.
    """
    _check_root(root)
    root = root.resolve()
    layout = layout_of(root, as_classes=as_classes)
    listings, warnings = _listings(root, layout.splits)
    classes = naturally(label for label, files in listings[0].classes.items() if files)
    if not classes:
        raise _nothing(root, listings)
    empty = [label for label, files in listings[0].classes.items() if not files]
    if empty:
        warnings.append(f"class folders without images are not used: {some(empty)}")
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
        warnings=(*layout.notes, *warnings, *_warnings(root, listings, classes, layout.splits)),
    )


def image_files(root: Path) -> list[str]:
    """Returns the paths below ``root`` of the images that :func:`from_folder` reads, as the file system spells them."""
    listings, _ = _listings(root, layout_of(root).splits)
    return [file[0] for listing in listings.values() for files in listing.classes.values() for file in files]
