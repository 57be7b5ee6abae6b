"""Images ready for training: uint8 arrays in three splits, and how a new picture becomes such an array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dataset", "Preprocessing", "Split"]


@dataclass(frozen=True)
class Preprocessing:
    """How any picture becomes the network's input.

    Attributes:
        size: side of the square in pixels.
        mode: ``RGB`` or ``L`` (grey).
        rule: ``crop`` (short side to ``size``, centre crop), ``inner`` (short side to 8/7 of ``size``, centre crop),
            ``letterbox`` (long side to ``size``, padded with black) or ``none`` (images already have that size).
        mean: per channel, of values in 0..1, over the training split.
        std: per channel, likewise.
    """

    size: int
    mode: str
    rule: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


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
        preprocessing: how a new picture becomes an input.
        fingerprint: SHA-256 over pixels, labels and splits.
        flip: whether a mirrored image keeps its label (false for digits and letters).
        skipped: file -> reason, pictures that could not be read.
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
