"""`load`: from whatever holds images and labels to three splits of uint8 arrays."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.data import cache as store
from archduel.data.arrays import from_arrays
from archduel.data.cifar import FORMS, form_of_folder, from_cifar
from archduel.data.dataset import Dataset, Preprocessing, Source, Split, digest, make_splits, subset
from archduel.data.decode import ColourFoundError, Plan, decode_once, survey_once
from archduel.data.download import is_archive
from archduel.data.findings import facts_of, refuse_broken, warnings_of
from archduel.data.folder import from_folder
from archduel.data.hugging_face import from_hugging_face, is_hugging_face
from archduel.data.npz import from_npz, pairs_among
from archduel.data.objects import from_dataset, from_mapping, from_parts, is_dataset, is_parts, zipped
from archduel.data.resolution import (
    LARGEST,
    RULES,
    Survey,
    affordable_size,
    choose,
    deep_range,
    kept_size,
    size_facts,
)
from archduel.data.stored import Item, is_kept, keep, kept_once, open_kept
from archduel.errors import MACHINE, AbsentError, DataError, SettingError, as_number, as_whole, brief, reading
from archduel.text import printable, typed

__all__ = ["NAMES", "check_name", "digits", "identity", "load", "locate", "remember", "source_of"]

# -- The menu of data sets, and what a name or a path stands for --------------------------------------------------------


LARGEST_SIDE = 4_096  # pixels: a side ten times the largest usual one
MOST_WORKERS = 1_024
NAMES = {
    "digits": "1,797 handwritten digits, 10 classes, 8 x 8 grey; embedded (scikit-learn)",
    "cifar10": "60,000 photographs, 10 classes, 32 x 32 colour; original archive, python or binary form",
    "cifar100": "60,000 photographs, 100 classes, 32 x 32 colour; original archive, python or binary form",
    "imagefolder": "imagefolder:PATH or just PATH; one subfolder of images a class, also below train/ val/ test/",
    "npz": "PATH.npz; arrays images (N, H, W[, C]) and labels (N,), or x_train, y_train, x_test, y_test",
}


def digits() -> Source:
    """Returns scikit-learn's handwritten digits, their 17 grey levels spread over 0..255."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    names = [str(value) for value in range(10)]
    return from_arrays(pixels, data.target, name="digits", classes=names, flip=False)


def check_name(name: str) -> str:
    """Returns a name under which a set can be kept.

    Raises:
        DataError: for a name that is no plain word or stands for something else.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise DataError(f"a data set needs a plain name of letters, digits, '-', '_' and '.', got {name!r}")
    if name in ("digits", "imagefolder", "npz"):
        raise DataError(f"{name!r} is taken; choose another name")
    return name


def _cifar(name: str, root: Path) -> Source:
    """Returns CIFAR by name: kept before, or from an archive or folder that lies in the download folder."""
    final, place = root / "sets" / name, root / "downloads" / name
    if is_kept(final):
        return open_kept(final, name=name)
    if final.is_dir():
        return from_folder(final, name=name)
    for form in [form for form in FORMS if form.data == name]:
        for path in (place / form.archive, place / form.folder):
            if path.is_file() or (path.is_dir() and form_of_folder(path)):
                return from_cifar(form, path, root / "sets", name=name, final=final)
    addresses = " or ".join(form.url for form in FORMS if form.data == name)
    raise DataError(
        f"{name} is not here; `archduel data fetch {name}` downloads it. Without a network, get {addresses} and put the file into "
        f"{place}, or run `archduel data import {name} FILE`"
    )


def _path(path: Path, text: str, root: Path) -> Source:
    """Returns the images at a path."""
    if is_kept(path):
        return open_kept(path, name=text)
    if path.suffix.lower() == ".npz":
        return from_npz(path, root / "converted")
    if path.is_dir() and is_hugging_face(path):
        return from_hugging_face(path, name=text)
    form = form_of_folder(path) if path.is_dir() else next((f for f in FORMS if f.archive == path.name), None)
    if form is not None and path.exists():
        return from_cifar(form, path, root / "converted", name=text)
    if path.is_file() and is_archive(path):
        raise DataError(
            f"{path} is an archive; `archduel data import NAME {typed(path)}` unpacks it safely under a name of your choice"
        )
    return from_folder(path, name=text)


def locate(text: str, root: Path) -> Source:
    """Returns the images behind a name of the menu, an imported set or a path (a text with a separator is a path).

    Args:
        text: name or path.
        root: of the cache, where fetched and imported sets are.

    Raises:
        DataError: if there is no such thing.
    """
    if text == "digits":
        return digits()
    if text in ("cifar10", "cifar100"):
        return _cifar(text, root)
    if text.startswith("imagefolder:"):
        return from_folder(Path(text.removeprefix("imagefolder:")).expanduser(), name=text, as_classes=True)
    kept = root / "sets" / text.replace(":", "-")
    plain = len(text) < 256 and bool(re.fullmatch(r"[\w.:-]+", text)) and not text.startswith(".")
    if plain and store.recovered(kept).is_dir():
        files = list(kept.glob("*.npz"))
        return _path(files[0] if files else kept, text, root)
    path = Path(text).expanduser()
    if path.exists() or path.suffix.lower() == ".npz" or "/" in text or "\\" in text:
        return _path(path, text, root)
    near = difflib.get_close_matches(
        text, [name for name in NAMES if name not in ("imagefolder", "npz")], n=1
    )
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise AbsentError(
        f"there is neither a data set nor a path {text!r}; {hint}`archduel data list` shows the data sets"
    )


def source_of(source: Any, *, cache: Path | None = None) -> Source:
    """Returns the labelled images behind a name, a path, a pair of arrays or a dataset object.

    Raises:
        DataError: for anything else, or for what cannot be read.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _located(os.fspath(source), store.cache_root(cache))
    with reading(f"the data, {type(source).__name__},", DataError):  # whatever code of others leads to
        return _from_object(source)


