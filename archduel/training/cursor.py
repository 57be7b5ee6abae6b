"""Endless batches of a set of images, where the place is one number: everything random follows from seed and place."""

from __future__ import annotations

import torch
from torch import Tensor

from archduel.training.augment import augmented, normalise
from archduel.training.pixels import Pixels
from archduel.training.recipe import Recipe
from archduel.training.schedule import plan
from archduel.training.seeding import mix_seed

__all__ = ["Cursor"]


class Cursor:
    """Batches without end; each pass has an order of its own, and equal batches of at most ``recipe.batch_size`` images.

    Attributes:
        position: number of the next batch, from 0; may be set.
        per_pass: batches a pass.

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

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        """Returns (B, C, H, W) float32 normalised images and (B,) labels, on the device of the images."""
        turn, place = divmod(self.position, self.per_pass)
        if turn != self._turn:
            order = torch.randperm(len(self.pixels), generator=self._generator("cpu", "order", turn))
            self._turn, self._parts = turn, order.tensor_split(self.per_pass)
        raw, labels = self.pixels.batch(self._parts[place])
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
