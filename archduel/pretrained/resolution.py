"""At which resolution the fine-tuning of a published network begins: what frozen features say of it, and how many passes it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["AS_MUCH", "ENOUGH_PASSES", "FINAL_SHARE", "FINE_TUNING", "MORE", "PLENTY", "Forecast", "forecast", "passes_in"]

FINE_TUNING = 4.5
"""How many times as long an image takes in fine-tuning as in a pass without gradients (``benchmarks/records/depthwise.json``)."""
ENOUGH_PASSES = 2.5
"""Passes over the training images that the first resolution must leave: more of them help less than more pixels do.

All blocks came in 135 s at 96 px to 90.6 % in 5.8 passes and at 128 px to 90.4 % in 2.6 (``benchmarks/records/warm_up.json``); twelve blocks in 150 s at
96 px to 88 % in 7, at 64 px to 86 % in 17 (``fine_tuning_again.json``; one run each). With ten passes, priced by the whole backbone, a limit of a
million parameters and 180 s gave 64 px and 84.7 %, with 3.5 it is 96 px and 86.6 % (``first_resolution.jsonl``, one run each).
"""
AS_MUCH = 0.1
"""Nats by which frozen features may be behind others and say as much: the first 7 blocks were at -1.19, -1.18 and -1.22 at 64, 96 and 128 px, and made
fewer and fewer passes; twelve at -0.88, -0.74 and -0.72, all at -1.01, -0.72 and -0.65 (``benchmarks/records/warm_up.json``)."""
PLENTY, MORE = 4.5, 0.03
"""Passes beyond which more of them are worth less than pixels of which frozen features say a little more, in nats: all blocks came in 300 s at 128 px to
92.3 % in 5 passes and at 96 px to 91.2 % in 11 (frozen: -0.65 and -0.72); 7 blocks, which know no more of 96 px than of 64, in 120 s to 81.9 % in 7 and
83.4 % in 18 (``benchmarks/records/fine_tuning_adamw.jsonl``)."""
FINAL_SHARE = 0.62
"""Of the time, what trains the network that is handed over."""


class Forecast(NamedTuple):
    """Where fine-tuning begins.

    Attributes:
        first: the resolution in pixels.
        largest: the largest at which it makes enough passes.
        plenty: whether the first was chosen because there is time for more passes than are needed; smaller ones are worse then.
    """

    first: int
    largest: int
    plenty: bool


def passes_in(seconds: float, cost: float, n: int) -> float:
    """Returns how often a network is shown ``n`` images in its last training of a race of so many seconds; ``cost``: of a pass for one, frozen."""
    return FINAL_SHARE * seconds / (FINE_TUNING * cost * n)


def forecast(scores: Mapping[int, float], passes: Mapping[int, float] | None) -> Forecast:
    """Returns where fine-tuning begins: at the smallest resolution whose frozen features say as much as any that leaves enough passes, or at a larger
    one that leaves plenty of them and whose features say more.

    Args:
        scores: mean log likelihood of frozen features at each resolution, in nats, of what is kept.
        passes: that its fine-tuning makes there; None = no clock, the smallest is taken.
    """
    sides = sorted(scores)
    if passes is None:
        return Forecast(sides[0], sides[-1], plenty=False)
    enough = [side for side in sides if passes[side] >= ENOUGH_PASSES]
    largest = max(enough, default=sides[0])
    for place in range(len(sides) - 1, 0, -1):
        if passes[sides[place]] >= PLENTY and scores[sides[place]] > max(scores[side] for side in sides[:place]) + MORE:
            return Forecast(sides[place], largest, plenty=True)
    most = max((scores[side] for side in enough), default=0.0)
    return Forecast(next((side for side in enough if scores[side] > most - AS_MUCH), sides[0]), largest, plenty=False)
