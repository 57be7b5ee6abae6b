"""Images ready for training: uint8 arrays in three splits, and how a new image becomes such an array."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archduel.errors import DataError, SettingError
from archduel.text import printable

__all__ = ["PARTS", "SPLITS", "Dataset", "Preprocessing", "Source", "Split", "ValueRange", "default_fraction", "digest", "label_codes", "make_splits", "naturally", "subset"]

# -- Labelled images before they are decoded, whatever they come from ---------------------------------------------------


SPLITS = ("train", "validation", "test")
PARTS = (("train", 0), ("val", 1), ("validation", 1), ("valid", 1), ("test", 2))
"""How the parts of files and mappings are called -> their splits."""
ValueRange = tuple[float, float]
"""The values that become black and white, in images of more than 8 bits a channel."""


@dataclass(frozen=True)
class Source:
    """Labelled images that are read one at a time.

    Attributes:
        name: as the user gave it.
        labels: (N,) int64, positions in ``classes``.
        classes: names in label order.
        read: image number -> image; raises anything for one that cannot be read; callable from several threads.
        key: SHA-256 that changes when the images do; None where only reading them all would tell.
        given: (N,) int8, the split that each belongs to (0 train, 1 validation, 2 test); a split nobody belongs to is made
            from train.
        names: file names, one an image, or empty.
        flip: whether a mirrored image keeps its label; None = not known.
        resident: whether the images are in memory anyway, so that few of them need no cache.
        warnings: what was odd while listing.
        value_range: how ``read`` has scaled numbers of more than 8 bits, where it did.

    Class names, file names and warnings are made printable here, wherever they come from.

    Raises:
        DataError: for two classes that cannot be told apart once they are printed.
    """

    name: str
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    read: Callable[[int], Image.Image]
    key: str | None
    given: NDArray[np.int8]
    names: Sequence[str] = ()
    flip: bool | None = None
    resident: bool = False
    warnings: tuple[str, ...] = ()
    value_range: ValueRange | None = None

    def __post_init__(self) -> None:
        """Makes all text printable."""
        classes = tuple(map(printable, self.classes))
        if len(set(classes)) < len(classes):
            twice = next(name for number, name in enumerate(classes) if name in classes[:number])
            raise DataError(f"{printable(self.name)} has two classes that both read {twice!r}; rename one of them")
        for field_name, value in (
            ("name", printable(self.name)), ("classes", classes),
            ("names", tuple(map(printable, self.names))), ("warnings", tuple(map(printable, self.warnings))),
        ):  # fmt: skip
            object.__setattr__(self, field_name, value)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def listing(self) -> str:
        """A hash (16 hexadecimal digits) of which images there are, not of what they show: the splits that are made follow from it."""
        return digest("\0".join(self.names), self.labels, self.given, self.classes)[:16]

    def label_of(self, index: int) -> str:
        """Returns how to name image ``index`` to a person."""
        return self.names[index] if self.names else f"image {index}"


def digest(*parts: Any) -> str:
    """Returns the SHA-256 over arrays, bytes and the text of everything else, in order."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype.str}{part.shape}".encode())
            total.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        else:
            total.update(part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape"))
        total.update(b"\0")
    return total.hexdigest()


def naturally(names: Iterable[str]) -> list[str]:
    """Returns names sorted: as numbers where all are, else as text."""
    listed = list(names)
    if all(name.isascii() and name.isdigit() for name in listed):
        return sorted(listed, key=lambda name: (int(name), name))
    return sorted(listed)


def _one_each(array: NDArray[Any]) -> NDArray[Any]:
    """Returns (N,) labels of (N,), (N, 1) or, with a single 1 in each row, (N, K); objects become numbers or texts."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # (N, 1) -> (N,)
    numbers = array.ndim == 2 and len(array) > 0 and array.dtype.kind in "fiub"
    if numbers and bool(((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all()):
        return array.argmax(axis=1)  # (N, K) -> (N,)
    if array.ndim != 1:
        raise DataError(f"labels must be one number or name an image, got an array of shape {array.shape}")
    if array.dtype.kind == "O" and len(array):  # columns of a table
        kinds = {type(value) for value in array.tolist()}
        if kinds <= {str} or kinds <= {int, bool}:
            return np.array(array.tolist())
    return array


def label_codes(
    values: Any, classes: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Returns (labels (N,) int64 from 0, class names) for labels that are integers or texts.

    Args:
        values: (N,) integers, integral floats, booleans, bytes or texts, or (N, K) with a single 1 in each row.
        classes: names in label order, for integer labels 0..len-1; without them the distinct values are the names.

    Raises:
        DataError: for labels of another shape or type, or outside ``classes``.
    """
    array = _one_each(np.asarray(values))
    if array.dtype.kind == "f" and bool(np.all(array == np.rint(array))):
        array = array.astype(np.int64)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind not in "iubU":
        raise DataError(f"labels must be integers or texts, got an array of {array.dtype}")
    if classes is not None and array.dtype.kind != "U":
        codes = array.astype(np.int64)
        if len(codes) and (codes.min() < 0 or codes.max() >= len(classes)):
            raise DataError(
                f"labels run from {codes.min()} to {codes.max()}, but {len(classes)} class names are given"
            )
        return codes, tuple(str(name) for name in classes)
    found, codes = np.unique(array, return_inverse=True)
    return codes.reshape(-1).astype(np.int64), tuple(str(value) for value in found.tolist())


# -- Train, validation, test: given ones are kept, missing ones are drawn from train, class by class, by seed -----------


def default_fraction(n: int) -> float:
    """Returns the share of ``n`` images that a missing split gets: more where there are few."""
    return 0.2 if n < 5_000 else 0.15 if n < 20_000 else 0.1


def _shares(counts: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Returns how many of each class: ``fraction`` of the total by largest remainder, at least one each."""
    exact = counts * fraction
    share = np.maximum(1, np.floor(exact).astype(np.int64))
    for _ in range(round(float(exact.sum())) - int(share.sum())):
        share[int(np.argmax(exact - share))] += 1
    return share


def _groups(codes: NDArray[np.int64], n: int) -> list[NDArray[np.int64]]:
    """Returns the rising positions of each of the codes 0..n-1, found by one sort: thousands of classes are not looked for one by one."""
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=n))[:-1])


def make_splits(
    labels: NDArray[np.int64],
    given: NDArray[np.int8],
    classes: Sequence[str],
    *,
    seed: int,
    validation: float | None = None,
    test: float | None = None,
) -> NDArray[np.int8]:
    """Returns the split of every image; where validation or test is missing it is drawn from train, stratified.

    Args:
        labels: (N,) int64.
        given: (N,) int8, 0 train, 1 validation, 2 test.
        classes: names in label order.
        seed: same seed, same splits.
        validation: share of the training images for validation where it is missing; None = by :func:`default_fraction`.
        test: likewise for test.

    Returns:
        (N,) int8.

    Raises:
        DataError: if a class has too few images to stand in every split.
        SettingError: if a share is not inside (0, 1) or they leave nothing to train on.
    """
    pool = np.flatnonzero(given == 0)
    wanted = {
        code: default_fraction(len(pool)) if fraction is None else fraction
        for code, fraction in ((1, validation), (2, test))
        if not bool(np.any(given == code))
    }
    if any(not 0 < fraction < 1 for fraction in wanted.values()) or sum(wanted.values()) >= 1:
        raise SettingError(
            f"validation and test shares must lie in (0, 1) and sum to less than 1, got {wanted}"
        )
    counts = np.bincount(labels[pool], minlength=len(classes))
    _refuse_few(counts, classes, [SPLITS[code] for code in wanted])
    takes = {code: _shares(counts, fraction) for code, fraction in wanted.items()}
    split = given.copy()
    rng = np.random.default_rng([seed, 0x5B117])
    for label, members in enumerate(_groups(labels[pool], len(classes))):
        members = rng.permutation(pool[members])
        start = 0
        for code, take in takes.items():
            # never so many that train, or a split made later, would go without
            left = len(members) - start - 1 - sum(1 for later in takes if later > code)
            n = min(int(take[label]), left)
            split[members[start : start + n]] = code
            start += n
    return split


def _refuse_few(counts: NDArray[np.int64], classes: Sequence[str], made: Sequence[str]) -> None:
    """Raises where a class has fewer images than train and the splits ``made`` from it."""
    needed = 1 + len(made)
    few = [f"{classes[i]!r} has {counts[i]}" for i in np.flatnonzero(counts < needed).tolist()]
    if few:
        aim = f"train and the splits made from it ({' and '.join(made)})" if made else "train"
        listed = ", ".join(few[:10]) + (" ..." if len(few) > 10 else "")
        raise DataError(
            f"every class needs at least {needed} images for {aim}, but {listed}; add images or remove the class"
        )


def subset(labels: NDArray[np.int64], split: NDArray[np.int8], n: int, *, seed: int) -> NDArray[np.int64]:
    """Returns the sorted numbers of about ``n`` images that keep the shares of splits and classes, one of each at least.

    Args:
        labels: (N,) int64.
        split: (N,) int8.
        n: how many; all where there are no more.
        seed: same seed, same images.

    Raises:
        SettingError: if ``n`` is below the number of (split, class) pairs.
    """
    if n >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    strata, member = np.unique(split.astype(np.int64) * (int(labels.max()) + 1) + labels, return_inverse=True)
    if n < len(strata):
        raise SettingError(f"max_images must be at least {len(strata)} (one a class and split), got {n}")
    counts = np.bincount(member)
    take = np.minimum(_shares(counts, n / len(labels)), counts)
    while take.sum() > n:  # strata that were lifted to one image are paid by the largest
        take[int(np.argmax(take))] -= 1
    rng = np.random.default_rng([seed, 0x50B5E7])
    chosen = [rng.permutation(members)[: int(n_taken)] for members, n_taken in zip(_groups(member, len(strata)), take)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


@dataclass(frozen=True)
class Preprocessing:
    """How any image becomes the network's input.

    Attributes:
        size: side of the square in pixels.
        mode: ``RGB`` or ``L`` (grey).
        rule: ``crop`` (short side to ``size``, centre crop), ``inner`` (short side to 8/7 of ``size``, centre crop),
            ``letterbox`` (long side to ``size``, padded with black) or ``none`` (images already have that size).
        mean: per channel, of values in 0..1, over the training split.
        std: per channel, likewise.
        value_range: values that become black and white in images of more than 8 bits a channel; None = 16-bit integers by 0..65535,
            floats by 0..1 or, image by image, as 0..255.
    """

    size: int
    mode: str
    rule: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    # not in the text that fingerprints are made of: they are of pixels, and runs of before keep theirs
    value_range: ValueRange | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Split:
    """Images and labels.

    Attributes:
        images: (N, C, H, W) uint8, often a memory map.
        labels: (N,) int64.
        names: file names or empty, one an image.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Three splits of one classification task.

    Attributes:
        name: as the user gave it.
        train: what weights are trained on.
        validation: what the search decides on.
        test: read once for each final network, after all of them are fixed.
        classes: names in label order.
        preprocessing: how a new image becomes an input.
        fingerprint: SHA-256 over pixels, labels and splits.
        flip: whether a mirrored image keeps its label (false for digits and letters).
        skipped: file -> reason, images that could not be read.
        warnings: things a person should know (few images, unbalanced classes, duplicates).
        facts: numbers for the report (images a class and split, sizes found, rule chosen and why).
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    fingerprint: str
    flip: bool = True
    skipped: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.train.images.shape[1])

    @property
    def image_size(self) -> int:
        """Side of the square images in pixels."""
        return int(self.train.images.shape[2])
