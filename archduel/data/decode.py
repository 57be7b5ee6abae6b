"""Opening images safely, and a stream of them through the one preprocessing function."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from archduel.core.disk import write_atomic
from archduel.data import cache as store
from archduel.data.dataset import Preprocessing, Source, digest
from archduel.data.levels import Spread
from archduel.data.preprocess import apply_preprocessing
from archduel.data.resolution import Survey, is_grey, survey
from archduel.errors import DataError

__all__ = ["SUFFIXES", "ColourFoundError", "Plan", "decode_once", "decoded", "open_image", "survey_once"]

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
        DataError: for an image so large that decoding it could exhaust the memory, or for a pipe or device, which may never end.
        OSError: for a file that is missing or no image.
    """
    Image.init()
    if isinstance(path, (str, Path)) and not stat.S_ISREG(os.stat(path).st_mode):
        raise DataError("it is a folder, a pipe or a device, not a regular file")
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


# -- Decoding once: the entry of the cache for these images, in this order, at this size; made where it is missing ------


SMALL = 32 * 2**20  # bytes of pixels that are kept in memory where the images were in memory anyway


@dataclass(frozen=True)
class Plan:
    """What is to be decoded.

    Attributes:
        source: the images.
        split: (N,) int8, the split of every image of the source.
        order: (M,) int64, the numbers of those wanted: train first, then validation, then test.
        root: of the cache.
        workers: threads, None = chosen.
        progress: called with (done, total).
    """

    source: Source
    split: NDArray[np.int8]
    order: NDArray[np.int64]
    root: Path
    workers: int | None = None
    progress: Callable[[int, int], None] | None = None


def decode_once(plan: Plan, preprocessing: Preprocessing, *, grey_expected: bool = False) -> store.Entry:
    """Returns the decoded images, from the cache where they are there already.

    Args:
        plan: what is to be decoded.
        preprocessing: size, mode and rule.
        grey_expected: stop at the first image with colour.

    Raises:
        DataError: if none can be decoded.
        ColourFoundError: see ``grey_expected``.
    """
    shape = (3 if preprocessing.mode == "RGB" else 1, preprocessing.size, preprocessing.size)

    def fresh() -> Iterator[tuple[int, NDArray[np.uint8] | str]]:
        """Returns the images, decoded while they are read."""
        return decoded(
            plan.source,
            plan.order,
            preprocessing,
            grey_expected=grey_expected,
            workers=plan.workers,
            progress=plan.progress,
        )

    if plan.source.resident and len(plan.order) * int(np.prod(shape)) <= SMALL:
        return _in_memory(plan, fresh(), shape)
    if plan.source.key is None:
        return _by_content(plan, fresh(), shape)
    taken = () if preprocessing.value_range is None else (preprocessing.value_range,)
    base = digest(plan.source.key, preprocessing.size, preprocessing.mode, preprocessing.rule, store.FORMAT, *taken)[:24]
    final = plan.root / "decoded" / f"{base}-{digest(plan.order, plan.split[plan.order])[:16]}"
    with _writable(plan.root), store.locked(plan.root / "decoded" / f".{base}.lock") as held:
        entry = store.opened(final)
        if entry is not None and [row for row in plan.order.tolist() if row not in entry.skipped] != entry.rows.tolist():
            entry = None  # damaged: other rows than its name says
        if entry is None:
            dead = final.parent.glob(f".{base[:16]}.*") if held else ()  # of processes that were killed
            for folder in (final, *dead):  # a final folder that cannot be opened is damaged
                shutil.rmtree(folder, ignore_errors=True)
            store.write_entry(final, _rearranged(plan, final, base) or fresh(), shape, plan.split)
            entry = store.opened(final)
    return _checked(entry, plan)


@contextmanager
def _writable(root: Path) -> Iterator[None]:
    """Says what to do where the cache cannot be written; what goes wrong in reading images never comes here."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the cache {root} cannot be written ({error.strerror or error}); set ARCHDUEL_CACHE to a folder with room"
        ) from error


def survey_once(source: Source, root: Path) -> Survey:
    """Returns the survey of the images, remembered beside the decoded ones.

    Raises:
        DataError: if not one image can be opened.
    """
    if source.key is None or source.resident:
        return survey(source)
    path = root / "decoded" / f"survey-{digest(source.key)[:24]}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        deep = {str(kind): Spread(**spread) for kind, spread in known["deep"].items()}
        sizes = tuple((int(width), int(height)) for width, height in known["sizes"])
        return Survey(sizes, bool(known["grey"]), deep, *(int(known[name]) for name in ("animated", "looked_at", "deep_colour")))
    except Exception:  # none there, damaged, or of before: it can be made again
        found = survey(source)
    with _writable(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(asdict(found)).encode())
    return found


def _checked(entry: store.Entry | None, plan: Plan) -> store.Entry:
    if entry is None:
        raise DataError(f"none of the {len(plan.order):,} images of {plan.source.name} could be decoded")
    return entry


def _in_memory(
    plan: Plan, images: Iterable[tuple[int, NDArray[np.uint8] | str]], shape: tuple[int, int, int]
) -> store.Entry:
    """Returns an entry of few images, kept in memory; the same code by way of a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="archduel-") as folder:
        store.write_entry(Path(folder) / "entry", images, shape, plan.split)
        return _checked(store.opened(Path(folder) / "entry", mapped=False), plan)


def _by_content(
    plan: Plan, images: Iterable[tuple[int, NDArray[np.uint8] | str]], shape: tuple[int, int, int]
) -> store.Entry:
    """Returns an entry that is decoded each time and kept under the hash of its content, once."""
    parent = plan.root / "decoded"
    with _writable(plan.root):
        parent.mkdir(parents=True, exist_ok=True)
    with _writable(plan.root), tempfile.TemporaryDirectory(prefix=".once.", dir=parent) as folder:
        written = Path(folder) / "entry"
        store.write_entry(written, images, shape, plan.split)
        entry = _checked(store.opened(written), plan)
        final = (
            parent / f"content-{digest(entry.digests, entry.rows, entry.counts, shape, entry.skipped)[:24]}"
        )
        del entry
        store.publish(written, final)
    return _checked(store.opened(final), plan)


def _rearranged(plan: Plan, final: Path, base: str) -> Iterator[tuple[int, NDArray[np.uint8] | str]] | None:
    """Returns the images from an entry that holds them in another order (of another seed), or None."""
    wanted = set(plan.order.tolist())
    for sibling in sorted(final.parent.glob(f"{base}-*")):
        entry = store.opened(sibling)
        if entry is not None and wanted <= entry.skipped.keys() | set(entry.rows.tolist()):
            return _gather(entry, plan.order)
    return None


def _gather(entry: store.Entry, order: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.uint8] | str]]:
    row = {number: position for position, number in enumerate(entry.rows.tolist())}
    for number in order.tolist():
        yield number, (entry.images[row[number]] if number in row else entry.skipped[number])