def _from_object(source: Any) -> Source:
    """Returns the labelled images of arrays, dataset objects, and pairs and mappings of them."""
    if isinstance(source, Mapping):
        return from_mapping(source, lambda names: pairs_among(names, "the mapping"))
    if is_parts(source):
        codes = (0, 2) if len(source) == 2 else (0, 1, 2)
        return from_parts(dict(zip(codes, source)), "the data")
    if isinstance(source, (tuple, list)) and len(source) == 2:
        return zipped(*source) or from_arrays(source[0], source[1])
    if is_dataset(source) or isinstance(source, (tuple, list)):
        return from_dataset(source, name=type(source).__name__)
    raise DataError(
        "data must be a name, a path, (images, labels), (train, test), a mapping of such, or a dataset with len() and items "
        f"(image, label), got {type(source).__name__}{_hint(source)}"
    )


def _hint(source: Any) -> str:
    """Returns what to give in place of something that holds a data set, or of one without length."""
    if hasattr(source, "dataset"):
        return "; give its .dataset"
    return "; collect its items in a list first" if hasattr(source, "__iter__") else ""


def _located(text: str | bytes, root: Path) -> Source:
    """Returns the images behind a text; one that no file system takes is an error as any other."""
    text = os.fsdecode(text)
    if not text.removeprefix("imagefolder:").strip():
        raise DataError("the name of the data is empty; give a folder, an .npz file or a name (`archduel data list`)")
    if "\0" in text:
        raise DataError(f"{printable(text)!r} is no path")
    try:
        return locate(text, root)
    except OSError as error:
        if error.errno in MACHINE:
            raise
        raise DataError(f"{printable(text)[:200]} cannot be read: {error.strerror or error}") from error


