"""Random changes of whole batches: crop, flip, cutout, mixup; every function takes its generator.

Crop and flip work on uint8, so padding is black as in the papers; cutout and mixup work on normalised floats, where zero
is the mean colour. The generator lives on the device of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from archduel.training.colour import jittered
from archduel.training.recipe import Recipe

__all__ = ["Changes", "augmented", "cutout", "mixed", "mixup_share", "normalise", "random_crop", "random_flip"]


@dataclass(frozen=True)
class Changes:
    """What is done to each image of a batch, drawn before it is done: several processes draw alike and each takes its part.

    Attributes:
        shift: (2, N) rows and columns of the padded image at which the crop begins, or None.
        mirror: (N,) whether an image is mirrored, or None.
        hole: (2, N) centre of the cut-out square, or None.
        colour: (4, N) factors of :func:`archduel.training.colour.jittered`, or None.
        order: of the colour changes.
    """

    shift: Tensor | None = None
    mirror: Tensor | None = None
    hole: Tensor | None = None
    colour: Tensor | None = None
    order: tuple[int, ...] = ()

    @classmethod
    def draw(cls, recipe: Recipe, n: int, side: int, generator: torch.Generator) -> Changes:
        """Returns the changes of ``n`` images of ``side`` x ``side`` pixels that ``recipe`` asks for."""
        shift = _shift(n, recipe.crop_pad, generator) if recipe.crop_pad else None
        mirror = _mirror(n, generator) if recipe.flip else None
        hole = _hole(n, side, side, generator) if recipe.cutout else None
        if not (recipe.colour_jitter or recipe.hue_jitter):
            return cls(shift, mirror, hole)
        around = torch.rand(4, n, generator=generator, device=generator.device) * 2 - 1
        largest = torch.tensor([recipe.colour_jitter] * 3 + [recipe.hue_jitter], device=generator.device)
        middle = torch.tensor([1.0, 1.0, 1.0, 0.0], device=generator.device)
        order = torch.randperm(4, generator=generator, device=generator.device).tolist()
        return cls(shift, mirror, hole, middle[:, None] + largest[:, None] * around, tuple(order))

    def part(self, rows: slice) -> Changes:
        """Returns the changes of the images numbered ``rows``."""

        def cut(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[..., rows]

        return Changes(cut(self.shift), cut(self.mirror), cut(self.hole), cut(self.colour), self.order)


def _shift(n: int, pad: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2 * pad + 1, (2, n), generator=generator, device=generator.device)


def _mirror(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device) < 0.5


def _hole(n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Returns (2, N) row and column of the centres."""
    centres = [torch.randint(length, (n,), generator=generator, device=generator.device) for length in (height, width)]
    return torch.stack(centres)


def random_crop(images: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Returns each image of (N, C, H, W) shifted by up to ``pad`` pixels either way, zeros moving in."""
    return images if pad == 0 else _cropped(images, pad, _shift(len(images), pad, generator))


def _cropped(images: Tensor, pad: int, shift: Tensor) -> Tensor:
    _, _, height, width = images.shape
    windows = F.pad(images, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 2p+1, 2p+1, H, W), a view
    down, right = shift
    return windows[torch.arange(len(images), device=images.device), :, down, right]  # (N, C, H, W)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns (N, C, H, W) with half of the images mirrored left to right."""
    return _flipped(images, _mirror(len(images), generator))


def _flipped(images: Tensor, mirror: Tensor) -> Tensor:
    return torch.where(mirror[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Returns float (N, C, H, W) with a ``side`` x ``side`` square of zeros each, centred on a uniform pixel.

    The square is clipped at the border. Source: DeVries and Taylor, arXiv 1708.04552.
    """
    n, _, height, width = images.shape
    return images if side == 0 else _cut(images, side, _hole(n, height, width, generator))


def _cut(images: Tensor, side: int, hole: Tensor) -> Tensor:
    _, _, height, width = images.shape
    rows, columns = _inside(height, side, hole[0]), _inside(width, side, hole[1])  # (N, H), (N, W)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)  # mask (N, 1, H, W)


def _inside(length: int, side: int, centre: Tensor) -> Tensor:
    """Returns (N, length) whether a coordinate lies in the N intervals of ``side`` pixels around ``centre`` (N,)."""
    first = centre[:, None] - side // 2
    place = torch.arange(length, device=centre.device)
    return (place >= first) & (place < first + side)


def mixup_share(alpha: float, rng: np.random.Generator) -> float:
    """Returns the share of the first image, from Beta(alpha, alpha). Source: Zhang et al., arXiv 1710.09412."""
    return float(rng.beta(alpha, alpha))


def mixed(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns ``share`` of each image plus the rest of a random other one (N, C, H, W), and whose that is (N,)."""
    partner = torch.randperm(len(images), generator=generator, device=images.device)
    return torch.lerp(images[partner], images, share), partner


def normalise(
    images: Tensor, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = False
) -> Tensor:
    """Returns uint8 (N, C, H, W) as float32 with ``mean`` and ``std`` (of values in 0..1) taken out."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std)], device=images.device).view(-1, 1, 1)
    return images.to(torch.float32, memory_format=layout).mul_(scale).add_(shift)


def augmented(
    images: Tensor, recipe: Recipe, mean: Sequence[float], std: Sequence[float], changes: torch.Generator | Changes
) -> Tensor:
    """Returns uint8 (N, C, H, W) cropped, flipped, normalised and cut out as ``recipe`` says, float32.

    Args:
        images: square.
        recipe: which changes there are.
        mean: of values in 0..1, one a channel.
        std: likewise.
        changes: those of each image, or the generator that draws them.
    """
    if isinstance(changes, torch.Generator):
        changes = Changes.draw(recipe, len(images), images.shape[2], changes)
    if changes.shift is not None:
        images = _cropped(images, recipe.crop_pad, changes.shift)
    if changes.mirror is not None:
        images = _flipped(images, changes.mirror)
    if changes.colour is not None:
        images = jittered(images.float() / 255, changes.colour, list(changes.order)) * 255
    floats = normalise(images, mean, std, channels_last=recipe.channels_last)
    return floats if changes.hole is None else _cut(floats, recipe.cutout, changes.hole)
