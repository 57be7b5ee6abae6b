"""The images a trained network is judged on: a test split, never one that it learned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.data.cache import cache_root
from archduel.data.dataset import Preprocessing, Source, make_splits, naturally, subset
from archduel.data.decode import SUFFIXES, decoded, open_image
from archduel.data.folder import class_words, read_list
from archduel.data.layout import split_of
from archduel.data.listing import catalogues
from archduel.data.load import source_of
from archduel.errors import DataError, SettingError, elsewhere
from archduel.text import composed, printable

__all__ = ["TestSet", "batches", "open_test_set", "same_data"]

TRAIN, VALIDATION, TEST = range(3)
MOVED = "the network was trained on these images: --data says where they are now"


@dataclass(frozen=True)
class TestSet:
    """Test images with labels in the order of the network's classes.

    Attributes:
        source: the images.
        rows: (N,) numbers of the test images in ``source``.
        labels: (N,) int64.
        name: of the data.
        split: which images these are, in words.
        notes: what a person should know before trusting the numbers.
    """

    source: Source
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    name: str
    split: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, n: int | None, seed: int = 0) -> TestSet:
        """Returns about ``n`` of the images, drawn with the classes' shares kept; all of them for None."""
        if n is None or n >= len(self):
            return self
        chosen = subset(self.labels, np.zeros(len(self), np.int8), n, seed=seed)
        words = f"{len(chosen):,} of {len(self):,} images of the {self.split}"
        return replace(self, rows=self.rows[chosen], labels=self.labels[chosen], split=words)


def open_test_set(data: Any, facts: Mapping[str, Any], *, split: str = "test", labels: Path | None = None) -> TestSet:
    """Returns the test images of ``data`` for the network that ``facts`` describe.

    A given test split is taken; where there is none, ``val`` (ImageNet's way), unless the network was trained on this
    data: then the test split that its training held out. A folder without splits is a test set as a whole if the network
    was trained on other data.

    Args:
        data: a name, a folder, an ``.npz``, a pair of arrays; None = the data it was trained on.
        facts: of the network: ``classes`` and, where known, ``seed`` and ``data`` (``name``).
        split: only ``test`` is taken.
        labels: a file that names the class of every image, for a flat folder (ImageNet's validation images).

    Raises:
        SettingError: for another split, or no data.
        DataError: for a training folder, data without test images, unknown classes, labels that are missing.
    """
    if split != "test":
        raise SettingError(f"a network is judged on test images only, which it never learned from; got --split {split}")
    known = {"seed": facts.get("seed", 0), **(facts.get("data") or {})}
    given = data is not None
    data = data if given else known.get("name")
    if data is None:
        raise SettingError("this network does not say what it was trained on; name the test data with --data")
    name = str(data) if isinstance(data, (str, Path)) else type(data).__name__
    if labels is not None:
        return _matched(_flat(Path(str(data)), labels, facts["classes"]), None, name, "flat folder", facts["classes"])
    with nullcontext() if given else elsewhere(MOVED):
        source = _opened(data)
    if split_of(Path(source.name).name) == TRAIN:
        raise DataError(f"{name} is a training split by its name; a network is judged on images it never learned from")
    streamed = bool((facts.get("recipe") or {}).get("crop_scale"))  # such trainings make no splits of their own
    held_out = same_data(data, known.get("name")) and not streamed
    chosen, words = _chosen(source, known, held_out)
    if chosen is None and source.names and all(split_of(Path(file).parts[0]) == TRAIN for file in source.names):
        source = _listed(Path(source.name))
        chosen, words = np.arange(len(source)), "given test split"
    test_set = _matched(source, chosen, name, words, facts["classes"])
    if not held_out:
        return replace(test_set, notes=(*test_set.notes, *_copied(source, known)))
    return replace(test_set, notes=(*test_set.notes, *(() if bool(np.any(source.given == TEST)) else _changed(source, known))))


