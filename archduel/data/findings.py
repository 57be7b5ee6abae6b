"""What a person should know about a data set: its numbers, its oddities, and when it cannot be used."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from archduel.data.cache import Entry
from archduel.data.dataset import SPLITS, Source
from archduel.data.layout import some
from archduel.data.levels import tell_levels
from archduel.data.objects import lost_items
from archduel.data.resolution import Choice
from archduel.errors import DataError

__all__ = ["MOST_BROKEN", "OTHER_METRIC", "duplicates", "facts_of", "refuse_broken", "warnings_of"]

MOST_BROKEN = 0.01
FEW = 20  # training images of a class below which a person is warned
FEW_JUDGES = 50  # validation images below which a person is warned: the 95 % interval of a share is wider than 26 points in the middle
OTHER_METRIC = "; consider balanced_accuracy or macro_f1 as the metric"
"""Ends a warning of unbalanced classes: advice for who has not done so."""
UNEVEN = 3.0  # largest class : smallest class from which on classes count as unbalanced


def refuse_broken(source: Source, entry: Entry, n: int) -> None:
    """Raises where more than 1 % of the images (and more than two) cannot be read, or a split or class has lost all of its images.

    Raises:
        DataError: with the first names and reasons.
    """
    if len(entry.skipped) > lost_items(n):
        listed = "; ".join(
            f"{source.label_of(number)} ({reason})" for number, reason in list(entry.skipped.items())[:5]
        )
        more = f"; and {len(entry.skipped) - 5} more" if len(entry.skipped) > 5 else ""
        raise DataError(
            f"{len(entry.skipped)} of {n} images cannot be read, more than {MOST_BROKEN:.0%} (and more than 2): {listed}{more}; "
            "repair or remove them"
        )
    if np.count_nonzero(entry.histogram.sum(axis=0)) == 1:
        raise DataError(f"every value of every training image of {source.name} is the same; is that the range of numbers they are stored in?")
    left = _per_class(source, entry)[0]
    gone = [source.classes[index] for index in np.flatnonzero(left == 0)]
    if gone:
        raise DataError(f"no readable training image is left of {', '.join(gone[:5])}")
    empty = [name for name, count in zip(SPLITS, entry.counts) if count == 0]
    if empty:
        raise DataError(f"no readable image is left in {' and '.join(empty)}")


def _per_class(source: Source, entry: Entry) -> list[np.ndarray[Any, Any]]:
    """Returns the images of each class, for each split."""
    labels = source.labels[entry.rows]
    edges = np.cumsum([0, *entry.counts]).tolist()
    return [np.bincount(labels[a:b], minlength=len(source.classes)) for a, b in pairwise(edges)]


def duplicates(entry: Entry) -> list[tuple[int, int]]:
    """Returns pairs of rows of different splits whose pixels are equal: (row of the earlier split, row of the later)."""
    split = np.repeat(np.arange(3), entry.counts)
    hashes = np.ascontiguousarray(entry.digests).view("V16").reshape(-1)  # (N, 16) -> (N,)
    _, group, size = np.unique(hashes, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    pairs = []
    first: dict[int, int] = {}
    for row in np.flatnonzero(size[group] > 1).tolist():
        earlier = first.setdefault(int(group[row]), row)
        if split[earlier] != split[row]:
            pairs.append((earlier, row))
    return pairs


def warnings_of(source: Source, entry: Entry) -> list[str]:
    """Returns sentences on few images, unbalanced classes, duplicates between splits and skipped files."""
    found = []
    train = _per_class(source, entry)[0]
    few = [f"{source.classes[index]!r} ({train[index]})" for index in np.flatnonzero(train < FEW)]
    if few:
        more = " ..." if len(few) > 10 else ""
        found.append(
            f"fewer than {FEW} training images of {', '.join(few[:10])}{more}: do not expect much there"
        )
    if entry.counts[1] < FEW_JUDGES:
        found.append(
            f"only {entry.counts[1]} validation images choose between networks: each is {100 / entry.counts[1]:.1f} points, and differences of a "
            "few images are chance"
        )
    if train.max() >= UNEVEN * train.min():
        most, least = source.classes[int(train.argmax())], source.classes[int(train.argmin())]
        found.append(
            f"classes are unbalanced: {train.max()} training images of {most!r}, {train.min()} of {least!r}{OTHER_METRIC}"
        )
    found += tell_levels(entry.histogram)
    pairs = duplicates(entry)
    if pairs:
        found.append(_tell_duplicates(source, entry, pairs))
    found += _tell_contradictions(source, entry)
    if entry.skipped:
        one = len(entry.skipped) == 1
        which = some([source.label_of(number) for number in entry.skipped], 3)
        found.append(f"{len(entry.skipped)} image{'' if one else 's'} cannot be read and {'is' if one else 'are'} skipped: {which}")
    return found


def _tell_contradictions(source: Source, entry: Entry) -> list[str]:
    """Returns a warning where images with equal pixels have different labels within one split."""
    labels, rows = source.labels[entry.rows], entry.rows.tolist()
    split = np.repeat(np.arange(3), entry.counts)
    first: dict[tuple[int, bytes], int] = {}
    pairs = []
    for row, mark in enumerate(entry.digests):
        earlier = first.setdefault((int(split[row]), mark.tobytes()), row)
        if labels[earlier] != labels[row]:
            pairs.append((earlier, row))
    if not pairs:
        return []
    listed = "; ".join(
        f"{source.label_of(rows[a])} ({source.classes[labels[a]]}) = {source.label_of(rows[b])} ({source.classes[labels[b]]})" for a, b in pairs[:5]
    )
    have = "image has" if len(pairs) == 1 else "images have"
    return [f"{len(pairs)} {have} the same pixels as another of the same split, but another label: {listed}{' ...' if len(pairs) > 5 else ''}"]


def _tell_duplicates(source: Source, entry: Entry, pairs: list[tuple[int, int]]) -> str:
    split = np.repeat(np.arange(3), entry.counts)
    rows = entry.rows.tolist()
    listed = "; ".join(
        f"{source.label_of(rows[first])} ({SPLITS[split[first]]}) = {source.label_of(rows[second])} ({SPLITS[split[second]]})"
        for first, second in pairs[:5]
    )
    labels = source.labels
    differ = sum(int(labels[rows[first]] != labels[rows[second]]) for first, second in pairs)
    one = len(pairs) == 1
    conflict = f", {'' if one else f'{differ} of them '}under different labels" if differ else ""
    return (
        f"{len(pairs)} image{' stands' if one else 's stand'} in two splits with equal pixels{conflict}, which makes accuracy look better than it is: {listed}"
        f"{' ...' if len(pairs) > 5 else ''}"
    )


def facts_of(source: Source, entry: Entry, choice: Choice, mode: str) -> dict[str, Any]:
    """Returns numbers for the report: images a split and class, working resolution and its reason, origin of the splits."""
    per_class = _per_class(source, entry)
    given = {SPLITS[code] for code in np.unique(source.given).tolist()} if source.given.any() else set()
    return {
        "n_images": dict(zip(SPLITS, entry.counts)),
        "per_class": {
            name: {split: int(per_class[code][index]) for code, split in enumerate(SPLITS)}
            for index, name in enumerate(source.classes)
        },
        "splits": {name: "given" if name in given else "made" for name in SPLITS},
        "image_size": choice.size,
        "rule": choice.rule,
        "mode": mode,
        "resolution_reason": choice.reason,
        "imbalance": float(per_class[0].max() / per_class[0].min()),
        "n_duplicates": len(duplicates(entry)),
        "n_skipped": len(entry.skipped),
    }
