"""The working resolution: from the images themselves, and from what the time allows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archduel.data.dataset import Preprocessing, Source, ValueRange
from archduel.data.levels import EACH, Spread, range_of, range_warnings, spread_of
from archduel.data.preprocess import DEEP, apply_preprocessing
from archduel.errors import DataError, SettingError

__all__ = [
    "GREY",
    "LARGEST",
    "RULES",
    "SIZES",
    "Choice",
    "Survey",
    "affordable_size",
    "choose",
    "deep_range",
    "is_grey",
    "kept_size",
    "size_facts",
    "survey",
]

SIZES = (16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224)
RULES = ("crop", "letterbox", "none")
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
LARGEST = 224  # pixels, where no time is given
EPOCHS = 200  # passes over the images that a search with its final trainings is taken to need
MOST_BYTES, SMALLEST_KEPT = 2 << 30, 128
"""What images may take that are kept larger than small networks need them, and the side in pixels at which they are kept however many there are."""
KEPT = 0.6  # a centre crop that keeps less of the typical image than this gives way to the letterbox


@dataclass(frozen=True)
class Survey:
    """What a sample of the images looks like.

    Attributes:
        sizes: (width, height) in pixels of every image sampled that could be opened.
        grey: whether those looked at are all grey.
        deep: ``integers`` and ``floats`` -> the numbers in images of more than 8 bits, where there are such.
        animated: how many of those looked at have several frames or pages.
        looked_at: how many were looked at for that.
        deep_colour: how many of all sampled have 16 bits a colour channel, of which Pillow's readers give the upper 8.
    """

    sizes: tuple[tuple[int, int], ...]
    grey: bool
    deep: Mapping[str, Spread] = field(default_factory=dict)
    animated: int = 0
    looked_at: int = 0
    deep_colour: int = 0


@dataclass(frozen=True)
class Choice:
    """A working resolution, and why.

    Attributes:
        size: side in pixels.
        rule: ``crop``, ``letterbox`` or ``none``.
        reason: one sentence for the report.
    """

    size: int
    rule: str
    reason: str


def is_grey(image: Image.Image) -> bool:
    """Returns whether the image has no colour anywhere (looked at in 64 x 64 pixels)."""
    if image.mode in GREY:
        return True
    red, green, blue = apply_preprocessing(image, Preprocessing(64, "RGB", "crop", (), ()))
    return bool(np.array_equal(red, green) and np.array_equal(green, blue))


def survey(source: Source, *, sample: int = 1_000, looked_at: int = 200) -> Survey:
    """Returns the sizes and colours of evenly spread images; decodes only while all so far are grey.

    Raises:
        DataError: if not one of them can be opened.
    """
    numbers = np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int)).tolist()
    every = max(1, len(numbers) // looked_at)
    sizes, grey, by_header, reason, frames, deep_colour = [], True, True, "", [], 0
    deep: dict[str, list[NDArray[Any]]] = {"integers": [], "floats": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata and large images
        for position, number in enumerate(numbers):
            try:
                with source.read(number) as image:
                    size = image.size
                    deep_colour += _deep_colour(image)
                    by_header = by_header and image.mode in GREY
                    if grey and not by_header and position % every == 0:
                        grey = is_grey(image)
                    if position % every == 0:
                        frames.append(_animated(image))
                    if image.mode in DEEP:
                        deep["floats" if image.mode == "F" else "integers"].append(_thinned(image))
                    sizes.append(size)
            except Exception as error:  # Pillow's readers raise whatever a broken file leads them to
                reason = reason or f"{source.label_of(number)}: {error}"
    if not sizes:
        raise DataError(f"none of the images of {source.name} can be opened; the first: {reason}")
    spreads = {kind: spread for kind, images in deep.items() if (spread := spread_of(images)) is not None}
    return Survey(tuple(sizes), grey, spreads, sum(frames), len(frames), deep_colour)


def _deep_colour(image: Image.Image) -> bool:
    """Returns whether a file that is not decoded yet has 16 bits a channel that its image will not have."""
    return image.mode not in DEEP and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _animated(image: Image.Image) -> bool:
    """Returns whether an image has several frames; a photograph with its preview (MPO) is one image."""
    return image.format != "MPO" and bool(getattr(image, "is_animated", False))


def _thinned(image: Image.Image) -> NDArray[Any]:
    """Returns few of an image's values, its extremes among them."""
    values = np.asarray(image).reshape(-1)
    finite = values[np.isfinite(values)]
    return np.concatenate([finite[:: (finite.size // EACH) | 1], [finite.min(), finite.max()]]) if finite.size else finite


def deep_range(found: Survey) -> tuple[ValueRange | None, list[str]]:
    """Returns the range for images of more than 8 bits (None where there are none), and what a person should know of it."""
    if len(found.deep) > 1:
        return None, ["some images are 16-bit integers and some are floats, which have no common range; save all in one form"]
    for kind, spread in found.deep.items():
        taken = range_of(spread, floats=kind == "floats")
        expected = (0.0, 65535.0) if kind == "integers" else (0.0, 1.0 if spread.most <= 1 else 255.0)
        return taken, range_warnings(spread, taken, expected=expected)
    return None, []


def size_facts(found: Survey) -> dict[str, Any]:
    """Returns the numbers on image sizes for the report, in pixels."""
    sizes = np.array(found.sizes)
    shorts, longs = sizes.min(axis=1), sizes.max(axis=1)
    return {
        "looked_at": len(sizes),
        "median_short": int(np.median(shorts)),
        "median_long": int(np.median(longs)),
        "smallest_short": int(shorts.min()),
        "largest_long": int(longs.max()),
    }


def affordable_size(n: int, seconds: float, pixels_per_second: float) -> int:
    """Returns the side in pixels, 32..224, at which ``EPOCHS`` passes over ``n`` images fit into the time.

    Args:
        n: images.
        seconds: time for the whole search.
        pixels_per_second: training speed of a small network (about 2e6 on two CPU cores, 2e8 on a large GPU).
    """
    if not (seconds > 0 and pixels_per_second > 0):
        raise SettingError(
            f"seconds and pixels_per_second must be above 0, got {seconds}, {pixels_per_second}"
        )
    side = math.sqrt(seconds * pixels_per_second / (EPOCHS * max(1, n)))
    return int(min(LARGEST, max(32, side)))


def kept_size(n: int, least: int) -> int:
    """Returns ``least``, or less where ``n`` RGB images would take more than :data:`MOST_BYTES`."""
    return min(least, max(SMALLEST_KEPT, math.isqrt(MOST_BYTES // (3 * max(1, n)))))


def _rule(sizes: Sequence[tuple[int, int]]) -> tuple[str, str]:
    """Returns the rule for these sizes, and why."""
    kept = float(np.median([min(size) / max(size) for size in sizes]))
    if kept >= KEPT:
        return "crop", f"short side resized and centre cropped (keeps {kept:.0%} of the median image)"
    return (
        "letterbox",
        f"long side resized and padded (a centre crop would keep only {kept:.0%} of the median image)",
    )


def choose(
    found: Survey,
    *,
    image_size: int | None = None,
    rule: str | None = None,
    largest: int = LARGEST,
    why: str = "",
) -> Choice:
    """Returns the working resolution.

    Images of one square size up to ``largest`` stay as they are. Otherwise the side is the largest usual one that neither
    exceeds the median short side (nothing is enlarged) nor ``largest``.

    Args:
        found: of :func:`survey`.
        image_size: the side, if a person chose it.
        rule: the rule, if a person chose it.
        largest: limit from time and hardware, in pixels.
        why: where that limit comes from.

    Raises:
        SettingError: for a rule that is unknown or a side below 4 pixels.
    """
    if image_size is not None and image_size < 4:
        raise SettingError(f"image_size is {image_size}, expected at least 4 pixels")
    if rule is not None and rule not in RULES:
        raise SettingError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    shorts = np.array([min(size) for size in found.sizes])
    first = found.sizes[0]
    square = first[0] == first[1] and all(size == first for size in found.sizes)
    if square and (image_size or first[0]) == first[0] and (image_size or first[0] <= largest):
        return Choice(first[0], rule or "none", f"all images have {first[0]} x {first[0]} pixels")
    chosen, explained = _rule(found.sizes)
    if rule is not None:
        chosen, explained = rule, f"rule {rule} as asked"
    median = int(np.median(shorts))
    if image_size is not None:
        return Choice(
            image_size, chosen, f"{image_size} px as asked (median short side {median} px); {explained}"
        )
    limit = min(median, largest)
    size = max((side for side in SIZES if side <= limit), default=max(4, limit))
    bound = f"at most {largest} px{f' by {why}' if why else ''}"
    return Choice(size, chosen, f"{size} px: median short side {median} px, {bound}; {explained}")
