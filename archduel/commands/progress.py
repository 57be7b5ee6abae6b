"""What a person sees while a run works: a live view in a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from typing import Any

__all__ = ["Progress", "duration"]


def duration(seconds: float) -> str:
    """Returns ``48 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Progress:
    """Says what is happening: the stage, how much of it is done, the best so far, the time left."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._live: Any = None
        self._task: Any = None
        self._printed = 0.0
        self._reading = 0.0
        self._said = ""
        self._name = ""
        self._total = 0
        self.live = not quiet and sys.stdout.isatty()

    def say(self, text: str = "") -> None:
        """Prints a line above the live view."""
        if self.quiet:
            return
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def stage(self, name: str, total: int) -> None:
        """Begins a stage of ``total`` units of work."""
        self.end()
        self._name, self._total, self._printed = name, total, 0.0
        if self.live:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            self._live = Bars(
                TextColumn("{task.description:<13}"), BarColumn(bar_width=28), MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"), TimeElapsedColumn(), transient=True,
            )  # fmt: skip
            self._live.start()
            self._task = self._live.add_task(name, total=total, note="")

    def reading(self, done: int, total: int) -> None:
        """Says how many pictures are decoded, once that has taken two seconds."""
        now = time.monotonic()
        self._reading = self._reading or now
        if self._name != "read" and now - self._reading > 2.0:
            self.stage("read", total)
        if self._name == "read":
            self.advance(done, "pictures")

    def advance(self, done: int, note: str = "") -> None:
        """Says that ``done`` units are finished; ``note`` tells the best so far and the time left."""
        if self.quiet:
            return
        if self._live is not None:
            self._said = f"{self._name:<13} {done}/{self._total}  {note}"
            self._live.update(self._task, completed=done, note=note)
        elif done >= self._total or time.monotonic() - self._printed > 5.0:
            print(f"{self._name:<13} {done}/{self._total}  {note}", flush=True)
            self._printed = time.monotonic()

    def end(self) -> None:
        """Ends the stage's live view; what it said last stays."""
        if self._live is not None:
            self._live.stop()
            self._live = self._task = None
            if self._said:
                self.say(self._said)
            self._said = ""
