"""The images of a race, at the sizes at which its networks see them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from archduel.core import Scale
from archduel.errors import SettingError
from archduel.training.images import Pixels

__all__ = ["Sets", "check_images"]


@dataclass(frozen=True)
class Sets:
    """The images of a race.

    Attributes:
        train: what networks are trained on while they compete.
        validation: what they are compared on.
        both: what the chosen one is trained on.
    """

    train: Pixels
    validation: Pixels
    both: Pixels

    def at(self, scale: Scale) -> Sets:
        """Returns the images at the size of a scale; where that is another than theirs they are resized once."""
        size = scale.image_size
        if size == self.both.image_size:
            return self
        both, n = self.both.resized(size), len(self.train)
        return Sets(both.subset(torch.arange(n)), both.subset(torch.arange(n, len(both))), both)


def check_images(sets: Sets) -> None:
    """Raises SettingError where there is nothing to compare networks on."""
    if len(sets.validation) < 2 or len(sets.train) < 2:
        raise SettingError(f"a race needs at least 2 training and 2 validation images, got {len(sets.train)} and {len(sets.validation)}")

