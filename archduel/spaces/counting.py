"""Map sizes: how an image of any size becomes the maps that cells see. One place, so that networks and counts agree."""

from __future__ import annotations

from archduel.core import Counts, Scale
from archduel.errors import SettingError

__all__ = ["conv_bn", "darts_stem", "divisible", "halved", "stem", "stem_strides", "tail", "times", "total"]

LARGEST = 64
"""Images up to this many pixels enter the cells at full size, as CIFAR images do."""
LARGEST_MAP = 48
"""Larger images are halved in the stem until their map is at most this large."""


def halved(size: int, times: int = 1) -> int:
    """Returns ``size`` after ``times`` layers of stride 2 (each rounds up)."""
    for _ in range(times):
        size = (size + 1) // 2
    return size


def divisible(channels: float) -> int:
    """Returns the multiple of 8 nearest to ``channels``, at least 8 and at least 90 % of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def stem_strides(scale: Scale) -> tuple[int, ...]:
    """Returns the stride of each 3x3 convolution of the stem: (1,) up to 64 px, more 2s for larger images.

    The published networks know 16, 32 and 224 px only. Here an image above 64 px is halved until its map is at most 48
    px: 65..96 px once, 97..192 twice, up to 384 three times; 224 px gives 28, 14, 7 in the three stages, as in DARTS.

    Raises:
        SettingError: for images under 4 px, which three stages cannot halve twice.
    """
    if scale.image_size < 4:
        raise SettingError(
            f"image_size must be at least 4 px for a network of three stages, got {scale.image_size}"
        )
    if scale.image_size <= LARGEST:
        return (1,)
    size, strides = halved(scale.image_size), [2]
    while size > LARGEST_MAP:
        size = halved(size)
        strides.append(2)
    return tuple(strides)


def darts_stem(scale: Scale) -> str:
    """Returns which stem a DARTS network has: ``cifar`` (up to 64 px), ``strided`` (the same with stride 2) or ``imagenet``.

    ``imagenet`` starts at 128 px: its three strided convolutions leave 1/8 of the image (224 px: 28, 14, 7).

    Raises:
        SettingError: for images under 4 px and for a single channel.
    """
    if scale.image_size < 4:
        raise SettingError(
            f"image_size must be at least 4 px for a network of three stages, got {scale.image_size}"
        )
    if scale.channels < 2:
        raise SettingError(
            "channels must be at least 2 for a DARTS network, whose reductions halve them, got 1"
        )
    if scale.image_size <= LARGEST:
        return "cifar"
    if scale.image_size < 2 * LARGEST:
        return "strided"
    return "imagenet"


# -- Parameters and multiply-adds in closed form, without torch: NAS-Bench-201, its size space and small residual networks 
#
# One rule everywhere: a multiply-add is counted for convolutions and linear layers; biases, norms, activations and pools are
# free. Batch norms have two parameters a channel.


def conv_bn(kernel: int, c_in: int, c_out: int, size: int) -> Counts:
    """Returns the cost of a convolution without bias, output map ``size`` x ``size``, and its batch norm."""
    weights = kernel * kernel * c_in * c_out
    return Counts(weights + 2 * c_out, weights * size * size)


def tail(channels: int, n_classes: int) -> Counts:
    """Returns the cost of the classifier."""
    return Counts((channels + 1) * n_classes, channels * n_classes)


def total(*parts: Counts) -> Counts:
    """Returns the sum."""
    return Counts(sum(part.params for part in parts), sum(part.macs for part in parts))


def times(part: Counts, n: int) -> Counts:
    """Returns ``n`` of it."""
    return Counts(part.params * n, part.macs * n)


def stem(scale: Scale, channels: int) -> tuple[Counts, int]:
    """Returns the cost of the stem and the side of the map it leaves."""
    parts, size, c_in = [], scale.image_size, scale.in_channels
    for stride in stem_strides(scale):
        size = halved(size) if stride == 2 else size
        parts.append(conv_bn(3, c_in, channels, size))
        c_in = channels
    return total(*parts), size


def _reduction(c_in: int, c_out: int, size: int) -> Counts:
    """Returns the cost of the residual block of stride 2 with output side ``size``; its shortcut has no norm."""
    shortcut = Counts(c_in * c_out, c_in * c_out * size * size)
    return total(conv_bn(3, c_in, c_out, size), conv_bn(3, c_out, c_out, size), shortcut)
