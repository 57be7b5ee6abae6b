"""Batches of images read from disk while training: worker processes decode and crop into shared memory, ahead of time.

Memory is a few batches and a memory-mapped list, whatever the number of images. Workers import no torch and hand nothing over but
shared memory, which reads 1.13 to 1.16 times as many images a processor second as torch's ``DataLoader`` (``benchmarks/streaming.py``,
n = 5).
"""

from __future__ import annotations

import json
import math
import mmap
import os
import selectors
import struct
import subprocess
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archduel.data.dataset import Preprocessing
from archduel.data.decode import open_image
from archduel.data.listing import Catalogue, open_catalogue
from archduel.data.preprocess import apply_preprocessing, upright
from archduel.errors import DataError
from archduel.text import printable

__all__ = ["ANSWER", "TASK", "Stream", "crop_box", "cropped", "main", "read_image", "usable_cores"]

# -- Random crops of random shape, as ImageNet networks are trained with (torchvision's ``RandomResizedCrop``) ----------


TRIES = 10
LEAST_RATIO, MOST_RATIO = 3 / 4, 4 / 3


def crop_box(width: int, height: int, scale: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of a crop whose area is uniform in ``scale``..1 of the image's.

    The logarithm of its aspect ratio is uniform between those of 3/4 and 4/3. A crop that does not fit is drawn again; after ten
    times it is the largest centred one with an allowed ratio.
    """
    for _ in range(TRIES):
        area = width * height * rng.uniform(scale, 1)
        ratio = math.exp(rng.uniform(math.log(LEAST_RATIO), math.log(MOST_RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    ratio = min(max(width / height, LEAST_RATIO), MOST_RATIO)
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def cropped(image: Image.Image, size: int, scale: float, mode: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns a random crop of an image as (C, size, size) uint8 (bilinear, antialiased).

    A JPEG several times larger than needed is decoded at a half, a quarter or an eighth, never below ``size``.
    """
    full = image.size
    box = crop_box(*full, scale, rng)
    finest = min(box[2] - box[0], box[3] - box[1]) / size
    if finest >= 2:
        image.draft(None, (math.ceil(full[0] / finest), math.ceil(full[1] / finest)))
    shrunk = image.size[0] / full[0], image.size[1] / full[1]
    image = upright(image, mode) if image.mode != mode or _turned(image) else image
    if image.size != tuple(round(side * share) for side, share in zip(full, shrunk)):  # an image that was lying on its side
        box, shrunk = crop_box(*image.size, scale, rng), (1.0, 1.0)
    place = (box[0] * shrunk[0], box[1] * shrunk[1], box[2] * shrunk[0], box[3] * shrunk[1])
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=place), np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # (C, S, S)


def _turned(image: Image.Image) -> bool:
    """Whether the camera says that the image lies on its side, or it is not opaque."""
    return image.getexif().get(0x0112, 1) != 1 or "transparency" in image.info


# -- A process that reads, decodes and crops images into shared memory: ``python -m archduel.data.streaming`` ---------
#
# It takes tasks from its standard input and answers on its standard output; it ends when its input does, so it never outlives
# the process that started it. It imports no torch.


TASK = struct.Struct("<iiiQ")
"""Number of the slot, first place in it, number of images, seed; their rows (int64) follow."""
ANSWER = struct.Struct("<iii")
"""Number of the slot, first place in it, bytes of an error message, which follows; 0 = all is well."""


def read_image(
    catalogue: Catalogue, row: int, preprocessing: Preprocessing, scale: float, seed: int
) -> NDArray[np.uint8]:
    """Returns image ``row`` as (C, S, S) uint8: randomly cropped for ``scale`` above 0, else as ``preprocessing`` says.

    The crop depends on ``seed`` and ``row`` only, not on who reads it.
    """
    with catalogue.open(row) as file, open_image(file) as image:
        if scale:
            return cropped(image, preprocessing.size, scale, preprocessing.mode, np.random.default_rng((seed, row)))
        return apply_preprocessing(image, preprocessing)


