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

from archduel.errors import DataError, SettingError

__all__ = ["Images", "Pixels"]

RESIDENT_BYTES = 4 << 30
CHUNK = 1024  # images resized at a time: bounds the float copy


class Images(Protocol):
    """Labelled images as training and evaluation see them: :class:`Pixels`, or pictures read from disk meanwhile."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: Tensor
    device: torch.device

    def __len__(self) -> int:
        """Returns how many there are."""

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
        resident = math.prod(images.shape) <= resident_bytes
        self._images = _tensor(images).to(self.device if resident else "cpu")
        self._source = images if _file(images) else self._images  # a copy in main memory is let go of
        self.labels = self.labels.to(self.device)
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
        chosen = rows if self._rows is None else self._rows[rows]
        images = self._images.index_select(0, chosen.to(self._images.device))
        return images.to(self.device, non_blocking=True), self.labels.index_select(0, rows.to(self.device))

    def batches(self, parts: Sequence[Tensor], seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields :meth:`batch` of each of ``parts``; nothing is random here."""
        for rows in parts:
            yield self.batch(rows)

    def subset(self, rows: Tensor | NDArray[Any] | Sequence[int]) -> Pixels:
        """Returns the images numbered ``rows`` as a set of its own that shares these pixels.

        Raises:
            DataError: for no rows or a number that is not in 0..N-1.
        """
        chosen = torch.as_tensor(np.asarray(rows) if not isinstance(rows, Tensor) else rows.cpu()).long()
        if not len(chosen) or int(chosen.min()) < 0 or int(chosen.max()) >= len(self):
            raise DataError(f"a subset needs image numbers in 0..{len(self) - 1}, got {len(chosen)} numbers outside or none")
        part = object.__new__(Pixels)
        part.__dict__.update(self.__dict__, _resized={}, labels=self.labels[chosen.to(self.device)])
        part._rows = chosen if self._rows is None else self._rows[chosen]
        return part

    def fraction(self, share: float, seed: int) -> Pixels:
        """Returns a random ``share`` of the images, the same share of every class, at least one of each.

        Raises:
            SettingError: unless 0 < share <= 1.
        """
        if not 0 < share <= 1:
            raise SettingError(f"share must be in (0, 1], got {share}")
        if share == 1:
            return self
        labels = self.labels.cpu()
        counts = torch.bincount(labels)
        shuffled = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
        place = torch.arange(len(self)) - (counts.cumsum(0) - counts)[labels[by_class]]  # rank within its class
        quota = (counts * share).round().clamp(min=1)
        return self.subset(by_class[place < quota[labels[by_class]]].sort().values)

    def resized(self, image_size: int) -> Pixels:
        """Returns the images at ``image_size`` x ``image_size`` (antialiased bilinear, rounded), made once and kept."""
        if tuple(self._images.shape[2:]) == (image_size, image_size):
            return self
        if image_size not in self._resized:
            out = torch.empty(len(self), self.in_channels, image_size, image_size, dtype=torch.uint8)
            for rows in torch.arange(len(self)).split(CHUNK):
                part = self.batch(rows)[0].float()
                part = F.interpolate(part, (image_size, image_size), mode="bilinear", antialias=True)
                out[rows] = part.round_().clamp_(0, 255).byte().cpu()
            self._resized[image_size] = Pixels(
                out, self.labels, self.mean, self.std, self.device, resident_bytes=self._resident_bytes
            )
        return self._resized[image_size]

    def __getstate__(self) -> dict[str, Any]:
        """Returns what another process needs: the file name and place of a memory map, else the pixels."""
        file = _file(self._source)
        images = None if file else self._images.cpu().numpy()
        return {**self.__dict__, "_source": file or images, "_images": None, "labels": self.labels.cpu(), "_resized": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        source, rows, labels = state["_source"], state["_rows"], state["labels"]
        images = source if isinstance(source, np.ndarray) else _opened(source)
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
    start = images.offset - images.offset % mmap.ALLOCATIONGRANULARITY  # where the mapped region begins in the file
    inside = images.ctypes.data - np.frombuffer(region, np.uint8).ctypes.data
    return str(images.filename), start + inside, tuple(images.shape)


def _opened(file: tuple[str, int, tuple[int, ...]]) -> NDArray[np.uint8]:
    name, offset, shape = file
    return np.memmap(name, np.uint8, "r", offset, shape)
