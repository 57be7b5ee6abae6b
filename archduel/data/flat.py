"""Labels of loose pictures: ImageNet's validation pictures lie in one folder and are named in a list beside them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from archduel.errors import DataError

__all__ = ["LISTS", "class_words", "find_list", "read_list"]

LISTS = (
    "val.txt", "val_labels.txt", "validation_labels.txt", "val_annotations.txt", "LOC_val_solution.csv",
    "imagenet_2012_validation_synset_labels.txt", "ILSVRC2012_validation_ground_truth.txt", "labels.txt", "labels.csv",
)  # fmt: skip
"""Names under which such lists are found, beside the folder of pictures or inside it."""


def find_list(folder: Path) -> Path | None:
    """Returns the list of labels of the loose pictures in ``folder``, or None."""
    return next((place / name for name in LISTS for place in (folder, folder.parent) if (place / name).is_file()), None)


def read_list(path: Path, names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Returns the label of each of ``names`` (file names in sorted order).

    The list has a line a picture: ``NAME CLASS`` (space, tab or comma between; more words are left out; a class is its name or
    a number from 0 in the order of the classes), or ``CLASS`` alone in the order of the sorted names.

    Raises:
        DataError: for a picture without label, an unknown class, or numbers that say no classes.
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
        DataError: for a file that cannot be read, or a picture without label.
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
            raise DataError(f"{path} has {len(rows)} labels for {len(names)} pictures")
        return [row[0] for row in rows], True
    said = {Path(row[0]).stem: row[1] for row in rows if len(row) > 1}
    missing = [name for name in names if Path(name).stem not in said]
    if missing:
        raise DataError(f"{path} has no label for {len(missing)} of {len(names)} pictures, such as {missing[0]}")
    return [said[Path(name).stem] for name in names], False


def _tidied(lines: Sequence[str]) -> list[str]:
    return [line.replace(",", " ").replace("\t", " ").strip() for line in lines]


def _code(text: str, place: dict[str, int], n: int, path: Path) -> int:
    if text in place:
        return place[text]
    if text.isdigit() and int(text) < n:
        return int(text)
    raise DataError(f"{path} names the class {text!r}, which the training pictures do not have")
