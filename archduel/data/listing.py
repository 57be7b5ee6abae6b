"""From a folder like ImageNet's to lists of its pictures (:class:`Catalogue`), one a split, made once and kept.

A split is a folder ``train``, ``val`` or ``test`` (or another of their usual names) with class folders, tar archives, or, for
``val`` and ``test``, loose pictures and a list of labels; or archives ``train-*.tar``, ``val-*.tar`` side by side.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from archduel.data.catalogue import Catalogue, Item, open_catalogue, write_catalogue
from archduel.data.decode import SUFFIXES
from archduel.data.flat import find_list, read_list
from archduel.data.folder import SPLIT_NAMES
from archduel.data.shards import members
from archduel.data.source import SPLITS, digest, naturally
from archduel.errors import DataError

__all__ = ["catalogues"]


def catalogues(root: Path, cache: Path) -> dict[str, Catalogue]:
    """Returns split (``train``, ``validation``, ``test``) -> list of its pictures; labels follow the classes of train.

    Args:
        root: the folder.
        cache: root of the cache, where the lists are kept; they are made anew when a folder or an archive changes.

    Raises:
        DataError: for a folder without training pictures, pictures without labels, or classes that train lacks.
    """
    root = root.expanduser().resolve()
    places = _places(root)
    if "train" not in places:
        raise DataError(
            f"{root} has no training pictures to be read while training; expected a folder train/ with class folders or tar "
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
        word = re.match(r"[a-z]+", path.name.lower())
        code = SPLIT_NAMES.get(word[0]) if word else None
        if code is None:
            continue
        if path.is_dir() and path.name.lower() in SPLIT_NAMES:
            archives = sorted(path.glob("*.tar"))
            places[SPLITS[code]] = archives or [path]
        elif path.suffix == ".tar":
            places.setdefault(SPLITS[code], []).append(path)
    return places


def _kept(root: Path, split: str, places: list[Path], classes: tuple[str, ...], cache: Path) -> Catalogue:
    """Returns the list of a split, from the cache if nothing has changed."""
    inside = [Path(e.path) for e in os.scandir(places[0]) if e.is_dir()] if places[0].is_dir() else []
    beside = [path for path in (find_list(places[0]) if places[0].is_dir() else None,) if path]
    stamps = [(str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in sorted([*places, *inside, *beside])]
    final = cache / "lists" / digest(root, split, *stamps, *classes)[:24]
    found = open_catalogue(final)
    if found is None:
        _write(final, root, places, classes)
        found = open_catalogue(final)
    assert found is not None
    if classes and found.classes != classes:
        strange = [name for name in found.classes if name not in classes]
        raise DataError(f"the {split} pictures of {root} have classes that train lacks: {', '.join(strange[:3])}")
    return found


def _write(final: Path, root: Path, places: list[Path], classes: tuple[str, ...]) -> None:
    if places[0].suffix == ".tar":
        shards = [str(path.relative_to(root)) for path in places]
        names = classes or tuple(naturally({text for _, text, *_ in members(root, shards)}))
        place = {name: number for number, name in enumerate(names)}
        items = ((name, _number(text, place, root), *rest) for name, text, *rest in members(root, shards))
        write_catalogue(final, items, root, names, shards)  # type: ignore[arg-type]
        return
    folder = places[0]
    inside = naturally(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    filled = [name for name in inside if next(_files(folder / name), None)]
    if filled:
        write_catalogue(final, _in_folders(root, folder, filled, classes or tuple(filled)), root, classes or tuple(filled))
        return
    write_catalogue(final, _loose(root, folder, classes), root, classes)


def _number(text: str, place: dict[str, int], root: Path) -> int:
    if text not in place:
        raise DataError(f"{root} has pictures of the class {text!r}, which the training pictures do not have")
    return place[text]


def _files(folder: Path) -> Iterator[str]:
    """Yields the pictures below ``folder``, in order."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                yield os.path.join(place, name)


def _in_folders(root: Path, folder: Path, names: list[str], classes: tuple[str, ...]) -> Iterator[Item]:
    place = {name: number for number, name in enumerate(classes)}
    for name in names:
        number = _number(name, place, folder)
        for path in _files(folder / name):
            yield os.path.relpath(path, root), number, -1, 0, 0


def _loose(root: Path, folder: Path, classes: tuple[str, ...]) -> Iterator[Item]:
    """Yields the pictures that lie in ``folder`` without class folders, with labels from the list beside them."""
    names = sorted(os.path.basename(path) for path in _files(folder))
    if not names:
        raise DataError(f"{folder} holds no pictures")
    if not classes:
        raise DataError(f"{folder} has no class folders; training pictures need one a class")
    path = find_list(folder)
    if path is None:
        raise DataError(
            f"{folder} holds {len(names)} loose pictures and no list of their classes; put val.txt with lines `NAME CLASS` beside it"
        )
    for name, number in zip(names, read_list(path, names, classes)):
        yield os.path.relpath(folder / name, root), number, -1, 0, 0
