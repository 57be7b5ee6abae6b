"""What a command shows and writes: a live view in a terminal or a notebook, plain lines elsewhere, nothing when quiet; JSON files.

Whatever is said goes to the logger ``archduel`` too: lines as INFO, warnings as WARNING, single steps as DEBUG. Without the command line
warnings are Python warnings.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from archduel.errors import ArchduelWarning
from archduel.reporting.text import duration
from archduel.text import is_terminal, print_line

__all__ = ["LOGGER", "Meter", "Progress", "by_command", "duration", "in_notebook", "rare_lines", "record_lines", "write_json"]

LOGGER = logging.getLogger("archduel")
LOGGER.addHandler(logging.NullHandler())  # silent until somebody configures logging
WARNING = "warning: "
"""What a line begins with that is a warning."""
PACKAGE = __name__.partition(".")[0]
_by_command: ContextVar[bool] = ContextVar("by_command", default=False)


@contextmanager
def by_command() -> Iterator[None]:
    """Says that the command line works here: its lines tell warnings, which are Python warnings everywhere else."""
    before = _by_command.set(True)
    try:
        yield
    finally:
        _by_command.reset(before)


def in_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook; nothing is imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _callers() -> int:
    """Returns the ``stacklevel`` at which a Python warning of who calls this names the line outside of archduel that led to it."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == PACKAGE:
        frame, level = frame.f_back, level + 1
    return level


class Progress:
    """Says what is happening: the stage, how much of it is done, the best so far, the time left.

    Args:
        quiet: show nothing; None = show it where a person watches, in a terminal or a notebook.
    """

    def __init__(self, *, quiet: bool | None = False) -> None:
        watched = is_terminal(sys.stdout)
        notebook = in_notebook()
        self.quiet = not (watched or notebook) if quiet is None else quiet
        self._live: Any = None
        self._task: Any = None
        self._printed = 0.0
        self._reading = 0.0
        self._said = ""
        self._name = ""
        self._total = 0
        # in a notebook rich draws with widgets, and says nothing at all without them
        self.live = not self.quiet and (watched or (notebook and find_spec("ipywidgets") is not None))

    def say(self, text: str = "") -> None:
        """Prints a line above the live view."""
        warning = text.startswith(WARNING)
        if text.strip():
            LOGGER.log(logging.WARNING if warning else logging.INFO, "%s", text.removeprefix(WARNING))
        if warning and not _by_command.get():
            warnings.warn(text.removeprefix(WARNING), ArchduelWarning, stacklevel=_callers())
            return
        if self.quiet:
            return
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print_line(text)

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
        """Says how many images are decoded, once that has taken two seconds."""
        now = time.monotonic()
        self._reading = self._reading or now
        if self._name != "read" and now - self._reading > 2.0:
            self.stage("read", total)
        if self._name == "read":
            self.advance(done, "images")

    def advance(self, done: int, note: str = "") -> None:
        """Says that ``done`` units are finished; ``note`` tells the best so far and the time left."""
        LOGGER.debug("%s %d/%d %s", self._name, done, self._total, note)
        if self.quiet:
            return
        if self._live is not None:
            self._said = f"{self._name:<13} {done}/{self._total}  {note}"
            self._live.update(self._task, completed=done, note=note)
        elif done >= self._total or time.monotonic() - self._printed > 5.0:
            print_line(f"{self._name:<13} {done}/{self._total}  {note}")
            self._printed = time.monotonic()

    def end(self) -> None:
        """Ends the stage's live view; what it said last stays."""
        if self._live is not None:
            self._live.stop()
            self._live = self._task = None
            if self._said:
                self.say(self._said)
            self._said = ""


class Meter:
    """Prints how much is done to stderr: one line that changes on a terminal, elsewhere a line every tenth.

    Args:
        unit: what is counted; ``bytes`` are printed as MB.
        label: what is being done, before the numbers.
    """

    def __init__(self, unit: str, label: str = "") -> None:
        self.unit, self.label = unit, f"{label}: " if label else ""
        self._percent = -1

    def __call__(self, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` are done."""
        percent = 100 * done // max(1, total)
        live = is_terminal(sys.stderr)
        if percent == self._percent or (not live and percent // 10 == self._percent // 10):
            return
        self._percent = percent
        if self.unit == "bytes":
            amount = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
        else:
            amount = f"{done:,} of {total:,} {self.unit}"
        end = "\n" if not live or done >= total else "\r"
        print_line(f"{self.label}{amount} ({percent} %)", end=end, error=True)


def rare_lines() -> Callable[[str], None]:
    """Returns a function that prints a line to stderr, at most every two seconds on a terminal, every twenty elsewhere."""
    last = -1e9

    def show(line: str) -> None:
        nonlocal last
        live = is_terminal(sys.stderr)
        if time.monotonic() - last > (2 if live else 20):
            last = time.monotonic()
            print_line(line, end="\r" if live else "\n", error=True)

    return show


def record_lines(record: Mapping[str, Any], *, within: Mapping[str, Callable[[Any], str]] | None = None) -> Iterable[str]:
    """Yields ``name: value`` for every value of a record that is not empty; a mapping in it is indented below its name.

    Args:
        record: what is shown.
        within: name of a mapping in it -> text of one of its values; JSON or the value itself without.
    """
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield f"{key}:"
            text = (within or {}).get(key) or (lambda item: json.dumps(item) if isinstance(item, Mapping) else str(item))
            yield from (f"  {label}: {text(item)}" for label, item in value.items())
        elif value:
            yield f"{key}: {value}"


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON of one key a line, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
