"""Random changes of whole batches: crop, flip, one of ten others, cutout, mixup; every function takes its generator.

Crop and flip work on uint8, so padding is black as in the papers; cutout and mixup work on normalised floats, where zero
is the mean colour. The generator lives on the device of the images.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from archduel.errors import SettingError, unknown
from archduel.training.recipe import Recipe

__all__ = ["CORRUPTIONS", "ONE_OF", "SEVERITIES", "Changes", "augmented", "corrupted", "cutout", "jittered", "mixed", "mixup_share", "normalise", "random_crop", "random_flip", "recoloured", "shifted_hue", "to_grey", "warped"]

# -- Random changes of colour, a whole batch at a time where the batch lives --------------------------------------------
#
# As torchvision's ``ColorJitter``: brightness, contrast, saturation and hue, each image with factors of its own.
# Deviation: the order of the four changes is drawn once a batch, not once an image.


CHANGES = ("brightness", "contrast", "saturation", "hue")


def to_grey(images: Tensor) -> Tensor:
    """Returns the luma (N, 1, H, W) of float RGB images (N, 3, H, W), weights of ITU-R 601."""
    red, green, blue = images.unbind(1)
    # The weights with which PIL makes grey images.
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]  # (N, 1, H, W)


def shifted_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Returns float RGB images (N, 3, H, W) in 0..1 with their hue turned by ``turn`` (N,), 1 = full circle."""
    value, _ = images.max(1)
    chroma = value - images.min(1).values  # (N, H, W)
    red, green, blue = images.unbind(1)
    # Grey pixels have no hue; any divisor above 0 will do, since their chroma multiplies it away.
    safe = chroma.clamp(min=1e-8)
    hue = torch.where(value == red, (green - blue) / safe, torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4))
    hue = hue / 6 + turn.view(-1, 1, 1)  # (N, H, W), in turns
    # Closed form of HSV to RGB: the three channels are one trapezoid of the hue, a third of the circle apart, without six cases.
    places = torch.stack([hue * 6 + offset for offset in (5.0, 3.0, 1.0)], 1) % 6  # (N, 3, H, W)
    share = torch.minimum(places, 4 - places).clamp(0, 1)
    return value[:, None] - chroma[:, None] * share


def jittered(images: Tensor, factors: Tensor, order: list[int]) -> Tensor:
    """Returns float images (N, C, H, W) in 0..1 with changed colours.

    Args:
        images: RGB or, with one channel, grey (saturation and hue then change nothing).
        factors: (4, N) brightness, contrast and saturation factors around 1, and turns of the hue around 0.
        order: in which the four changes happen, by number.
    """
    for change in order:
        factor = factors[change].view(-1, 1, 1, 1)
        if CHANGES[change] == "brightness":
            images = images * factor
        elif CHANGES[change] == "contrast":
            grey = to_grey(images) if images.shape[1] == 3 else images
            # Contrast is the distance from the mean grey of the image, as in PIL, not of each channel.
            mean = grey.mean((1, 2, 3), keepdim=True)
            images = torch.lerp(mean.expand_as(images), images, factor)
        elif images.shape[1] != 3:
            continue
        elif CHANGES[change] == "saturation":
            images = torch.lerp(to_grey(images).expand_as(images), images, factor)
        else:
            images = shifted_hue(images, factors[change])
        # After every change, as images of 8 bits would be; the next change sees no value that a file could not hold.
        images = images.clamp(0, 1)
    return images


# -- One random change for each image, of random strength --------------------------------------------------------------
#
# As TrivialAugment (Mueller and Hutter, ICCV 2021). Deviations: (1) ten of its fourteen changes: without autocontrast, equalise, sharpness and
# identity, which a weak change is nearly; (2) strengths are a recipe's share of those of its wide space; (3) it is one more change after crop and flip, a
# batch at a time; (4) what moves in from outside is the mean colour, as after a cutout.


ONE_OF = ("brightness", "contrast", "saturation", "solarise", "posterise", "turn", "shear across", "shear down", "shift across", "shift down")
COLOURED = 5  # so many of them change colours, the others move pixels
STRONGEST = (0.9, 0.9, 0.9, 1.0, 6.0, math.pi / 3, 0.6, 0.6, 0.4, 0.4)
"""Strength 1: factors 0.1 to 1.9, everything inverted, 2 of 8 bits left, 60 degrees, shears of 0.6, shifts of 0.4 of the side. The original's are 0.99, 135 degrees, 0.99
and 32 of 32 pixels."""


