"""At which resolution published networks are fine-tuned: how many images a race can show them there, and what frozen features say of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["ALONE_SHARE", "ENOUGH_IMAGES", "FINAL_SHARE", "FINE_TUNING", "MORE", "Forecast", "Looks", "enough_images", "forecast", "images_in", "ladder", "looks"]

FINE_TUNING = 4.0
"""How many times as long an image takes in fine-tuning as in a pass without gradients (``benchmarks/records/in_parts.json``)."""
FINAL_SHARE, ALONE_SHARE = 0.62, 0.75
"""Of the time, what trains the network that is handed over; and that of a race too short for published networks to meet, where mostly nobody else is trained for long."""
ENOUGH_IMAGES, OF_FEW, FOR_EACH = 6_000, 2_000, 0.8
"""Images, repetitions counted, that the last training must show: from there on more of them help less than more pixels do. Where there are few images to
repeat it is so many, and as many for each that there is, if that is less.

All blocks came with 5,500 images at 128 px to 89.7 % and in the same 60 s with 11,650 at 96 px to 89.5 %; in 130 s with 12,150 at 128 px to 91.6 %, 27,400 at
96 px to 90.4 % and 60,300 at 64 px to 86.8 % (``benchmarks/records/resolutions.jsonl``, one run each). Of 200 images of twenty classes 3,300 at 160 px came to
71.5 % in 40 s, 4,800 at 128 px to 70 % and 8,400 at 96 px to 66.5 %, in 60 s 2,500 at 224 px to 73 % and 5,100 at 160 px to 72.8 %; of 1,000 in 60 s 4,600 at
160 px to 81.8 %, 7,600 at 128 px to 81.3 % with a higher loss and 11,800 at 96 px to 79.8 % (``small_sets.jsonl``, one run each, 400 test images); in 36 s 2,900 at
160 px to 81.3 %, 4,000 at 128 px to 80.9 % with a higher loss and 6,800 at 96 px to 77.9 % (``few_pixels.jsonl``, two runs each).
"""
MORE = 0.05
"""Nats by which frozen features must say more of a larger resolution. On three samples of 1,300 images all blocks said 0.34, 0.09 to 0.17 and 0.09 to 0.10 more of each step
from 64 to 96, 128 and 160 px; the first 12, which come to less at 128 px (87.8 %, ``resolutions.jsonl``) and 160 px (87.3 %, ``within_limits.jsonl``) than at 96 px, 0.12, 0.03
and -0.02 to 0.02; the first 7, which come to less with any more pixels (83.4 % at 64 px, 81.9 % at 96, ``fine_tuning_adamw.jsonl``), less of every step."""
MOST_IMAGES, FEWEST_IMAGES = 5_000, 400
"""Training images that are probed, at most, and where the time is short; of validation images likewise :data:`MOST_VALIDATION`, and as few."""
MOST_VALIDATION = 2_000
STEP = 1.5
JUDGED = 1 / 3
"""Of the images that are probed, what is for validation where the time is short."""


class Looks(NamedTuple):
    """What is looked at with frozen backbones before a race.

    Attributes:
        sides: the resolutions in pixels, rising.
        rows: training images.
        judged: validation images.
    """

    sides: tuple[int, ...]
    rows: int
    judged: int


class Forecast(NamedTuple):
    """Where fine-tuning begins.

    Attributes:
        first: the resolution in pixels.
        largest: the largest at which it is shown enough images.
    """

    first: int
    largest: int


def enough_images(n: int) -> float:
    """Returns how many images, repetitions counted, must be shown of ``n`` before more of them help less than more pixels do."""
    return min(ENOUGH_IMAGES, OF_FEW + FOR_EACH * n)


def ladder(own: int, resolutions: Sequence[int]) -> tuple[int, ...]:
    """Returns the resolutions that are tried for images of side ``own``, rising: from twice their side, at most 64, to seven times: 32 px become the 224 px
    that backbones are published with."""
    allowed, least = sorted(resolutions), min(2 * own, 64)
    found = tuple(side for side in allowed if least <= side <= max(7 * own, 64))
    return found or (min(allowed, key=lambda side: abs(side - least)),)


def images_in(seconds: float, cost: float, *, meet: bool = True) -> float:
    """Returns how many images a network is shown in its last training of a race.

    Args:
        seconds: of looking and the race.
        cost: seconds of a frozen pass for one image.
        meet: whether several published networks are trained far enough to be compared.
    """
    return (FINAL_SHARE if meet else ALONE_SHARE) * seconds / (FINE_TUNING * cost)


def looks(sides: Sequence[int], cost: float, seconds: float, allowance: float, n: int, n_validation: int, *, meet: bool = True) -> Looks:
    """Returns what is looked at: each resolution that leaves enough images, with as many of them as the allowance pays for.

    Args:
        sides: the resolutions, rising.
        cost: seconds of a frozen pass for one image at the first of them.
        seconds: of looking and the race.
        allowance: seconds for looking.
        n: training images.
        n_validation: validation images.
        meet: as in :func:`images_in`.
    """
    price = {side: cost * (side / sides[0]) ** 2 for side in sides}
    worth = [side for side in sides if images_in(seconds, price[side], meet=meet) >= enough_images(n)] or [sides[0]]
    least = min(FEWEST_IMAGES, n) + min(FEWEST_IMAGES, n_validation)
    while len(worth) > 1 and sum(price[side] for side in worth) * least > allowance:
        worth.pop()
    total = allowance / sum(price[side] for side in worth)
    judged = min(MOST_VALIDATION, n_validation, _stepped(JUDGED * total))
    return Looks(tuple(worth), min(MOST_IMAGES, n, _stepped(total - judged)), judged)


def _stepped(number: float) -> int:
    """Returns a number of images, rounded down to one of a few: a second run finds the features of the first although it measures another speed."""
    return int(FEWEST_IMAGES * STEP ** max(0, math.floor(math.log(max(number, 1.0) / FEWEST_IMAGES, STEP) + 1e-9)))


def forecast(scores: Mapping[int, float], images: Mapping[int, float] | None, enough: float = ENOUGH_IMAGES) -> Forecast:
    """Returns where fine-tuning begins: at the largest resolution with enough images whose frozen features say more than those of all smaller ones.

    Args:
        scores: mean log likelihood of frozen features at each resolution, in nats, of what is kept.
        images: that its fine-tuning is shown there; None = no clock, the smallest is taken.
        enough: of :func:`enough_images`.
    """
    sides = sorted(scores)
    if images is None:
        return Forecast(sides[0], sides[-1])
    able = [side for side in sides[1:] if images[side] >= enough]
    first = sides[0]
    for side in able:
        if scores[side] > max(scores[smaller] for smaller in sides if smaller < side) + MORE:
            first = side
    return Forecast(first, max(able, default=sides[0]))
