"""How many threads a training step gets: more are faster on an idle machine and many times slower on a busy one, so both are tried again and again."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Threads"]

TRIED_STEPS = 3
"""Steps that a number of threads is tried for; the first of them does not count, it warms up."""
AGAIN = 40.0
"""How many times longer than a trial the better one is used before both are tried again."""


class Threads:
    """Chooses between numbers of threads by the time that steps take; whoever asks sets them.

    While two threads of one convolution wait for each other, on a machine where other programs hold the cores, a step can take
    a hundred times as long. Nothing is lost by trying: the steps are steps of the training.

    Args:
        options: numbers of threads, the safest first.
    """

    def __init__(self, options: Sequence[int]) -> None:
        self.options = tuple(dict.fromkeys(options))
        self.chosen = self.options[0]
        self._seconds: dict[int, float] = {}
        self._trial = self._step = 0
        self._last: float | None = None
        self._spent = self._used = 0.0
        self._best = 0.0

    def next(self, now: float, *, calm: bool = True) -> int:
        """Returns the threads of the step that begins at ``now`` (seconds of a wall clock).

        Args:
            now: when.
            calm: whether the machine leaves the run the processors it asks for; if not, more threads are not even tried.
        """
        took = None if self._last is None else now - self._last
        self._last = now
        if len(self.options) == 1 or not calm:
            self._last = None
            self.chosen = self.options[0]
            return self.chosen
        if took is None:
            return self._begin()
        if self._trial < len(self.options):
            self._tried(took)
        else:
            self._used += took
            if self._used > AGAIN * self._spent:
                return self._begin()
        return self.chosen

    def pause(self) -> None:
        """Says that what follows is no step, so that it is not timed."""
        self._last = None

    def _begin(self) -> int:
        self._trial, self._step, self._spent, self._used = 0, 0, 0.0, 0.0
        self._seconds.clear()
        self.chosen = self.options[0]
        return self.chosen

    def _tried(self, took: float) -> None:
        """Takes in what a step of the trial took, and goes on to the next number or decides."""
        self._spent += took
        self._step += 1
        if self._step > 1:
            self._seconds[self.chosen] = min(took, self._seconds.get(self.chosen, took))
        best = min(self._seconds.values(), default=took)
        hopeless = self._step == 1 and self._trial > 0 and took > 5 * best  # not even its warm-up may take so long
        if hopeless:
            self._seconds[self.chosen] = took
        if self._step < TRIED_STEPS and not hopeless:
            return
        self._trial, self._step = self._trial + 1, 0
        if self._trial < len(self.options):
            self.chosen = self.options[self._trial]
        else:
            self.chosen = min(self._seconds, key=lambda n: self._seconds[n])