def recoloured(images: Tensor, kinds: Tensor, amounts: Tensor) -> Tensor:
    """Returns images with the change of colour that is drawn for each, the others as they are.

    Args:
        images: (N, C, H, W) uint8; grey ones have no saturation to change.
        kinds: (N,) numbers of :data:`ONE_OF`.
        amounts: (N,) from -1 to 1, shares of :data:`STRONGEST`.
    """
    changed = images.clone()
    for kind in range(COLOURED):  # of each a few images, so nothing is done to all of them
        rows = torch.nonzero(kinds == kind).flatten()
        if len(rows):
            strength = (amounts[rows] * STRONGEST[kind]).view(-1, 1, 1, 1)
            changed[rows] = _recoloured(images[rows].float().div_(255), kind, strength).mul_(255).round_().byte()
    return changed


def _recoloured(images: Tensor, kind: int, strength: Tensor) -> Tensor:
    """Returns float images (N, C, H, W) in 0..1 with one change of colour, of strengths (N, 1, 1, 1)."""
    if ONE_OF[kind] == "solarise":
        return torch.where(images > 1 - strength.abs(), 1 - images, images)
    if ONE_OF[kind] == "posterise":
        steps = 2 ** torch.round(8 - strength.abs())
        return (images * 255 * steps / 256).floor() * 256 / steps / 255
    factors = torch.ones(4, len(images), device=images.device)
    factors[kind] += strength.flatten()
    return jittered(images, factors, [kind])


