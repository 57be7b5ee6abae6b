"""What fits into the time: how long the race may last, how far its rungs are, and when the learning rate falls. Numbers only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from archduel.errors import BudgetError, SettingError
from archduel.race.rungs import Rungs

__all__ = ["LEAST_TRAINING", "Ending", "Plan", "enough_passes", "epochs_plan", "meet_at_last", "timed_plan", "too_short"]

RACE_SHARE = 0.38
"""Share of the time in which networks compete; the rest, and what the winner was trained until then, is more than half."""
LAST_SHARE, LEAST_RACE = 0.5, 0.1
"""The last training has half of the whole time if that can be: where start and hand-over take long, on a busy machine, the search shrinks
first, down to this share of what is left."""
FINAL_TO_FIRST = 40.0
"""How much longer than the first rung the last training is in a race of 3 minutes; a longer race has more and finer rungs."""
USUAL_SECONDS = 180.0
SHORT_SECONDS = 300.0
"""In a race that is no longer, pretrained networks do not meet at the highest rung: of 180 s that took 25, and with 24 % less time fine-tuning
came to 88.3 %, not 89.1 % (5,000 images of CIFAR-10, all of EfficientNet-Lite0; one run each)."""
DECAY_SHARE = 0.4
"""Share of the winner's whole training in which the learning rate falls to zero."""
ENOUGH_PASSES, ENOUGH_OF = 60.0, 5_000
"""Passes over so many training images for which the first networks are sized, over fewer images more: a first guess, mostly of too few, from which the race
finds its way.

The start of ``stages`` with 12, 16, 24 and 32 channels came in 160 s on 5,000 images (123, 116, 65 and 55 passes) to 76.1, 78.3, 79.7 and 79.9 %, with 40 in 530 s (112 passes) to
81.5 % (``benchmarks/records/sizes.jsonl``, one run each); on 1,000 images in 40 s at half, the same and twice the cost (360, 180 and 90 passes) to losses of 2.05, 2.04 and 2.13
(``race_curves.jsonl``). Sized for 40 passes races of 3 minutes came to 77.2 and 78.2 %, for 60 to 78.2 and 77.9 %, for 100 on as busy a machine to 75.6 and 75.4 %.
"""

LEAST_TRAINING = 5.0
"""Seconds that a race must have to train in."""


@dataclass(frozen=True)
class Plan:
    """The forecast of a race, in units: seconds of its clock, or passes over the images where it must repeat exactly.

    Attributes:
        rungs: the rules of the race.
        race_until: when the race ends at the latest, on the clock.
        end: when training ends, on the clock.
        last: expected training of the network that is handed over after the race.
    """

    rungs: Rungs
    race_until: float
    end: float
    last: float


def enough_passes(n: int) -> float:
    """Returns the passes over ``n`` training images for which the first networks are sized."""
    return ENOUGH_PASSES * math.sqrt(ENOUGH_OF / max(n, 1))


def too_short(seconds: float, around: float, needed: float) -> BudgetError:
    """Returns the error for a time that leaves too little to train in.

    Args:
        seconds: that were given.
        around: what start and hand-over take of so many as are needed.
        needed: seconds that would be enough.
    """
    return BudgetError(
        f"--time {seconds:g}s is too short: starting and handing over take about {around:.0f} s here, and training at least {LEAST_TRAINING:g}; "
        f"give at least --time {math.ceil(needed)}s", needed
    )  # fmt: skip


def timed_plan(seconds: float, *, gone: float, reserve: float, last_share: float = LAST_SHARE) -> Plan:
    """Returns the plan of a race of ``seconds``.

    Args:
        seconds: the whole budget.
        gone: what is used up already (reading images).
        reserve: what is needed after training (test, export, report).
        last_share: of the budget that the last training has if that can be; 0 where there is none.

    Raises:
        BudgetError: if less than :data:`LEAST_TRAINING` is left to train.
    """
    usable = seconds - gone - reserve
    if usable < LEAST_TRAINING - 1e-6:
        raise too_short(seconds, gone + reserve, gone + reserve + LEAST_TRAINING)
    race = max(LEAST_RACE * usable, min(RACE_SHARE * usable, usable - last_share * seconds))
    last = usable - race
    first = last / (FINAL_TO_FIRST * math.sqrt(max(1.0, usable / USUAL_SECONDS)))
    return Plan(Rungs(first, race / 4, duels=meet_at_last(usable)), gone + race, seconds - reserve, last)


def meet_at_last(usable: float) -> bool:
    """Returns whether a race with so many seconds is long enough for networks that know something to meet at its highest rung."""
    return usable > SHORT_SECONDS


def epochs_plan(evaluations: int, *, first: float, last: float) -> Plan:
    """Returns the plan of a race that repeats exactly: its units are passes over the training images.

    Args:
        evaluations: newcomers.
        first: passes of each up to the first rung.
        last: passes of the network that is handed over, those of the race included.

    Raises:
        SettingError: if the last training is not longer than the last rung.
    """
    rungs = Rungs(first, max(evaluations - 0.5, 0.5) * first)
    if last <= rungs.amount(rungs.levels - 1):
        raise SettingError(f"the last training must be above {rungs.amount(rungs.levels - 1):g} passes, got {last:g}")
    return Plan(rungs, math.inf, last, last - rungs.amount(rungs.levels - 1))


@dataclass
class Ending:
    """The learning rate of the last training: constant, then linearly to zero exactly when the units are used up.

    It depends on what is left alone, so a machine that becomes slower makes the fall come at an earlier step, not at a later time.

    Attributes:
        end: when training ends.
        trained: what the network had been trained when the last training began, at ``began``.
        began: when that was.
    """

    end: float
    trained: float
    began: float

    @property
    def fall(self) -> float:
        """Units before the end at which the rate begins to fall."""
        whole = self.trained + self.end - self.began
        return min(DECAY_SHARE * whole, self.end - self.began)

    def rate(self, now: float, a_step: float) -> float | None:
        """Returns the share of the peak rate for the next step, or None if it would not be done at the end.

        Args:
            now: on the clock.
            a_step: what a step takes.
        """
        left = self.end - now
        if left < a_step / 2:
            return None
        return min(1.0, left / self.fall) if self.fall > 0 else 1.0
