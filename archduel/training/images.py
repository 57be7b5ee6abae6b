"""Labelled images where training can reach them fast: one uint8 tensor on the device, or a memory map read by the batch."""

from __future__ import annotations

import math
import mmap
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from archduel.core.pulse import beat
from archduel.errors import DataError, SettingError
from archduel.training.augment import augmented, normalise
from archduel.training.optimizer import plan
from archduel.training.recipe import Recipe
from archduel.training.runtime import mix_seed

__all__ = ["Cursor", "ImageStream", "Images", "Pixels", "Streamed", "side_by_side"]

# A GPU of 8 GB has room left for a network; CIFAR takes 0.2 GB of it.
RESIDENT_BYTES = 4 << 30
CHUNK = 1024  # images resized at a time: bounds the float copy


class Images(Protocol):
    """Labelled images as training and evaluation see them: :class:`Pixels`, or images read from disk meanwhile."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: Tensor
    device: torch.device

    def __len__(self) -> int:
        """Returns how many there are."""

    @property
    def image_size(self) -> int:
        """Side in pixels."""

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the images (B, C, H, W) uint8 and labels (B,) numbered ``rows``."""

    def batches(self, parts: Sequence[Tensor], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the images (B, C, H, W) uint8 and labels (B,) of each part; ``seed`` is that of random crops, if any."""

    def subset(self, rows: Tensor) -> Images:
        """Returns the images numbered ``rows``."""

    def resized(self, image_size: int) -> Images:
        """Returns the images at ``image_size`` x ``image_size``."""

    def fraction(self, share: float, seed: int) -> Images:
        """Returns a random share of the images."""


class Pixels:
    """Labelled uint8 images.

    A NumPy memory map stays one: only the pages of a batch are read, processes on one machine share them, and pickling
    sends the file name. Everything else lives as one tensor on ``device`` if it fits in ``resident_bytes``, else in
    main memory.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) integers from 0.
        mean: one a channel, of values in 0..1.
        std: one a channel, likewise.
        device: where batches are wanted.
        resident_bytes: the largest set that is put on ``device`` as a whole.

    Raises:
        DataError: for another shape or type, negative labels, or numbers that do not fit together.
    """

    def __init__(
        self,
        images: Tensor | NDArray[np.uint8],
        labels: Tensor | NDArray[np.int64] | Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        device: str | torch.device = "cpu",
        *,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        self.device = torch.device(device)
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        self.labels = torch.as_tensor(np.asarray(labels) if not isinstance(labels, Tensor) else labels).long()
        _check(images, self.labels, self.mean, self.std)
        self._resident_bytes = resident_bytes
        # One byte a value, so the product of the sides is the memory.
        resident = math.prod(images.shape) <= resident_bytes
        self._images = _tensor(images).to(self.device if resident else "cpu")
        self._source = images if _file(images) else self._images  # a copy in main memory is let go of
        self.labels = self.labels.to(self.device)
        # A subset holds numbers, not pixels: a search makes many and the images exist once.
        self._rows: Tensor | None = None  # the images of a subset, by their number in _images
        self._resized: dict[int, Pixels] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self._images.shape[1])

    @property
    def image_size(self) -> int:
        """Height in pixels; images are square wherever a network sees them."""
        return int(self._images.shape[2])

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the images (B, C, H, W) uint8 and labels (B,) int64 numbered ``rows`` (on the CPU), on the device."""
        # Gathered where the images are, then moved: a batch crosses to the device, not the set.
        chosen = rows if self._rows is None else self._rows[rows]
        images = self._images.index_select(0, chosen.to(self._images.device))
        return images.to(self.device, non_blocking=True), self.labels.index_select(0, rows.to(self.device))

    def batches(self, parts: Sequence[Tensor], seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields :meth:`batch` of each of ``parts``; nothing is random here."""
        for rows in parts:
            beat()
            yield self.batch(rows)

    def subset(self, rows: Tensor | NDArray[Any] | Sequence[int]) -> Pixels:
        """Returns the images numbered ``rows`` as a set of its own that shares these pixels.

        Raises:
            DataError: for no rows or a number that is not in 0..N-1.
        """
        chosen = torch.as_tensor(np.asarray(rows) if not isinstance(rows, Tensor) else rows.cpu()).long()
        if not len(chosen) or int(chosen.min()) < 0 or int(chosen.max()) >= len(self):
            raise DataError(f"a subset needs image numbers in 0..{len(self) - 1}, got {len(chosen)} numbers outside or none")
        # Without the constructor: its checks were made, and pixels are shared instead of copied.
        part = object.__new__(Pixels)
        part.__dict__.update(self.__dict__, _resized={}, labels=self.labels[chosen.to(self.device)])
        part._rows = chosen if self._rows is None else self._rows[chosen]
        return part

    def fraction(self, share: float, seed: int) -> Pixels:
        """Returns a random ``share`` of the images, the same share of every class, at least one of each.

        Raises:
            SettingError: unless 0 < share <= 1.
        """
        return self if share == 1 else self.subset(self.drawn(share, seed))

    def drawn(self, share: float, seed: int) -> Tensor:
        """Returns which images are a random ``share`` of them, (B,) rising numbers; see :meth:`fraction`.

        Raises:
            SettingError: unless 0 < share <= 1.
        """
        if not 0 < share <= 1:
            raise SettingError(f"share must be in (0, 1], got {share}")
        labels = self.labels.cpu()
        counts = torch.bincount(labels)
        # Shuffled, then sorted by class in a stable way: each class keeps its random order, whose first images are taken.
        shuffled = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
        place = torch.arange(len(self)) - (counts.cumsum(0) - counts)[labels[by_class]]  # rank within its class
        # A class of a few images would else vanish, and a network without it has another task.
        quota = (counts * share).round().clamp(min=1)
        return by_class[place < quota[labels[by_class]]].sort().values

    def resized(self, image_size: int) -> Pixels:
        """Returns the images at ``image_size`` x ``image_size`` (antialiased bilinear, rounded), made once and kept."""
        if tuple(self._images.shape[2:]) == (image_size, image_size):
            return self
        if image_size not in self._resized:
            self._resized[image_size] = self.once_at(image_size)
        return self._resized[image_size]

    def once_at(self, image_size: int) -> Pixels:
        """Returns what :meth:`resized` does and does not keep it."""
        # Made once for all networks of a size, in bytes again: rounding costs less than a float copy of the set.
        out = torch.empty(len(self), self.in_channels, image_size, image_size, dtype=torch.uint8)
        for rows in torch.arange(len(self)).split(CHUNK):
            part = self.batch(rows)[0].float()
            part = F.interpolate(part, (image_size, image_size), mode="bilinear", antialias=True)
            out[rows] = part.round_().clamp_(0, 255).byte().cpu()
        return Pixels(out, self.labels, self.mean, self.std, self.device, resident_bytes=self._resident_bytes)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what another process needs: the file name and place of a memory map, else the pixels."""
        file = _file(self._source)
        # A worker maps the same file, so that all of them share one copy in the system's cache.
        images = None if file else self._images.cpu().numpy()
        return {**self.__dict__, "_source": file or images, "_images": None, "labels": self.labels.cpu(), "_resized": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        source, rows, labels = state["_source"], state["_rows"], state["labels"]
        images = source if isinstance(source, np.ndarray) else _opened(source)
        # Labels of the whole set are not known to a subset; they are checked for their number only and replaced below.
        whole = np.zeros(len(images), np.int64)
        self.__init__(images, whole, state["mean"], state["std"], state["device"], resident_bytes=state["_resident_bytes"])  # type: ignore[misc]
        self._rows, self.labels = rows, labels.to(self.device)


def _check(images: Any, labels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    if images.ndim != 4 or images.dtype not in (torch.uint8, np.uint8):
        raise DataError(f"images must be (N, C, H, W) uint8, got {tuple(images.shape)} {images.dtype}")
    if labels.ndim != 1 or len(labels) != len(images) or not len(labels) or int(labels.min()) < 0:
        raise DataError(f"expected {len(images)} labels from 0 (at least one), got {tuple(labels.shape)}")
    if len(mean) != images.shape[1] or len(std) != images.shape[1] or not min(std) > 0:
        raise DataError(
            f"expected {images.shape[1]} means and standard deviations above 0, got mean {mean} and std {std}"
        )


def _tensor(images: Tensor | NDArray[np.uint8]) -> Tensor:
    """Returns a tensor over the same memory; it is only ever read."""
    if isinstance(images, Tensor):
        return images
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "not writable": we never write
        return torch.from_numpy(np.ascontiguousarray(images))


def _file(images: Any) -> tuple[str, int, tuple[int, ...]] | None:
    """Returns file name, offset in bytes and shape of a whole memory map or a contiguous part of one, else None."""
    region = getattr(images, "_mmap", None)
    if not isinstance(images, np.memmap) or region is None or not images.flags.c_contiguous:
        return None
    # numpy maps from a page border; the difference of addresses then says where in the file a slice begins.
    start = images.offset - images.offset % mmap.ALLOCATIONGRANULARITY  # where the mapped region begins in the file
    inside = images.ctypes.data - np.frombuffer(region, np.uint8).ctypes.data
    return str(images.filename), start + inside, tuple(images.shape)


def _opened(file: tuple[str, int, tuple[int, ...]]) -> NDArray[np.uint8]:
    name, offset, shape = file
    return np.memmap(name, np.uint8, "r", offset, shape)


# -- Endless batches of a set of images, where the place is one number: everything random follows from seed and place ---


def side_by_side(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns both arrays as one, without a copy where the second follows the first in memory (splits of one map do)."""
    follows = second.ctypes.data == first.ctypes.data + first.nbytes
    if follows and first.flags.c_contiguous and second.flags.c_contiguous and first.shape[1:] == second.shape[1:]:
        shape = (len(first) + len(second), *first.shape[1:])
        return np.lib.stride_tricks.as_strided(first, shape, first.strides, subok=True, writeable=False)
    return np.concatenate([first, second])


class Cursor:
    """Batches without end; each pass has an order of its own, and equal batches of at most ``recipe.batch_size`` images.

    Attributes:
        position: number of the next batch, from 0; may be set.
        per_pass: batches a pass.
        rows: numbers of the images of the latest batch.

    Args:
        pixels: the images, at the size that networks see.
        recipe: batch size and augmentation.
        seed: of orders and augmentation.
        augment: whether images are augmented.
    """

    def __init__(self, pixels: Pixels, recipe: Recipe, *, seed: int, augment: bool) -> None:
        self.pixels, self.recipe, self.seed, self.augment = pixels, recipe, seed, augment
        self.per_pass = plan(recipe, len(pixels)).per_epoch
        self.position = 0
        self._turn, self._parts = -1, tuple[Tensor, ...]()
        self.rows = torch.zeros(0, dtype=torch.int64)

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Returns (B, C, H, W) float32 normalised images and (B,) labels, on the device of the images."""
        # Everything follows from the position, so that a saved state is one number.
        turn, place = divmod(self.position, self.per_pass)
        if turn != self._turn:
            order = torch.randperm(len(self.pixels), generator=self._generator("cpu", "order", turn))
            self._turn, self._parts = turn, order.tensor_split(self.per_pass)
        self.rows = self._parts[place]
        raw, labels = self.pixels.batch(self.rows)
        noise = self._generator(self.pixels.device, "noise", self.position)
        self.position += 1
        if self.augment:
            return augmented(raw, self.recipe, self.pixels.mean, self.pixels.std, noise), labels
        return self.plain(raw), labels

    def plain(self, raw: Tensor) -> Tensor:
        """Returns uint8 images (B, C, H, W) normalised and nothing else."""
        return normalise(raw, self.pixels.mean, self.pixels.std, channels_last=self.recipe.channels_last)

    def _generator(self, device: str | torch.device, purpose: str, number: int) -> torch.Generator:
        return torch.Generator(device).manual_seed(mix_seed(self.seed, purpose, number))


# -- Images that are read from disk while training, as training and evaluation see them -------------------------------


class ImageStream(Protocol):
    """What :class:`archduel.data.streaming.Stream` does."""

    preprocessing: Any

    def batches(self, parts: Sequence[NDArray[np.int64]], seed: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Yields (B, C, S, S) uint8 for the rows of each part."""


class Streamed:
    """Labelled images of a stream; see :class:`archduel.training.images.Images`.

    Args:
        stream: gives the images.
        labels: (N,) integers from 0, one an image of the stream.
        device: where batches are wanted.
    """

    def __init__(self, stream: ImageStream, labels: NDArray[Any], device: str | torch.device = "cpu") -> None:
        self.stream = stream
        self.device = torch.device(device)
        self.mean = tuple(float(value) for value in stream.preprocessing.mean)
        self.std = tuple(float(value) for value in stream.preprocessing.std)
        self.labels = torch.from_numpy(np.array(labels, np.int64)).to(self.device)
        self._rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Side in pixels."""
        return int(self.stream.preprocessing.size)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the images (B, C, S, S) uint8 and labels (B,) numbered ``rows``."""
        ((images, labels),) = self.batches([rows])
        # A stream's memory is written again by the next batch.
        return images.clone(), labels

    def batches(self, parts: Sequence[Tensor], seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images (B, C, S, S) uint8, valid until the next ones, and labels (B,) of each part."""
        rows = [(part if self._rows is None else self._rows[part]).numpy() for part in parts]
        for part, pixels in zip(parts, self.stream.batches(rows, seed)):
            beat()
            yield torch.from_numpy(pixels).to(self.device), self.labels[part.to(self.device)]

    def subset(self, rows: Tensor | NDArray[Any]) -> Streamed:
        """Returns the images numbered ``rows``; they share the workers."""
        chosen = torch.as_tensor(rows).long().cpu()
        part = object.__new__(Streamed)
        part.__dict__.update(self.__dict__, labels=self.labels[chosen.to(self.device)])
        part._rows = chosen if self._rows is None else self._rows[chosen]
        return part

    def resized(self, image_size: int) -> Streamed:
        """Returns itself.

        Raises:
            SettingError: for another size than that at which images are read.
        """
        if image_size != self.image_size:
            raise SettingError(f"images are read at {self.image_size} px, training wants {image_size}")
        return self

    def fraction(self, share: float, seed: int) -> Streamed:
        """Returns a random ``share`` of the images, the same share of every class, at least one of each."""
        if share == 1:
            return self
        # Which images follows from labels alone: the rule of Pixels on pixels that nobody looks at.
        numbers = Pixels(torch.empty(len(self), 1, 1, 1, dtype=torch.uint8), self.labels.cpu(), (0.5,), (0.5,))
        return self.subset(numbers.drawn(share, seed))
