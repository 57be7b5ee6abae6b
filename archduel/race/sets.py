"""The images of a race, at the sizes at which its networks see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archduel.core import Scale
from archduel.errors import SettingError
from archduel.training.images import Pixels, side_by_side

__all__ = ["ImageSet", "Sets", "sets_of"]

JUDGED_A_SECOND, LEAST_JUDGED = 10, 1_000
"""Validation images that a race scores with for each second that it has, at most, and how many it may have however short it is: 5,000 would take a
published network longer than what it is trained up to the first rung of a few minutes."""
JUDGES = 23  # the seed of which they are, the same for every race


class Part(Protocol):
    """One split of a set of images."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, C, H, W)."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,)."""


class Look(Protocol):
    """How images become a network's input."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Of values in 0..1, one a channel."""

    @property
    def std(self) -> tuple[float, ...]:
        """Likewise."""


class ImageSet(Protocol):
    """What a race needs of :class:`archduel.data.Dataset`; the test split is not even looked at."""

    @property
    def train(self) -> Part:
        """What networks learn from."""

    @property
    def validation(self) -> Part:
        """What decides."""

    @property
    def preprocessing(self) -> Look:
        """Mean and standard deviation."""

    @property
    def flip(self) -> bool:
        """Whether a mirrored image keeps its label."""

    @property
    def n_classes(self) -> int:
        """Outputs."""

    @property
    def in_channels(self) -> int:
        """1 or 3."""

    @property
    def image_size(self) -> int:
        """In pixels."""


@dataclass(frozen=True)
class Sets:
    """The images of a race.

    Attributes:
        train: what networks are trained on while they compete.
        validation: what they are compared on.
        both: what the chosen one is trained on.
        judged: (V,) which of both those of ``validation`` are.
    """

    train: Pixels
    validation: Pixels
    both: Pixels
    judged: Tensor

    def at(self, scale: Scale) -> Sets:
        """Returns the images at the size of a scale; where that is another than theirs they are resized once."""
        size = scale.image_size
        if size == self.both.image_size:
            return self
        both, n = self.both.resized(size), len(self.train)
        return Sets(both.subset(torch.arange(n)), both.subset(self.judged), both, self.judged)


def sets_of(data: ImageSet, device: str, seconds: float | None) -> Sets:
    """Returns the images; those of training and validation together share the memory of both where they lie side by side.

    Args:
        data: training and validation images.
        device: where batches are wanted.
        seconds: of the race, which limit how many validation images score; None = it must repeat exactly, and all do.

    Raises:
        SettingError: where there is nothing to compare networks on.
    """
    train, validation, look = data.train, data.validation, data.preprocessing
    n = len(train.labels)
    images, labels = side_by_side(train.images, validation.images), np.concatenate([train.labels, validation.labels])
    both = Pixels(images, labels, look.mean, look.std, device)
    judged = torch.arange(n, len(labels))
    most = len(judged) if seconds is None else max(LEAST_JUDGED, round(JUDGED_A_SECOND * seconds))
    if most < len(judged):
        judged = judged[both.subset(judged).drawn(most / len(judged), JUDGES)]
    if len(judged) < 2 or n < 2:
        raise SettingError(f"a race needs at least 2 training and 2 validation images, got {n} and {len(judged)}")
    return Sets(both.subset(torch.arange(n)), both.subset(judged), both, judged)
