"""Pictures that are read from disk while training, as training and evaluation see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archduel.errors import SettingError
from archduel.training.pixels import Pixels

__all__ = ["PictureStream", "Streamed"]


class PictureStream(Protocol):
    """What :class:`archduel.data.stream.Stream` does."""

    look: Any

    def batches(self, parts: Sequence[NDArray[np.int64]], seed: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Yields (B, C, S, S) uint8 for the rows of each part."""


class Streamed:
    """Labelled pictures of a stream; see :class:`archduel.training.pixels.Images`.

    Args:
        stream: gives the pictures.
        labels: (N,) integers from 0, one a picture of the stream.
        device: where batches are wanted.
    """

    def __init__(self, stream: PictureStream, labels: NDArray[Any], device: str | torch.device = "cpu") -> None:
        self.stream = stream
        self.device = torch.device(device)
        self.mean = tuple(float(value) for value in stream.look.mean)
        self.std = tuple(float(value) for value in stream.look.std)
        self.labels = torch.from_numpy(np.array(labels, np.int64)).to(self.device)
        self._rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Side in pixels."""
        return int(self.stream.look.size)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the images (B, C, S, S) uint8 and labels (B,) numbered ``rows``."""
        ((images, labels),) = self.batches([rows])
        return images.clone(), labels

    def batches(self, parts: Sequence[Tensor], seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images (B, C, S, S) uint8, valid until the next ones, and labels (B,) of each part."""
        rows = [(part if self._rows is None else self._rows[part]).numpy() for part in parts]
        for part, pixels in zip(parts, self.stream.batches(rows, seed)):
            yield torch.from_numpy(pixels).to(self.device), self.labels[part.to(self.device)]

    def subset(self, rows: Tensor | NDArray[Any]) -> Streamed:
        """Returns the pictures numbered ``rows``; they share the workers."""
        chosen = torch.as_tensor(rows).long().cpu()
        part = object.__new__(Streamed)
        part.__dict__.update(self.__dict__, labels=self.labels[chosen.to(self.device)])
        part._rows = chosen if self._rows is None else self._rows[chosen]
        return part

    def resized(self, image_size: int) -> Streamed:
        """Returns itself.

        Raises:
            SettingError: for another size than that at which pictures are read.
        """
        if image_size != self.image_size:
            raise SettingError(f"pictures are read at {self.image_size} px, training wants {image_size}")
        return self

    def fraction(self, share: float, seed: int) -> Streamed:
        """Returns a random ``share`` of the pictures, the same share of every class, at least one of each."""
        if share == 1:
            return self
        numbers = Pixels(torch.empty(len(self), 1, 1, 1, dtype=torch.uint8), self.labels.cpu(), (0.5,), (0.5,))
        kept = numbers.fraction(share, seed)
        assert kept._rows is not None
        return self.subset(kept._rows)
