"""Every deliberate error of archduel. Each is also a builtin, so that `except ValueError` works as people expect.

A message says what was got, what was expected and what to do. The ``check_`` functions do that for settings: they take them by name, so
that several are checked in a line and the message still names the one that is wrong.
"""

from __future__ import annotations

import difflib
import errno
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from archduel.text import printable

__all__ = [
    "MACHINE",
    "AbsentError",
    "ArchduelError",
    "ArchduelWarning",
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
    "as_number",
    "as_path",
    "as_whole",
    "brief",
    "check_at_least",
    "check_below_one",
    "check_positive",
    "check_share",
    "elsewhere",
    "in_one_line",
    "machine_trouble",
    "of_the_machine",
    "reading",
    "short_of_memory",
    "unknown",
]

MACHINE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENFILE, errno.EMFILE, errno.ENOMEM))
"""Numbers of errors that are the machine's (a full or read-only disk, too many open files), never those of a file that is read."""


class ArchduelWarning(UserWarning):
    """What a person should know and no error: a damaged file that is made again, a class of few images. The command line prints it as a line."""


class ArchduelError(Exception):
    """Base of all deliberate errors; their text can always be printed."""

    def __str__(self) -> str:
        """Returns the message; what it quotes may come from a file system or a stranger's file."""
        return printable(self.args[0] if len(self.args) == 1 else super().__str__(), lines=True)


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


class DataError(ArchduelError, ValueError):
    """Images, labels or splits that cannot be used."""


class AbsentError(DataError):
    """Nothing lies where data are said to lie: there is no such folder, file or set, or no longer."""


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


@contextmanager
def reading(what: object, kind: type[ArchduelError], form: str = "") -> Iterator[None]:
    """Turns whatever a damaged or hostile file leads its reader to into one error of one line that names it.

    Deliberate errors and errors of the machine (:data:`MACHINE`) pass.

    Args:
        what: the file.
        kind: of the error that is raised.
        form: what it was read as, such as `` as .npz``.

    Raises:
        ArchduelError: of the given kind.
    """
    try:
        yield
    except ArchduelError:
        raise
    except Exception as error:  # parsers and decompressors raise errors of their own kinds
        if isinstance(error, OSError) and error.errno in MACHINE:
            raise
        raise kind(f"{what} cannot be read{form}: {in_one_line(error)}") from error


# What torch and its libraries say in a plain RuntimeError when the machine has no more of something: of memory, and of anything. oneDNN says
# of too little memory that it cannot create something; of a shape that it cannot compute, that there is no descriptor.
OF_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "unable to allocate", "failed to allocate", "std::bad_alloc",
    "alloc_failed", "could not create a primitive", "could not execute a primitive", "could not create a memory",
)  # fmt: skip
SHORT_OF = (
    *OF_MEMORY,
    "no space left", "disk quota", "can't start new thread", "unable to open shared memory", "unable to mmap", "unable to open file",
    "too many open files", "resource temporarily unavailable", "cuda error", "cudnn_status", "cublas_status", "hip error", "os error",
    "input/output error", "file write failed",
)  # fmt: skip


def _causes(error: BaseException | None) -> Iterator[tuple[BaseException, str]]:
    """Yields an exception and those that it came of, the first last, with what libraries say in them; an error that says where another struck is still about that one."""
    seen = 0
    while error is not None and seen < 20:
        foreign = isinstance(error, RuntimeError) and not isinstance(error, ArchduelError)
        yield error, str(error).lower().replace("a primitive descriptor", "") if foreign or type(error).__name__ == "SafetensorError" else ""
        error, seen = error.__cause__, seen + 1


def of_the_machine(error: BaseException | None) -> bool:
    """Returns whether an exception tells of the machine (disk, memory, processes) rather than of what was computed."""
    ours = (OSError, MemoryError, MachineError, DamagedError)
    return any(isinstance(each, ours) or any(words in text for words in SHORT_OF) for each, text in _causes(error))


def short_of_memory(error: BaseException | None) -> bool:
    """Returns whether an exception tells of too little memory, of a GPU or of the machine: what takes less may still fit."""
    return any(
        isinstance(each, MemoryError) or (isinstance(each, OSError) and each.errno == errno.ENOMEM) or any(words in text for words in OF_MEMORY)
        for each, text in _causes(error)
    )


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


@contextmanager
def elsewhere(advice: str) -> Iterator[None]:
    """Adds ``advice`` to the error for data that are not where somebody kept that they lay: they may have been moved.

    Raises:
        AbsentError: with the advice.
    """
    try:
        yield
    except AbsentError as error:
        raise AbsentError(f"{error}; {advice}") from error


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
    names, name = sorted(set(known)), name if isinstance(name, str) else brief(name)
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


def _single(value: object) -> object:
    """Returns the number in a scalar of NumPy or torch; a fraction or decimal as a float; anything else as it is."""
    try:
        if callable(getattr(value, "item", None)):
            return value.item()  # type: ignore[attr-defined]
        if isinstance(value, numbers.Number) and not isinstance(value, (int, float, complex)):
            return float(value)  # type: ignore[arg-type]
    except Exception:  # an array of several, an object of others
        return value
    return value


def as_number(name: str, value: object, *, least: float = -math.inf, most: float = math.inf) -> float:
    """Returns a setting as a finite number from ``least`` to ``most``; scalars of NumPy and torch are numbers.

    Raises:
        SettingError: that names the setting, what was got and expected.
    """
    plain = _single(value)
    good = isinstance(plain, (int, float)) and not isinstance(plain, bool)
    if good and abs(plain) < 1e300 and least <= plain <= most:  # type: ignore[arg-type,operator]
        return float(plain)  # type: ignore[arg-type]
    bounds = f" from {least:g} to {most:g}" if math.isfinite(most) else f" of at least {least:g}" if math.isfinite(least) else ""
    raise SettingError(f"{name} is {brief(value)}, expected a number{bounds}")


def as_whole(name: str, value: object, *, least: int, most: int = 2**63 - 1) -> int:
    """Returns a setting as a whole number from ``least`` to ``most``; scalars of NumPy and torch, and 5.0, are numbers.

    Raises:
        SettingError: that names the setting, what was got and expected.
    """
    plain = _single(value)
    good = isinstance(plain, (int, float)) and not isinstance(plain, bool) and -1e300 < plain < 1e300 and int(plain) == plain
    if good and least <= plain <= most:  # type: ignore[operator]
        return int(plain)  # type: ignore[call-overload,no-any-return]
    bounds = f"of at least {least}" if most == 2**63 - 1 else f"from {least} to {most}"
    raise SettingError(f"{name} is {brief(value)}, expected a whole number {bounds}")


def as_path(name: str, value: object, kind: type[ArchduelError] = SettingError) -> str:
    """Returns the text of a path that was given as text or as a path.

    Raises:
        ArchduelError: of the given kind, for anything that can be no path.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    parts = text.replace("\\", "/").split("/") if isinstance(text, str) else []
    if not isinstance(text, str) or not text.strip() or "\0" in text or len(text) > 4_000 or max(map(len, parts)) > 255:
        raise kind(f"{name} is {brief(value)}, expected the path of a file or folder")
    return text


def brief(value: object, longest: int = 80) -> str:
    """Returns a value for a message: printable, short, and also where its own text cannot be made."""
    try:
        text = repr(value)
    except Exception:  # an object of others
        text = f"an object of {type(value).__name__}"
    text = printable(text)
    return text if len(text) <= longest else f"{text[:longest]} ..."