def warped(images: Tensor, kinds: Tensor, amounts: Tensor) -> Tensor:
    """Returns images moved as is drawn for each, the others as they are; zeros move in.

    Args:
        images: (N, C, H, W) normalised floats.
        kinds: (N,) numbers of :data:`ONE_OF`.
        amounts: (N,) from -1 to 1, shares of :data:`STRONGEST`.
    """
    rows = torch.nonzero(kinds >= COLOURED).flatten()
    if not len(rows):
        return images
    strongest = torch.tensor(STRONGEST, device=images.device)
    turn, across, down, right, below = (torch.where(kinds[rows] == change, amounts[rows], 0.0) * strongest[change] for change in range(COLOURED, len(ONE_OF)))
    cosine, sine = turn.cos(), turn.sin()
    # where each pixel comes from, in coordinates from -1 to 1: two of them are one side
    height, width = images.shape[2:]
    x, y = ((torch.arange(side, device=images.device) * 2 + 1) / side - 1 for side in (width, height))
    along = torch.stack([cosine, down + sine], 1)[:, None, None] * x[:, None]  # (R, 1, W, 2)
    beneath = torch.stack([across - sine, cosine], 1)[:, None, None] * y[:, None, None]  # (R, H, 1, 2)
    grid = along + (beneath + 2 * torch.stack([right, below], 1)[:, None, None])  # (R, H, W, 2)
    moved = F.grid_sample(images[rows], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return images.index_copy(0, rows, moved)


# -- Spoiled copies of images: noise, blur, contrast, JPEG. For asking how a network bears what a camera does ---------
#
# Four simple changes in the spirit of Hendrycks and Dietterich (ICLR 2019), with their strengths where those are plain
# numbers (noise, contrast, JPEG quality); they are not the files of CIFAR-10-C, and results on the two do not compare.


SEVERITIES = (1, 2, 3, 4, 5)
NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation, of values in 0..1
BLUR = (0.4, 0.6, 1.0, 1.3, 1.6)  # standard deviation in pixels up to 32 px, in proportion above
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # share of the distance from the image's mean that is kept
QUALITY = (80, 65, 58, 50, 40)  # of JPEG


def _noise(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """Returns the images with independent normal noise."""
    noise = torch.randn(images.shape, generator=generator)
    return images.float() + 255 * NOISE[level] * noise


def _blur(images: Tensor, level: int, _: torch.Generator) -> Tensor:
    """Returns the images through a Gaussian, rows then columns."""
    sigma = BLUR[level] * max(1.0, images.shape[-1] / 32)
    # Three deviations hold 99.7 % of the weight; reflection can pad by less than a side only.
    reach = min(math.ceil(3 * sigma), images.shape[-1] - 1)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).repeat(images.shape[1], 1, 1, 1)  # (C, 1, 1, 2 reach + 1)
    padded = F.pad(images.float(), (reach,) * 4, mode="reflect")
    # A Gaussian separates: two passes of a row cost less than one of a square.
    across = F.conv2d(padded, weights, groups=images.shape[1])
    return F.conv2d(across, weights.transpose(2, 3), groups=images.shape[1])


def _contrast(images: Tensor, level: int, _: torch.Generator) -> Tensor:
    """Returns the images nearer to their own mean colour."""
    floats = images.float()
    mean = floats.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
    return mean + CONTRAST[level] * (floats - mean)


def _jpeg(images: Tensor, level: int, _: torch.Generator) -> Tensor:
    """Returns the images written as JPEG and read again."""
    return torch.from_numpy(np.stack([_compressed(image, QUALITY[level]) for image in images.numpy()]))


def _compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    grey = len(pixels) == 1
    file = io.BytesIO()
    Image.fromarray(pixels[0] if grey else pixels.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
    again = np.asarray(Image.open(file))
    return again[None] if grey else again.transpose(2, 0, 1)  # (C, H, W)


CORRUPTIONS: Mapping[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "jpeg": _jpeg,
}


def corrupted(images: Tensor, kind: str, severity: int, generator: torch.Generator) -> Tensor:
    """Returns spoiled copies.

    Args:
        images: (N, C, H, W) uint8 on the CPU; not changed.
        kind: a name in ``CORRUPTIONS``.
        severity: 1 (mild) to 5.
        generator: of the noise; the others draw nothing.

    Returns:
        (N, C, H, W) uint8, rounded and clipped.

    Raises:
        UnknownNameError: for another kind.
        SettingError: for another severity.
    """
    if kind not in CORRUPTIONS:
        raise unknown("corruption", kind, CORRUPTIONS)
    if severity not in SEVERITIES:
        raise SettingError(f"severity must be 1 to 5, got {severity}")
    changed = CORRUPTIONS[kind](images, severity - 1, generator)
    return changed.float().round_().clamp_(0, 255).byte()


@dataclass(frozen=True)
class Changes:
    """What is done to each image of a batch, drawn before it is done: several processes draw alike and each takes its part.

    Attributes:
        shift: (2, N) rows and columns of the padded image at which the crop begins, or None.
        mirror: (N,) whether an image is mirrored, or None.
        hole: (2, N) centre of the cut-out square, or None.
        colour: (4, N) factors of :func:`archduel.training.augment.jittered`, or None.
        order: of the colour changes.
        kind: (N,) which one of :data:`ONE_OF` is done, or None.
        amount: (N,) how much of it, -1 to 1.
    """

    shift: Tensor | None = None
    mirror: Tensor | None = None
    hole: Tensor | None = None
    colour: Tensor | None = None
    order: tuple[int, ...] = ()
    kind: Tensor | None = None
    amount: Tensor | None = None

    @classmethod
    def draw(cls, recipe: Recipe, n: int, side: int, generator: torch.Generator) -> Changes:
        """Returns the changes of ``n`` images of ``side`` x ``side`` pixels that ``recipe`` asks for."""
        shift = _shift(n, recipe.crop_pad, generator) if recipe.crop_pad else None
        mirror = _mirror(n, generator) if recipe.flip else None
        hole = _hole(n, side, side, generator) if recipe.cutout else None
        kind = amount = None
        if recipe.one_change:
            kind = torch.randint(len(ONE_OF), (n,), generator=generator, device=generator.device)
            amount = (torch.rand(n, generator=generator, device=generator.device) * 2 - 1) * recipe.one_change
        if not (recipe.colour_jitter or recipe.hue_jitter):
            return cls(shift, mirror, hole, kind=kind, amount=amount)
        # Factors for all four changes even where one is off, so that what is drawn does not depend on which are on.
        around = torch.rand(4, n, generator=generator, device=generator.device) * 2 - 1
        largest = torch.tensor([recipe.colour_jitter] * 3 + [recipe.hue_jitter], device=generator.device)
        middle = torch.tensor([1.0, 1.0, 1.0, 0.0], device=generator.device)
        # One order for the batch: a gather by image would cost more than the changes.
        order = torch.randperm(4, generator=generator, device=generator.device).tolist()
        return cls(shift, mirror, hole, middle[:, None] + largest[:, None] * around, tuple(order), kind, amount)

    def part(self, rows: slice) -> Changes:
        """Returns the changes of the images numbered ``rows``."""

        def cut(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[..., rows]

        return Changes(cut(self.shift), cut(self.mirror), cut(self.hole), cut(self.colour), self.order, cut(self.kind), cut(self.amount))


def _shift(n: int, pad: int, generator: torch.Generator) -> Tensor:
    # Corners of the window in the padded image: pad up to pad in either direction, the middle included.
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
    # All windows as a view, of which one each is copied: no loop over images and no grid to interpolate.
    windows = F.pad(images, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 2p+1, 2p+1, H, W), a view
    down, right = shift
    return windows[torch.arange(len(images), device=images.device), :, down, right]  # (N, C, H, W)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns (N, C, H, W) with half of the images mirrored left to right."""
    return _flipped(images, _mirror(len(images), generator))


def _flipped(images: Tensor, mirror: Tensor) -> Tensor:
    # Both versions are there anyway in a batch; choosing by mask needs no split and no wait for the device.
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
    # An even side has no middle pixel: it reaches one further to the left, as in the authors' code.
    first = centre[:, None] - side // 2
    place = torch.arange(length, device=centre.device)
    return (place >= first) & (place < first + side)


def mixup_share(alpha: float, rng: np.random.Generator) -> float:
    """Returns the share of the first image, from Beta(alpha, alpha). Source: Zhang et al., arXiv 1710.09412."""
    return float(rng.beta(alpha, alpha))


def mixed(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns ``share`` of each image plus the rest of a random other one (N, C, H, W), and whose that is (N,)."""
    # A permutation and not draws: every image is a partner exactly once, so that classes stay balanced.
    partner = torch.randperm(len(images), generator=generator, device=images.device)
    return torch.lerp(images[partner], images, share), partner


def normalise(
    images: Tensor, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = False
) -> Tensor:
    """Returns uint8 (N, C, H, W) as float32 with ``mean`` and ``std`` (of values in 0..1) taken out."""
    # (x / 255 - m) / s as one product and one sum in place: the float copy is passed over once less.
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std)], device=images.device).view(-1, 1, 1)
    return _laid(images.float().mul_(scale).add_(shift), channels_last=channels_last)


def _laid(images: Tensor, *, channels_last: bool) -> Tensor:
    """Returns images in the layout that a network wants: converted last, for changes of channels-last images take up to ten times as long."""
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


def augmented(
    images: Tensor, recipe: Recipe, mean: Sequence[float], std: Sequence[float], changes: torch.Generator | Changes
) -> Tensor:
    """Returns uint8 (N, C, H, W) cropped, flipped, changed, normalised and cut out as ``recipe`` says, float32.

    Args:
        images: square.
        recipe: which changes there are.
        mean: of values in 0..1, one a channel.
        std: likewise.
        changes: those of each image, or the generator that draws them.
    """
    if isinstance(changes, torch.Generator):
        changes = Changes.draw(recipe, len(images), images.shape[2], changes)
    # On bytes as long as possible: they are a quarter of the memory to move.
    if changes.shift is not None:
        images = _cropped(images, recipe.crop_pad, changes.shift)
    if changes.mirror is not None:
        images = _flipped(images, changes.mirror)
    if changes.colour is not None:
        images = jittered(images.float() / 255, changes.colour, list(changes.order)) * 255
    one = None if changes.kind is None or changes.amount is None else (changes.kind, changes.amount)
    floats = normalise(recoloured(images, *one) if one else images, mean, std)
    floats = warped(floats, *one) if one else floats
    # After normalising, so that the hole is the mean colour and not black.
    floats = floats if changes.hole is None else _cut(floats, recipe.cutout, changes.hole)
    return _laid(floats, channels_last=recipe.channels_last)