def _changed(source: Source, known: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a note if the images are others than when the network was trained, so that another part of them is held out."""
    listing, counts = known.get("listing"), [known.get("train"), known.get("validation"), known.get("test_of", known.get("test"))]
    if listing == source.listing:
        return ()
    then = sum(count for count in counts if count is not None)
    if None in counts or known.get("max_images") or then == len(source):
        if listing is None:  # of a version that kept but their number
            return ()
        return (
            "images were added, removed or renamed since the network was trained: the held-out split is another one and may hold images that were "
            "trained on",
        )
    return (
        f"{len(source):,} images now, {then:,} were used in training: if some were added or removed since (rather than skipped "
        "then), the held-out split is another one and may hold images that were trained on",
    )


def _copied(source: Source, known: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a note if images that lie elsewhere are called as those that the network was trained on."""
    if not source.names or known.get("listing") != source.listing:
        return ()
    return (
        f"files and classes are called as those that the network was trained on ({printable(known.get('name'))}): in a copy of them are images that it "
        "learned from",
    )


def _opened(data: Any) -> Source:
    """Returns the images of ``data``; tar archives of a folder like ImageNet's are read in place."""
    path = Path(str(data).removeprefix("imagefolder:")).expanduser() if isinstance(data, (str, Path)) else None
    if path is not None and path.is_dir() and any((*path.glob("train*.tar"), *path.glob("train*/*.tar"))):
        return _listed(path)
    return source_of(data)


def _listed(root: Path) -> Source:
    """Returns the test images of a folder with archives, or with loose validation images and a list of their classes.

    Raises:
        DataError: if there are none.
    """
    lists = catalogues(root, cache_root())
    tested = lists.get("test") or lists.get("validation")
    if tested is None:
        raise DataError(f"{root} has a training split, but neither test/ nor val/")
    given = np.full(len(tested), TEST, np.int8)
    names = tuple(tested.name(row) for row in range(len(tested)))
    return Source(
        str(root), tested.labels.astype(np.int64), tested.classes, lambda row: open_image(tested.open(row)), None, given, names=names
    )


def same_data(data: Any, other: Any) -> bool:
    """Returns whether two names or paths mean the same data."""
    if data is None or other is None:
        return False
    texts = [str(value).removeprefix("imagefolder:") for value in (data, other)]
    return texts[0] == texts[1] or Path(texts[0]).expanduser().resolve() == Path(texts[1]).expanduser().resolve()


def _chosen(source: Source, known: Mapping[str, Any], trained_on_it: bool) -> tuple[NDArray[np.int64] | None, str]:
    """Returns the numbers of the test images (None = all), and which they are."""
    if bool(np.any(source.given == TEST)):
        return np.flatnonzero(source.given == TEST), "given test split"
    if trained_on_it:
        seed = int(known["seed"])
        split = make_splits(source.labels, source.given, source.classes, seed=seed, validation=known.get("validation_share"))
        return np.flatnonzero(split == TEST), f"test split that its training held out (seed {seed})"
    if bool(np.any(source.given == VALIDATION)):
        return np.flatnonzero(source.given == VALIDATION), "given validation split (there is no test split)"
    return None, "whole set"


def _matched(
    source: Source, rows: NDArray[np.int64] | None, name: str, split: str, classes: Sequence[str]
) -> TestSet:
    """Returns the test set with the network's numbers for the classes."""
    rows = np.arange(len(source)) if rows is None else rows
    place = {_as_read(label): number for number, label in enumerate(classes)}
    strange = [label for label in source.classes if _as_read(label) not in place]
    notes: tuple[str, ...] = ()
    if strange and _by_order(source.classes, classes):
        place, strange = {_as_read(label): number for number, label in enumerate(source.classes)}, []
        notes = (f"classes are matched by their order, for one side has but numbers: {_pairs(source.classes, classes)}",)
    if strange:
        raise DataError(
            f"{name} has {len(source.classes)} classes, {len(strange)} of which the network does not know "
            f"({', '.join(strange[:3])}{' ...' if len(strange) > 3 else ''}); it knows {len(classes)} "
            f"({', '.join(list(classes)[:3])} ...)"
        )
    if not len(rows):
        raise DataError(f"{name} has no test images")
    translate = np.array([place[_as_read(label)] for label in source.classes], np.int64)
    return TestSet(source, rows, translate[source.labels[rows]], name, split, notes)


def _by_order(theirs: Sequence[str], ours: Sequence[str]) -> bool:
    """Returns whether order says what names cannot: one of the two has but numbers, and names that both have stand in the same places.

    (Counted from 1 they do not, and every one is another one's number.)
    """
    if len(theirs) != len(ours) or not (_nameless(theirs) or _nameless(ours)):
        return False
    if _nameless(theirs, 1) or _nameless(ours, 1):
        return True
    place = {_as_read(label): number for number, label in enumerate(ours)}
    return all(place.get(_as_read(label), number) == number for number, label in enumerate(theirs))


def _pairs(theirs: Sequence[str], ours: Sequence[str], n: int = 3) -> str:
    """Returns the first classes of images and network that are taken for the same."""
    return ", ".join(f"{mine} = {other}" for mine, other in list(zip(ours, theirs))[:n]) + (" ..." if len(ours) > n else "")


def _as_read(label: str) -> str:
    """Returns a class name as loading makes it today: networks of before may know it as their file system spelled it."""
    return printable(composed(label))


def _nameless(classes: Sequence[str], first: int = 0) -> bool:
    """Returns whether the classes are but numbers from ``first`` on."""
    return list(classes) == [str(first + number) for number in range(len(classes))]


def _flat(folder: Path, labels: Path, classes: Sequence[str]) -> Source:
    """Returns the images that lie loose in ``folder``, their classes read from ``labels``."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    files = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder} holds no images outside class folders; leave --labels out for class folders")
    words, _ = class_words(labels, files)
    names = naturally(set(words))
    nameless = _nameless(classes) and _by_order(names, classes) and not all(word.isdigit() for word in words)
    # a network without names goes by the order that folders of these names would have
    codes = np.array(read_list(labels, files, names if nameless else classes), np.int64)
    given = np.full(len(files), TEST, np.int8)
    return Source(str(folder), codes, tuple(classes), lambda i: open_image(folder / files[i]), None, given, names=files)


def batches(
    test_set: TestSet, preprocessing: Preprocessing, skipped: dict[str, str], *, size: int = 256
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Yields images (B, C, size, size) uint8 and labels (B,), a few at a time, decoded in threads.

    Args:
        test_set: which images.
        preprocessing: how the network wants them.
        skipped: gets file -> reason for what cannot be read.
        size: images a batch.
    """
    place = dict(zip(test_set.rows.tolist(), test_set.labels.tolist()))
    pixels: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for row, image in decoded(test_set.source, test_set.rows, preprocessing):
        if isinstance(image, str):
            skipped[test_set.source.label_of(row)] = image
            continue
        pixels.append(image)
        labels.append(place[row])
        if len(pixels) == size:
            yield np.stack(pixels), np.array(labels, np.int64)
            pixels, labels = [], []
    if pixels:
        yield np.stack(pixels), np.array(labels, np.int64)