def _tasks(source: BinaryIO) -> Any:
    while head := source.read(TASK.size):
        slot, first, n, seed = TASK.unpack(head)
        yield slot, first, seed, np.frombuffer(source.read(8 * n), np.int64)


def main() -> None:
    """Does the tasks of the standard input until it ends."""
    import signal
    import warnings

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides what ends
    warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints does not mix with the answers
    told = json.loads(source.readline())
    catalogue, preprocessing = open_catalogue(Path(told["catalogue"])), Preprocessing(**told["preprocessing"])
    shape = tuple(told["shape"])  # (slots, B, C, S, S)
    slots = np.frombuffer(mmap.mmap(told["memory"], int(np.prod(shape))), np.uint8).reshape(shape)
    assert catalogue is not None
    for slot, first, seed, rows in _tasks(source):
        message = b""
        for place, row in enumerate(rows.tolist(), first):
            try:
                slots[slot, place] = read_image(catalogue, row, preprocessing, told["scale"], seed)
            except Exception as error:  # Pillow's readers raise whatever a broken file leads them to
                message = printable(f"{catalogue.root / catalogue.name(row)}: {type(error).__name__}: {error}").encode()[:2000]
                break
        sink.write(ANSWER.pack(slot, first, len(message)) + message)
        sink.flush()


if __name__ == "__main__":
    main()


