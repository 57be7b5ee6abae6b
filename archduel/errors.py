"""Every deliberate error of archduel. Each is also a builtin, so that `except ValueError` works as people expect.

A message says what was got, what was expected and what to do. The ``check_`` functions do that for settings: they take them by name, so
that several are checked in a line and the message still names the one that is wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = [
    "ArchduelError",
    "BudgetError",
    "DamagedError",
    "DataError",
    "ExportError",
    "InfeasibleError",
    "InvalidArchError",
    "MachineError",
    "RunError",
    "SettingError",
    "StateError",
    "TableError",
    "UnknownNameError",
    "UnreadableError",
    "check_at_least",
    "check_below_one",
    "check_positive",
    "check_share",
    "in_one_line",
    "machine_trouble",
    "of_the_machine",
    "unknown",
]


class ArchduelError(Exception):
    """Base of all deliberate errors."""


class InvalidArchError(ArchduelError, ValueError):
    """An architecture or its text does not belong to the space."""


class InfeasibleError(ArchduelError, ValueError):
    """No architecture satisfies the constraints, or fewer than were asked for.

    Attributes:
        archs: those that were found, where some were.
    """

    def __init__(self, message: str, archs: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.archs = tuple(archs)


class SettingError(ArchduelError, ValueError):
    """A setting has a wrong type or is out of range."""


class UnknownNameError(ArchduelError, KeyError):
    """A name that stands on no menu."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class DataError(ArchduelError, ValueError):
    """Images, labels or splits that cannot be used."""


class UnreadableError(DataError):
    """Some of several images cannot be read.

    Attributes:
        answers: one an image in the order in which they were given, None for those that cannot be read.
    """

    def __init__(self, message: str, answers: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.answers = list(answers)


class TableError(ArchduelError, ValueError):
    """A benchmark table or its source file that cannot be used."""


class RunError(ArchduelError, RuntimeError):
    """A run folder that cannot be started, continued or read."""


class BudgetError(ArchduelError, ValueError):
    """A budget that nothing fits in.

    Attributes:
        needed: seconds that would be enough, where that is known.
    """

    def __init__(self, message: str, needed: float | None = None) -> None:
        super().__init__(message)
        self.needed = needed


class StateError(ArchduelError, RuntimeError):
    """Something was asked for before it can be known, or a state that does not fit."""


class DamagedError(StateError, RunError):
    """A file of ours on the disk that is cut off, changed or empty: it says nothing of what it was made for."""


class MachineError(ArchduelError, RuntimeError):
    """The machine failed, not what it was asked to do: a full disk, too little memory, an ended process. The same command goes on."""


class ExportError(ArchduelError, RuntimeError):
    """A network that cannot be exported, or an export that does not match."""


# What torch and its libraries say in a plain RuntimeError when the machine has no more of something.
SHORT_OF = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "unable to allocate", "failed to allocate", "std::bad_alloc", "alloc_failed",
    "no space left", "disk quota", "can't start new thread", "unable to open shared memory", "unable to mmap", "unable to open file",
    "too many open files", "resource temporarily unavailable", "cuda error", "cudnn_status", "cublas_status", "hip error", "os error",
    "input/output error", "file write failed",
)  # fmt: skip


def of_the_machine(error: BaseException | None) -> bool:
    """Returns whether an exception tells of the machine (disk, memory, processes) rather than of what was computed."""
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, (OSError, MemoryError, MachineError, DamagedError)):
            return True
        plain = isinstance(error, RuntimeError) and not isinstance(error, ArchduelError)
        if (plain or type(error).__name__ == "SafetensorError") and any(words in str(error).lower() for words in SHORT_OF):
            return True
        # an error that says where the first one struck is still about the first one
        error, seen = error.__cause__, seen + 1
    return False


@contextmanager
def machine_trouble(what: str) -> Iterator[None]:
    """Turns what :func:`of_the_machine` knows into a MachineError that names ``what`` was being done.

    Raises:
        MachineError: for a full disk, too little memory and the like; whatever else is raised passes unchanged.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ArchduelError) or not of_the_machine(error):
            raise
        raise MachineError(f"{what} failed: {in_one_line(error)}; nothing was written down about it, and the same command continues once that is mended") from error


def in_one_line(error: BaseException) -> str:
    """Returns an exception in one line: its kind, where that says more than its words, and the first line of these."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no more is known"]
    return f"{type(error).__name__}: {lines[0][:300]}"


def unknown(role: str, name: str, known: Iterable[str], *, command: str = "") -> UnknownNameError:
    """Returns the error for a name that is not on a menu, with the nearest names.

    Args:
        role: what was looked for, such as ``strategy``.
        name: the name that was given.
        known: the names there are.
        command: a command that lists them all.
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    if command and len(names) > 1:
        tail = f" `{command}` shows all {len(names)}"
    else:
        tail = f" known: {', '.join(names) or 'none yet'}" + (f" (`{command}`)" if command else "")
    return UnknownNameError(f"{role} {name!r} is unknown{hint}{tail}")


def check_at_least(least: float, **settings: float) -> None:
    """Raises SettingError that names the first setting below ``least`` (or not a number), what was got and expected."""
    for name, value in settings.items():
        if not value >= least:
            raise SettingError(f"{name} is {value}, expected at least {least:g}")


def check_share(**settings: float) -> None:
    """Raises SettingError that names the first setting outside 0 < value <= 1, what was got and expected."""
    for name, value in settings.items():
        if not 0 < value <= 1:
            raise SettingError(f"{name} is {value}, expected a share above 0 and at most 1")


def check_positive(**settings: float) -> None:
    """Raises SettingError that names the first setting that is not above 0, what was got and expected."""
    for name, value in settings.items():
        if not value > 0:
            raise SettingError(f"{name} is {value}, expected more than 0")


def check_below_one(**settings: float) -> None:
    """Raises SettingError that names the first setting outside 0 <= value < 1, what was got and expected."""
    for name, value in settings.items():
        if not 0 <= value < 1:
            raise SettingError(f"{name} is {value}, expected at least 0 and below 1")
