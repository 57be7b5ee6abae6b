"""Opening images safely, and a stream of them through the one preprocessing function."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from archduel.data.dataset import Preprocessing
from archduel.data.preprocess import apply_preprocessing
from archduel.data.resolution import is_grey
from archduel.data.source import Source
from archduel.errors import DataError

__all__ = ["SUFFIXES", "ColourFoundError", "decoded", "open_image"]

# Formats that Pillow reads by itself. EPS is left out: it would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "MPO", "JPEG2000", "AVIF", "ICO")
SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".j2k",
        ".jpx",
        ".avif",
        ".ico",
    ]
)
MOST_PIXELS = (
    120_000_000  # a 120 megapixel image takes 360 MB decoded; larger ones are taken for decompression bombs
)


class ColourFoundError(DataError):
    """A colour image in a set that looked grey."""


def open_image(path: str | Path | BinaryIO) -> Image.Image:
    """Returns the image in a file (or an opened one), its pixels not yet decoded.

    Raises:
        DataError: for an image so large that decoding it could exhaust the memory.
        OSError: for a file that is missing or no image.
    """
    Image.init()
    image = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    if image.width * image.height > MOST_PIXELS:
        size = f"{image.width} x {image.height}"
        image.close()
        raise DataError(f"it claims {size} pixels, more than {MOST_PIXELS:,}: taken for a decompression bomb")
    return image


def _pixels(
    source: Source, number: int, preprocessing: Preprocessing, grey_expected: bool
) -> NDArray[np.uint8] | str:
    """Returns image ``number`` as pixels, or the reason why it cannot be."""
    try:
        with source.read(number) as image:
            if grey_expected and not is_grey(image):
                raise ColourFoundError(source.label_of(number))
            return apply_preprocessing(image, preprocessing)
    except ColourFoundError:
        raise
    except UnidentifiedImageError:
        return "no image in a known format"
    except FileNotFoundError:
        return "missing, or a link that leads nowhere"
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them to
        return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def decoded(
    source: Source,
    order: NDArray[np.int64],
    preprocessing: Preprocessing,
    *,
    grey_expected: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, NDArray[np.uint8] | str]]:
    """Yields (number, pixels or the reason why there are none) in the given order, a few images ahead at most.

    Args:
        source: the images.
        order: (N,) their numbers.
        preprocessing: what is applied.
        grey_expected: stop at the first image with colour.
        workers: threads (Pillow decodes outside the interpreter lock); None = one a core, at most 8.
        progress: called with (done, total) every 1,000 images and at the end.

    Raises:
        ColourFoundError: see ``grey_expected``.
    """
    threads = min(8, os.cpu_count() or 1) if workers is None else max(1, workers)
    waiting: deque[tuple[int, Future[NDArray[np.uint8] | str]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata and large images
            for done, number in enumerate(order.tolist(), 1):
                waiting.append((number, pool.submit(_pixels, source, number, preprocessing, grey_expected)))
                if len(waiting) > 4 * threads:
                    first, future = waiting.popleft()
                    yield first, future.result()
                if progress and done % 1_000 == 0:
                    progress(done, len(order))
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
            if progress:
                progress(len(order), len(order))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
