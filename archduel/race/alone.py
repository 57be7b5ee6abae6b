"""One network that is trained alone for a given time: seeds of an audit, and a handed-over network that is trained on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from archduel.errors import RunError
from archduel.race.clock import Clock, Pace, Wall
from archduel.race.clock import Stopwatch as Watch
from archduel.race.plan import Ending
from archduel.race.threads import Threads
from archduel.race.training import Anytime

__all__ = ["Stretch", "train_alone"]

WARMUP_STEPS, WARMUP_SHARE = 100, 0.05
"""The learning rate rises during the first steps, or this share of the time where that is shorter."""
SAVE_SECONDS = 5.0


@dataclass(frozen=True)
class Stretch:
    """A training of a given length.

    Attributes:
        seconds: from its beginning to its end.
        done: what an interrupted attempt has done of it.
        trained: seconds that the network had been trained before; the rate falls to zero in a share of all its training.
        peak: share of the recipe's learning rate that it reaches.
        threads: of torch, at most; fewer where that is faster.
        warmup: share of the stretch over which the rate rises; 0 = over its first steps.
    """

    seconds: float
    done: float = 0.0
    trained: float = 0.0
    peak: float = 1.0
    threads: int = 1
    warmup: float = 0.0


def train_alone(
    trainer: Anytime, stretch: Stretch, *, save: Callable[[float], None], clock: Clock | None = None
) -> float:
    """Trains until the stretch is over: a warm-up, a constant rate, and a fall to zero exactly at its end.

    Args:
        trainer: the training, where it stands.
        stretch: how long.
        save: called now and then, after a whole pass, and at the end, with the seconds done.
        clock: of the seconds; None = the wall clock.

    Returns:
        Seconds of the stretch that were used.

    Raises:
        RunError: if the training diverges.
    """
    watch = Watch(clock or Wall(), stretch.done)
    ending = Ending(stretch.seconds, stretch.trained, 0.0)
    threads, pace = Threads((1, stretch.threads)), Pace(watch)
    first, saved, passes = trainer.steps, watch.seconds, trainer.passes

    def rate() -> float | None:
        nonlocal saved, passes
        now, steps = watch.seconds, trainer.steps - first
        if int(trainer.passes) > int(passes) and now - saved >= SAVE_SECONDS:
            saved = now
            save(now)
        passes = trainer.passes
        pace.read(threads.chosen)
        torch.set_num_threads(threads.next(time.perf_counter(), calm=pace.calm))
        part = ending.rate(now, (now - stretch.done) / steps if steps else 0.0)
        warm = max((steps + 1) / WARMUP_STEPS, now / (WARMUP_SHARE * stretch.seconds))
        if stretch.warmup:
            warm = now / (stretch.warmup * stretch.seconds)
        return None if part is None else trainer.recipe.lr * stretch.peak * part * min(1.0, warm)

    before = torch.get_num_threads()
    try:
        sound = trainer.run(rate)
    finally:
        torch.set_num_threads(before)
    if not sound:
        raise RunError("the training diverged: its loss is not finite; a smaller final.lr may help")
    save(watch.seconds)
    return watch.seconds
