"""What time it is, as an argument: real clocks, and one that tests turn by hand."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "Pace", "Processor", "Stopwatch", "Wall"]

CALM = 0.85
"""Share of its processors from which a run is taken to have them for itself."""


LASTING = 10.0
"""Seconds that a forecast of minutes looks back; what other programs do in one of them says nothing of the next."""


class Clock(Protocol):
    """Two clocks that only ever go forward; what they count from does not matter."""

    def now(self) -> float:
        """Returns seconds of the clock that the budget is in."""

    def processor(self) -> float:
        """Returns seconds that this process has computed."""


class Wall:
    """The budget is in seconds of a wall clock: what ``--time`` means."""

    def now(self) -> float:
        """Returns seconds of the wall clock."""
        return time.monotonic()

    def processor(self) -> float:
        """Returns seconds that this process has computed."""
        return time.process_time()


class Processor:
    """The budget is in processor seconds, for comparisons on a machine that others use too.

    Counts from the start of the process, so a budget that begins at 0 includes the start of the interpreter.
    """

    def now(self) -> float:
        """Returns seconds that this process has computed."""
        return time.process_time()

    processor = now


class Stopwatch:
    """Seconds of a run on a clock, those before an interruption included.

    Args:
        clock: what to read.
        before: seconds that earlier attempts took, and what this one has taken already.
    """

    def __init__(self, clock: Clock, before: float = 0.0) -> None:
        self.clock, self.before = clock, before
        self._began, self._computed = clock.now(), clock.processor()

    @property
    def seconds(self) -> float:
        """Seconds of the budget that are gone."""
        return self.before + self.clock.now() - self._began

    @property
    def computed(self) -> float:
        """Processor seconds of this attempt."""
        return self.clock.processor() - self._computed

    @property
    def share(self) -> float:
        """Processor seconds for each second of the budget in this attempt: 1 on an idle machine with one thread."""
        gone = self.clock.now() - self._began
        return self.computed / gone if gone > 0 else 1.0


class Pace:
    """How much of the processor a run gets, from the latest seconds of its training.

    Attributes:
        share: processor seconds for each second of the budget and thread, at most 1; of the last seconds.
        lasting: likewise, of the last :data:`LASTING` seconds or so.
        known: whether there is any reading yet.

    Args:
        stopwatch: of the run.
        every: seconds between two readings.
    """

    def __init__(self, stopwatch: Stopwatch, every: float = 1.0) -> None:
        self.stopwatch, self.every, self.share, self.lasting, self.known = stopwatch, every, 1.0, 1.0, False
        self._at, self._computed = stopwatch.seconds, stopwatch.computed

    def read(self, threads: int) -> None:
        """Takes a reading if it is time, for a training with so many threads."""
        at, computed = self.stopwatch.seconds, self.stopwatch.computed
        if at - self._at >= self.every:
            new = min(1.0, (computed - self._computed) / (at - self._at) / threads)
            weight = min(1.0, (at - self._at) / LASTING) if self.known else 1.0
            self.lasting += weight * (new - self.lasting)
            self.share = (self.share + new) / 2 if self.known else new
            self._at, self._computed, self.known = at, computed, True

    @property
    def calm(self) -> bool:
        """Whether the run is known to get the processors that it asks for."""
        return self.known and self.share > CALM
