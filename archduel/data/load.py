"""`load`: from whatever holds pictures and labels to three splits of uint8 arrays."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.data import cache as store
from archduel.data.arrays import from_arrays, from_dataset
from archduel.data.dataset import Dataset, Preprocessing, Split
from archduel.data.decode import ColourFoundError
from archduel.data.named import locate
from archduel.data.once import Plan, decode_once, survey_once
from archduel.data.resolution import LARGEST, affordable_size, choose, size_facts
from archduel.data.source import Source, digest
from archduel.data.splits import make_splits, subset
from archduel.data.verdict import facts_of, refuse_broken, warnings_of
from archduel.errors import DataError, SettingError

__all__ = ["load", "source_of"]


def source_of(source: Any, *, cache: Path | None = None) -> Source:
    """Returns the labelled pictures behind a name, a path, a pair of arrays or a dataset object.

    Raises:
        DataError: for anything else, or for what cannot be read.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, (str, os.PathLike)):
        return locate(os.fspath(source), store.cache_root(cache))
    if isinstance(source, (tuple, list)) and len(source) == 2:
        return from_arrays(source[0], source[1])
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        return from_dataset(source, name=type(source).__name__)
    raise DataError(
        f"data must be a name, a path, (images, labels) or a dataset with len() and items (picture, label), "
        f"got {type(source).__name__}"
    )


def load(
    source: Any,
    *,
    image_size: int | None = None,
    seed: int = 0,
    max_images: int | None = None,
    cache: Path | None = None,
    rule: str | None = None,
    mode: str | None = None,
    flip: bool | None = None,
    validation: float | None = None,
    test: float | None = None,
    seconds: float | None = None,
    pixels_per_second: float = 2e6,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Returns three splits of uint8 pictures; decoded once, memory-mapped from then on.

    Args:
        source: a named set (``digits``, ``cifar10``, ...), a folder, an ``.npz`` or archive, ``(images, labels)``, or any dataset
            object with ``len()`` and items (picture, label).
        image_size: side in pixels; None = chosen from the pictures and the time.
        seed: of the splits made and of ``max_images``.
        max_images: use about so many pictures, shares of classes and splits kept.
        cache: root of the cache; None = see :func:`archduel.data.cache.cache_root`.
        rule: ``crop``, ``letterbox`` or ``none``; None = chosen from the pictures.
        mode: ``RGB`` or ``L``; None = ``L`` where no picture has colour.
        flip: whether mirrored pictures keep their label; None = true, but false for digits and letters.
        validation: share of train for a validation split that is missing.
        test: share of train for a test split that is missing.
        seconds: time of the whole search, limits the size chosen.
        pixels_per_second: training speed of a small network, for the same purpose.
        workers: decoding threads.
        progress: called with (done, total) while decoding.

    Raises:
        DataError: for pictures, labels or splits that cannot be used.
        SettingError: for a setting out of range.
    """
    if mode not in (None, "RGB", "L"):
        raise SettingError(f"mode must be RGB or L, got {mode!r}")
    pictures = source_of(source, cache=cache)
    if len(pictures.classes) < 2:
        raise DataError(
            f"{pictures.name} has a single class, {pictures.classes[0]!r}; two or more are needed"
        )
    split = make_splits(
        pictures.labels, pictures.given, pictures.classes, seed=seed, validation=validation, test=test
    )
    numbers = (
        np.arange(len(split)) if max_images is None else subset(pictures.labels, split, max_images, seed=seed)
    )
    order = numbers[np.argsort(split[numbers], kind="stable")]
    root = store.cache_root(cache)
    found = survey_once(pictures, root)
    limit = LARGEST if seconds is None else affordable_size(len(order), seconds, pixels_per_second)
    why = "" if seconds is None else f"the {seconds:.0f} s given for {len(order):,} pictures"
    choice = choose(found, image_size=image_size, rule=rule, largest=limit, why=why)
    plan = Plan(pictures, split, order, root, workers, progress)
    look = Preprocessing(choice.size, mode or ("L" if found.grey else "RGB"), choice.rule, (), ())
    try:
        entry = decode_once(plan, look, grey_expected=mode is None and look.mode == "L")
    except ColourFoundError:  # the sample looked grey, another picture is not
        look = replace(look, mode="RGB")
        entry = decode_once(plan, look)
    refuse_broken(pictures, entry, len(order))
    facts = {**facts_of(pictures, entry, choice, look.mode), "sizes": size_facts(found), "seed": seed}
    return _dataset(_named(source, pictures), pictures, entry, look, facts, flip)


def _named(source: Any, pictures: Source) -> str:
    """Returns the data as the user called it."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else pictures.name


def _moments(histogram: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of values in 0..1, a channel each; the latter at least 1/255."""
    values = np.arange(256) / 255.0
    share = histogram / histogram.sum(axis=1, keepdims=True)  # (C, 256)
    mean = share @ values
    std = np.sqrt(np.maximum(share @ values**2 - mean**2, 0.0))
    return tuple(mean.tolist()), tuple(np.maximum(std, 1 / 255).tolist())


def _splits(pictures: Source, entry: store.Entry) -> list[Split]:
    """Returns the three splits, views into the decoded pictures."""
    edges = np.cumsum([0, *entry.counts]).tolist()
    labels = pictures.labels[entry.rows]
    parts = []
    for start, end in pairwise(edges):
        names = tuple(pictures.names[row] for row in entry.rows[start:end].tolist()) if pictures.names else ()
        parts.append(Split(entry.images[start:end], labels[start:end], names))
    return parts


def _flip(name: str, pictures: Source, flip: bool | None) -> tuple[bool, str]:
    """Returns whether mirrored pictures keep their label, and why that is thought."""
    if flip is not None:
        return flip, "as asked"
    if pictures.flip is not None:
        return pictures.flip, "known of this set"
    stem = Path(name).name.lower()
    if any(word in stem for word in ("digit", "mnist", "letter", "svhn")) and "fashion" not in stem:
        return False, f"the name {stem!r} speaks of digits or letters"
    if pictures.names and all(len(label) == 1 for label in pictures.classes):
        return False, "the classes are single characters"
    return True, "the usual case for pictures of things"


def _dataset(
    name: str,
    pictures: Source,
    entry: store.Entry,
    look: Preprocessing,
    facts: dict[str, Any],
    flip: bool | None,
) -> Dataset:
    """Returns the finished data set."""
    train, validation, test = _splits(pictures, entry)
    mean, std = _moments(entry.histogram)
    flips, flip_reason = _flip(name, pictures, flip)
    return Dataset(
        name=name,
        train=train,
        validation=validation,
        test=test,
        classes=pictures.classes,
        preprocessing=replace(look, mean=mean, std=std),
        fingerprint=digest(entry.digests, pictures.labels[entry.rows], entry.counts, pictures.classes, look),
        flip=flips,
        skipped={pictures.label_of(number): reason for number, reason in entry.skipped.items()},
        warnings=(*pictures.warnings, *warnings_of(pictures, entry)),
        facts={**facts, "flip": flips, "flip_reason": flip_reason},
    )
