"""The range of numbers in images of more than 8 bits: decided once for a whole set, by what is usual in it and not by an extreme.

Floats may lie in 0..1 or 0..255, 16-bit files may hold 10, 12 or 14 bits, thermal cameras use a narrow band. The decision is a pair
(black, white) in :class:`archduel.data.dataset.Preprocessing`, so that a single image given later is treated as the set was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.data.dataset import ValueRange

__all__ = ["EACH", "Spread", "range_of", "range_warnings", "spread_of", "tell_levels", "usual_range"]

UNUSUAL = 1e-4  # share of values at each end that decides nothing: hot pixels, overshoots of a resize
EACH = 4_096  # values looked at in one image
MOST = 1 << 22  # values kept to find what is usual: 32 MB
SLACK = 0.5  # how far outside 0..1 floats may lie (a resize with a sharp filter overshoots by about 0.2)
FEW_LEVELS, DARK = 16, 64  # of 256, below which images have lost their detail; the embedded digits have 17


@dataclass(frozen=True)
class Spread:
    """Which numbers a set of images holds.

    Attributes:
        least: of all finite values looked at.
        most: likewise.
        low: the value that all but a ten thousandth are above.
        high: the value that all but a ten thousandth are below.
        whole: whether all are whole numbers.
        dim: images that are not black but hold nothing above 1.5, in numbers that are not whole.
        images: looked at.
    """

    least: float
    most: float
    low: float
    high: float
    whole: bool
    dim: int = 0
    images: int = 0


def spread_of(images: Iterable[NDArray[Any]]) -> Spread | None:
    """Returns the spread of the values of images, or None where no value is finite; extremes of all, the rest of a sample."""
    least, most, kept, n, dim, count = np.inf, -np.inf, [], 0, 0, 0
    for image in images:
        values = np.asarray(image).reshape(-1)
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if not finite.size:
            continue
        own = float(finite.min()), float(finite.max())
        least, most, count = min(least, own[0]), max(most, own[1]), count + 1
        dim += 0 < own[1] <= 1 + SLACK and own[1] != round(own[1])
        if n < MOST:  # an odd step, so that not always the same columns are looked at
            kept.append(finite[:: (finite.size // EACH) | 1].astype(np.float64))
            n += kept[-1].size
    if not kept:
        return None
    pool = np.concatenate(kept)
    low, high = (float(v) for v in np.quantile(pool, [UNUSUAL, 1 - UNUSUAL], method="nearest"))
    return Spread(least, most, low, high, bool((pool == np.rint(pool)).all()), dim, count)


def usual_range(spread: Spread, *, floats: bool) -> ValueRange | None:
    """Returns (black, white) where the numbers follow a usual form, else None.

    Floats: 0..1, or 0..255. Whole numbers: 0..255, or as many bits as they need (4095 for 12).
    """
    low, high = spread.low, spread.high
    if floats and low >= -SLACK and high <= 1 + SLACK:
        return 0.0, 1.0
    # an overshoot below black is small beside the whole; normalised images reach as far below 0 as above it
    byte = low >= -SLACK / 4 * high and high <= 255 * (1 + SLACK / 4)
    if byte and (floats or (low >= 0 and high <= 255)):
        return 0.0, 255.0
    if low < 0 or (floats and not spread.whole):
        return None
    return 0.0, float(2 ** max(8, int(high).bit_length()) - 1)


def range_of(spread: Spread, *, floats: bool) -> ValueRange:
    """Returns (black, white) for image files: the usual range, or the set's own where that would waste nearly all levels."""
    usual = usual_range(spread, floats=floats)
    own = (spread.low, spread.high if spread.high > spread.low else spread.low + 1)
    if usual is None:
        return own
    narrow = usual[1] > 255 and (spread.high - spread.low) * 8 < usual[1]
    return own if narrow and spread.high > spread.low else usual


def range_warnings(spread: Spread, taken: ValueRange, *, expected: ValueRange) -> list[str]:
    """Returns what a person should know: a range that is not ``expected`` of such numbers, and values cut off by it."""
    told, outside = tell_dim(spread, taken), spread.least < taken[0] or spread.most > taken[1]
    if taken != expected or outside:
        text = f"values run from {spread.least:.6g} to {spread.most:.6g}; {taken[0]:g} is taken as black and {taken[1]:g} as white"
        told.append(f"{text}{', what lies outside is cut off' if outside else ''}")
    return told


def tell_dim(spread: Spread, taken: ValueRange) -> list[str]:
    """Returns a warning where some images of a set seem to be in 0..1 and others are not: they would be read as black."""
    if not spread.dim or taken[1] <= 1 + SLACK or taken[0] < 0:
        return []
    return [
        f"{spread.dim} of {spread.images} images hold fractions up to 1, others numbers up to {spread.most:.6g}: with {taken[1]:g} as white the former are "
        "nearly black; give all in one range"
    ]


def tell_levels(histogram: NDArray[np.int64]) -> list[str]:
    """Returns a warning where the decoded training images have almost no grey levels left.

    Args:
        histogram: (C, 256), how often each value occurs in the training images.
    """
    used = np.flatnonzero(histogram.sum(axis=0))
    if not used.size or (len(used) > FEW_LEVELS and used[-1] - used[0] >= DARK):
        return []
    return [
        f"the training images use {len(used)} of 256 levels ({used[0]} to {used[-1]}): fine for drawings and masks, else look at the range "
        "of numbers they are stored in (8-bit images, floats in 0..1, or numbers in 0..255 are read as they are)"
    ]