def load(
    source: Any,
    *,
    image_size: int | None = None,
    seed: int = 0,
    max_images: int | None = None,
    tested: int | None = None,
    cache: Path | None = None,
    rule: str | None = None,
    mode: str | None = None,
    flip: bool | None = None,
    validation: float | None = None,
    test: float | None = None,
    seconds: float | None = None,
    pixels_per_second: float = 2e6,
    least: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Returns three splits of uint8 images; decoded once, memory-mapped from then on.

    Args:
        source: a named set (``digits``, ``cifar10``, ...), a folder, an ``.npz`` or archive, ``(images, labels)``, or any dataset
            object with ``len()`` and items (image, label).
        image_size: side in pixels; None = chosen from the images and the time.
        seed: of the splits made and of ``max_images``.
        max_images: use about so many images, shares of classes and splits kept.
        tested: read about so many test images at most, shares of classes kept, and say in ``facts`` as ``test_of`` of how many; training and
            validation images are the same as without.
        cache: root of the cache; None = see :func:`archduel.data.cache.cache_root`.
        rule: ``crop``, ``letterbox`` or ``none``; None = chosen from the images.
        mode: ``RGB`` or ``L``; None = ``L`` where no image has colour.
        flip: whether mirrored images keep their label; None = true, but false for digits and letters.
        validation: share of train for a validation split that is missing.
        test: share of train for a test split that is missing.
        seconds: time of the whole search, limits the size chosen.
        pixels_per_second: training speed of a small network, for the same purpose.
        least: side in pixels below which the time does not push the size chosen, as far as all images are not too much for memory there.
        workers: decoding threads.
        progress: called with (done, total) while decoding.

    Raises:
        DataError: for images, labels or splits that cannot be used.
        SettingError: for a setting out of range.
    """
    image_size, seed, max_images, tested, workers, least, validation, test, seconds, pixels_per_second = _checked(locals())
    images = source_of(source, cache=cache)
    if len(images.classes) < 2:
        raise DataError(
            f"{images.name} has a single class, {images.classes[0]!r}; two or more are needed"
        )
    split = make_splits(
        images.labels, images.given, images.classes, seed=seed, validation=validation, test=test
    )
    numbers = np.arange(len(split)) if max_images is None else subset(images.labels, split, max_images, seed=seed)
    order, test_of = _ordered(images, split, numbers, tested, seed)
    root = store.cache_root(cache)
    found = survey_once(images, root)
    limit = LARGEST if seconds is None else max(kept_size(len(order), least or 0), affordable_size(len(order), seconds, pixels_per_second))
    why = "" if seconds is None else f"the {seconds:.0f} s given for {len(order):,} images"
    choice = choose(found, image_size=image_size, rule=rule, largest=limit, why=why)
    plan = Plan(images, split, order, root, workers, progress)
    taken, told = (images.value_range, []) if images.value_range else deep_range(found)
    preprocessing = Preprocessing(choice.size, mode or ("L" if found.grey else "RGB"), choice.rule, (), (), taken)
    try:
        entry = decode_once(plan, preprocessing, grey_expected=mode is None and preprocessing.mode == "L")
    except ColourFoundError:  # the sample looked grey, another image is not
        preprocessing = replace(preprocessing, mode="RGB")
        entry = decode_once(plan, preprocessing)
    refuse_broken(images, entry, len(order))
    facts = {**facts_of(images, entry, choice, preprocessing.mode), "sizes": size_facts(found), "seed": seed, "listing": images.listing, **test_of}
    images = replace(images, warnings=(*images.warnings, *told, *_tell_frames(found), *_tell_deep_colour(found)))
    return _dataset(_named(source, images), images, entry, preprocessing, facts, flip)


WHOLE = {"image_size": (4, LARGEST_SIDE), "seed": (0, 2**63 - 1), "max_images": (1, 2**63 - 1), "tested": (1, 2**63 - 1), "workers": (1, MOST_WORKERS), "least": (4, LARGEST)}
NUMBERS = ("validation", "test", "seconds", "pixels_per_second")


def _checked(given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns the numbers among the settings of :func:`load` (those of ``WHOLE``, then ``NUMBERS``), after checking all settings.

    Raises:
        SettingError: that names the first that is none of its kind or out of range.
    """
    for name, words in (("mode", ("RGB", "L")), ("rule", RULES)):
        if given[name] is not None and not (isinstance(given[name], str) and given[name] in words):
            raise SettingError(f"{name} must be {' or '.join(words)}, got {brief(given[name])}")
    if given["flip"] is not None and not isinstance(given["flip"], (bool, np.bool_)):
        raise SettingError(f"flip must be True, False or None, got {brief(given['flip'])}")
    if given["progress"] is not None and not callable(given["progress"]):
        raise SettingError(f"progress must be a function of (done, total), got {brief(given['progress'])}")
    if given["cache"] is not None and not isinstance(given["cache"], (str, os.PathLike)):
        raise SettingError(f"cache must be a folder, got {brief(given['cache'])}")
    given = {**given, "seed": 0 if given["seed"] is None else given["seed"]}
    wholes = (None if given[n] is None else as_whole(n, given[n], least=a, most=b) for n, (a, b) in WHOLE.items())
    return (*wholes, *(None if given[n] is None else as_number(n, given[n], least=0) for n in NUMBERS))


def _ordered(
    images: Source, split: NDArray[np.int8], numbers: NDArray[np.int64], tested: int | None, seed: int
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Returns the numbers of the images in the order of their splits, of test images about ``tested`` at most, and of how many these are, if so."""
    order = numbers[np.argsort(split[numbers], kind="stable")]
    first = int(np.searchsorted(split[order], 2))
    labels = images.labels[order[first:]]
    if tested is None or tested >= len(labels):
        return order, {}
    most = max(tested, len(np.unique(labels)))  # one of each class
    chosen = subset(labels, np.zeros(len(labels), np.int8), most, seed=seed)
    return np.concatenate([order[:first], order[first:][chosen]]), {"test_of": len(labels)}


def _tell_frames(found: Survey) -> list[str]:
    """Returns a warning where images have several frames or pages, of which the first is used."""
    if not found.animated:
        return []
    return [f"{found.animated} of {found.looked_at} images looked at have several frames or pages; the first is used"]


def _tell_deep_colour(found: Survey) -> list[str]:
    """Returns a warning where colours of 16 bits are read as 8."""
    if not found.deep_colour:
        return []
    return [
        f"{found.deep_colour} of {len(found.sizes)} images looked at have 16 bits a colour channel, of which the upper 8 are read; where they "
        "hold 10 or 12 bits, most levels are lost: scale them to the whole range first"
    ]


def _named(source: Any, images: Source) -> str:
    """Returns the data as the user called it, printable."""
    return printable(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else images.name


def _moments(histogram: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of values in 0..1, a channel each; the latter at least 1/255."""
    values = np.arange(256) / 255.0
    share = histogram / histogram.sum(axis=1, keepdims=True)  # (C, 256)
    mean = share @ values
    std = np.sqrt(np.maximum(share @ values**2 - mean**2, 0.0))
    return tuple(mean.tolist()), tuple(np.maximum(std, 1 / 255).tolist())


def _splits(images: Source, entry: store.Entry) -> list[Split]:
    """Returns the three splits, views into the decoded images."""
    edges = np.cumsum([0, *entry.counts]).tolist()
    labels = images.labels[entry.rows]
    parts = []
    for start, end in pairwise(edges):
        names = tuple(images.names[row] for row in entry.rows[start:end].tolist()) if images.names else ()
        parts.append(Split(entry.images[start:end], labels[start:end], names))
    return parts


def _flip(name: str, images: Source, flip: bool | None) -> tuple[bool, str]:
    """Returns whether mirrored images keep their label, and why that is thought."""
    if flip is not None:
        return flip, "as asked"
    if images.flip is not None:
        return images.flip, "known of this set"
    stem = Path(name).name.lower()
    if any(word in stem for word in ("digit", "mnist", "letter", "svhn")) and "fashion" not in stem:
        return False, f"the name {stem!r} speaks of digits or letters"
    if images.names and all(len(label) == 1 for label in images.classes):
        return False, "the classes are single characters"
    return True, "the usual case for images of things"


def _dataset(
    name: str,
    images: Source,
    entry: store.Entry,
    preprocessing: Preprocessing,
    facts: dict[str, Any],
    flip: bool | None,
) -> Dataset:
    """Returns the finished data set."""
    train, validation, test = _splits(images, entry)
    mean, std = _moments(entry.histogram)
    flips, flip_reason = _flip(name, images, flip)
    return Dataset(
        name=name,
        train=train,
        validation=validation,
        test=test,
        classes=images.classes,
        preprocessing=replace(preprocessing, mean=mean, std=std),
        fingerprint=digest(entry.digests, images.labels[entry.rows], entry.counts, images.classes, preprocessing),
        flip=flips,
        skipped={images.label_of(number): reason for number, reason in entry.skipped.items()},
        warnings=(*images.warnings, *warnings_of(images, entry)),
        facts={**facts, "flip": flips, "flip_reason": flip_reason},
    )


# -- Data that lives in one process only, made findable by name in every process and in a resumed run -------------------


def identity(data: Any) -> str:
    """Returns a hash (16 hexadecimal digits) of the images and labels of arrays or a dataset object.

    Args:
        data: ``(images, labels)`` or an object with ``len()`` and items (image, label).

    Raises:
        DataError: for anything else.
    """
    return _identity(source_of(data))


def _identity(source: Source) -> str:
    if source.key is not None:
        return digest(source.key, source.classes)[:16]
    parts: list[Any] = [source.labels, source.classes]
    for number in range(len(source)):
        with source.read(number) as image:
            parts.append(digest(image.mode, np.asarray(image)))
    return digest(*parts)[:16]


def _items(source: Source) -> Iterator[Item]:
    for number, (label, split) in enumerate(zip(source.labels.tolist(), source.given.tolist())):
        yield source.read(number), label, split


def _common_shape(source: Source) -> tuple[int, ...] | None:
    """Returns the shape that all images have as uint8, where that is sure without reading them."""
    if source.key is None:
        return None
    first = np.asarray(source.read(0))
    return first.shape if first.dtype == np.uint8 else None


def remember(data: Any, *, cache: Path | None = None) -> str:
    """Returns a name (``arrays:...``) under which :func:`archduel.data.load` finds the data, in any process.

    The images are written into the cache once, without loss; ``archduel data clear --all`` removes them.

    Args:
        data: ``(images, labels)`` or an object with ``len()`` and items (image, label).
        cache: root of the cache.

    Raises:
        DataError: for anything else.
    """
    source = source_of(data)
    mark = _identity(source)
    kept_once(
        store.cache_root(cache) / "sets" / f"arrays-{mark}",
        lambda folder: keep(
            folder, _items(source), source.classes, shape=_common_shape(source), flip=source.flip,
            value_range=source.value_range, warnings=source.warnings,
        ),
        name=source.name,
    )  # fmt: skip
    return f"arrays:{mark}"