CHUNK = 16
"""Images a task: enough that handing it over costs nothing, few enough that workers end together."""
AHEAD = 3
"""Tasks a worker has waiting."""


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Stream:
    """Images of a list, as uint8 batches.

    Args:
        catalogue: the list.
        preprocessing: how an image becomes an input; its ``rule`` is used where ``scale`` is 0.
        scale: least share of the area that a random crop keeps, 0 = no random crop (testing).
        workers: processes; None = one a core.
    """

    def __init__(
        self, catalogue: Catalogue, preprocessing: Preprocessing, *, scale: float = 0.0, workers: int | None = None
    ) -> None:
        self.catalogue, self.preprocessing, self.scale = catalogue, preprocessing, scale
        self.workers = usable_cores() if workers is None else max(1, workers)
        self._crew: _Crew | None = None

    def __len__(self) -> int:
        return len(self.catalogue)

    def batches(self, parts: Sequence[NDArray[np.int64]], seed: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Yields (B, C, S, S) uint8 for the rows of each part; a batch is valid until the next one is asked for.

        Raises:
            DataError: for an image that cannot be read, naming it, or a worker that was killed.
        """
        if not parts:
            return
        largest = max(len(part) for part in parts)
        if self._crew is None or self._crew.largest < largest or self._crew.broken:
            self.close()
            self._crew = _Crew(self, max(largest, 4 * CHUNK))
        yield from self._crew.run(parts, seed)

    def close(self) -> None:
        """Ends the workers; they start again when they are needed."""
        if self._crew is not None:
            self._crew.end()
            self._crew = None


class _Crew:
    """The workers of a stream and the memory they write into."""

    def __init__(self, stream: Stream, largest: int) -> None:
        self.largest, self.workers, self.broken = largest, stream.workers, False
        preprocessing = stream.preprocessing
        depth = 2 + math.ceil(AHEAD * CHUNK * self.workers / largest)
        shape = (depth, largest, 3 if preprocessing.mode == "RGB" else 1, preprocessing.size, preprocessing.size)
        descriptor = _memory(math.prod(shape))
        self.slots = np.frombuffer(mmap.mmap(descriptor, math.prod(shape)), np.uint8).reshape(shape)
        told = {
            "catalogue": str(stream.catalogue.folder), "preprocessing": asdict(preprocessing), "scale": stream.scale, "shape": shape, "memory": descriptor,
        }  # fmt: skip
        self.running = [_start(json.dumps(told).encode() + b"\n", descriptor) for _ in range(self.workers)]
        os.close(descriptor)
        self.selector = selectors.DefaultSelector()
        for number, process in enumerate(self.running):
            self.selector.register(process.stdout, selectors.EVENT_READ, number)  # type: ignore[arg-type]
        self.end = weakref.finalize(self, _end, self.running, self.selector)

    def run(self, parts: Sequence[NDArray[np.int64]], seed: int) -> Iterator[NDArray[np.uint8]]:
        """Yields the batches in order; tasks go out as slots and workers become free."""
        chunks = _chunks(parts, self.workers)
        todo = deque([next(chunks)])
        left = [len(part) for part in parts]  # images of a batch that are not there yet
        out: list[dict[tuple[int, int], tuple[int, int]]] = [{} for _ in self.running]
        given = 0  # batches that were handed out
        try:
            for number, part in enumerate(parts):
                wait = False  # first whatever is there already, so that workers are never without tasks
                while left[number] or not wait:
                    found = list(self._answers(out, wait=wait))
                    for done, n in found:
                        left[done] -= n
                    self._hand_out(todo, chunks, out, given, seed)
                    wait = wait or not found
                yield self.slots[number % len(self.slots), : len(part)]
                given = number + 1
        finally:
            self._drain(out)

    def _hand_out(
        self, todo: deque[Any], chunks: Iterator[Any], out: list[dict[Any, Any]], given: int, seed: int
    ) -> None:
        """Gives waiting tasks to the workers with the fewest, as far as slots are free."""
        while todo and todo[0][0] < given + len(self.slots):
            worker = min(range(len(out)), key=lambda i: len(out[i]))
            if len(out[worker]) >= AHEAD:
                return
            number, first, rows = todo.popleft()
            todo.extend(chunk for chunk in [next(chunks, None)] if chunk is not None)
            slot = number % len(self.slots)
            out[worker][slot, first] = (number, len(rows))
            pipe = self.running[worker].stdin
            assert pipe is not None
            try:
                pipe.write(TASK.pack(slot, first, len(rows), seed) + rows.astype(np.int64).tobytes())
                pipe.flush()
            except BrokenPipeError:
                self._killed(worker)

    def _answers(self, out: list[dict[Any, Any]], *, wait: bool = True) -> Iterator[tuple[int, int]]:
        """Yields (batch, images) of finished tasks, an answer a worker; waits for one if asked."""
        for key, _ in self.selector.select(None if wait else 0):
            worker = key.data
            pipe = self.running[worker].stdout
            assert pipe is not None
            head = pipe.read(ANSWER.size)
            if len(head) < ANSWER.size:
                self._killed(worker)
            slot, first, length = ANSWER.unpack(head)
            done = out[worker].pop((slot, first))
            if length:
                text = pipe.read(length).decode(errors="replace")
                raise DataError(f"an image cannot be read: {text}; repair or remove it, the same command continues")
            yield done

    def _killed(self, worker: int) -> None:
        self.broken = True
        code = self.running[worker].wait()
        raise DataError(
            f"a process that reads images ended (exit code {code}); too little memory is the usual reason: fewer --workers. "
            "The same command continues"
        )

    def _drain(self, out: list[dict[Any, Any]]) -> None:
        """Waits for tasks whose batches nobody wants any more."""
        while not self.broken and any(out):
            try:
                for _ in self._answers(out):
                    pass
            except DataError:
                continue


def _chunks(
    parts: Sequence[NDArray[np.int64]], workers: int
) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Yields (batch, first place in it, rows) in order."""
    for number, part in enumerate(parts):
        n = max(1, min(CHUNK, math.ceil(len(part) / workers)))
        for first in range(0, len(part), n):
            yield number, first, np.asarray(part[first : first + n])


def _memory(n: int) -> int:
    """Returns a descriptor of ``n`` bytes that processes can share; they go when the last of them does."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("archduel")
    else:
        file, name = tempfile.mkstemp()
        os.unlink(name)
        descriptor = file
    os.truncate(descriptor, n)
    return descriptor


def _start(told: bytes, descriptor: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "archduel.data.streaming"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(descriptor,),
        bufsize=0,  # nothing may wait in a buffer that select does not see
    )
    assert process.stdin is not None
    process.stdin.write(told)
    process.stdin.flush()
    return process


def _end(running: list[subprocess.Popen[bytes]], selector: selectors.BaseSelector) -> None:
    """Closes the workers' input, upon which they end."""
    selector.close()
    for process in running:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
    for process in running:
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
