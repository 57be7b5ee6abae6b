"""Starting and watching processes of this machine, for whoever gives them work."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType

__all__ = ["MACHINES", "THREADS", "Watch", "children_allowed", "end_with_parent", "how_it_ended", "main_hidden", "memory_kills"]

MACHINES = {
    getattr(signal, name) for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGBUS", "SIGXCPU", "SIGXFSZ", "SIGQUIT", "SIGPWR") if hasattr(signal, name)
}
"""Signals that somebody or the system ended a process with; others (a segmentation fault) it may have earned by what it computed."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Variables from which libraries learn, while they are loaded, how many threads they may use."""


def end_with_parent() -> None:
    """Lets this process end when the one that started it is gone, however that ended: a pool's initializer."""
    if parent_process() is not None:
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent has ended, even in the middle of a training."""
    parent, number = parent_process(), os.getppid()
    while parent is not None and os.getppid() == number and not wait([parent.sentinel], timeout=1):
        pass
    os._exit(1)


@contextmanager
def main_hidden(hidden: bool) -> Iterator[None]:
    """Lets processes start that do not run the script of this one again, which then needs no guard against it."""
    script = sys.modules["__main__"]
    if hidden:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def children_allowed() -> Iterator[None]:
    """Lets a worker of a pool start processes of its own, which Python refuses because they could outlive it; ours do not."""
    settings = getattr(multiprocessing.current_process(), "_config", {})
    daemon = settings.get("daemon")
    if daemon:
        settings["daemon"] = False
    try:
        yield
    finally:
        if daemon:
            settings["daemon"] = daemon


def how_it_ended(exitcode: int | None) -> str:
    """Returns what an exit code means, in words."""
    if exitcode is not None and exitcode < 0:
        hint = " (the system may have run out of memory)" if exitcode == -getattr(signal, "SIGKILL", 9) else ""
        return f"was ended by signal {signal.Signals(-exitcode).name}{hint}"
    return f"ended with exit code {exitcode}"


def memory_kills() -> int:
    """Returns how many processes the system has ended because there was no more memory, since it was started; 0 where it does not say."""
    try:
        return int(re.search(rb"^oom_kill (\d+)$", (PROC / "vmstat").read_bytes(), re.MULTILINE)[1])  # type: ignore[index]
    except (OSError, TypeError):
        return 0


STUCK = 10.0
"""Times the idle limit, in processor seconds of a thread, that a training may compute without beginning another batch: ten minutes by default,
in which a batch of the largest images is through on the slowest core. Also the patience where the system does not say what a process computes:
its own note of that waits for Python while a library computes."""
SLOWER = 20.0  # times the longest batch so far that another one may take
PROC = Path("/proc")


class Watch:
    """Notices that a process gets no further: it computes nothing (stopped, or waiting for what never comes), or computes without an end.

    What it has computed is read from ``/proc``; elsewhere from the pulse that the process itself shows; without either nothing is noticed.

    Args:
        process: its number.
        idle: seconds without any work after which it hangs.
        pulse: what the process shows (:mod:`archduel.core.pulse`): batches, seconds computed; None = nothing.
        threads: that it computes with.
    """

    def __init__(self, process: int, idle: float, pulse: Sequence[float] | None = None, threads: int = 1) -> None:
        self.path, self.idle, self.pulse, self.threads = PROC / str(process) / "stat", idle, pulse, threads
        self.reason = ""
        self._worked, self._waited, self._looked = -1.0, 0.0, time.monotonic()
        self._beats, self._since, self._longest = -1.0, -1.0, 0.0

    def hangs(self) -> bool:
        """Returns whether the process got no further for too long, and keeps the reason; asked every few seconds."""
        state, worked, patience = self._state()
        now = time.monotonic()
        # A look after a long time means that this process was stopped or the machine slept, and with it the other: no time of waiting.
        passed, self._looked = min(now - self._looked, 10.0), now
        # D: it waits for a disk or a network drive, which no new process would do better
        if worked != self._worked or state == b"D":
            self._worked, self._waited = worked, 0.0
        else:
            self._waited += passed
        if self._waited >= patience:
            self.reason = f"its process computed nothing for {patience:.0f} s"
        elif self._spins(worked):
            self.reason = f"its process computed for {worked - self._since:.0f} s and got no further: no batch was finished"
        return bool(self.reason)

    def _state(self) -> tuple[bytes, float, float]:
        """Returns the state of the process, the seconds that it has computed, and how long it may compute nothing."""
        try:
            fields = self.path.read_bytes().rpartition(b")")[2].split()
            return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), self.idle
        except (OSError, IndexError, ValueError, AttributeError):
            return (b"", self.pulse[1], STUCK * self.idle) if self.pulse is not None else (b"D", 0.0, math.inf)

    def _spins(self, worked: float) -> bool:
        """Returns whether it computes without an end: far longer for a batch than it took for any before."""
        if self.pulse is None:
            return False
        beats = self.pulse[0]
        if self._since < 0 or beats != self._beats:
            self._longest = max(self._longest, worked - self._since) if self._since >= 0 else 0.0
            self._beats, self._since = beats, worked
        return worked - self._since >= max(STUCK * self.idle * self.threads, SLOWER * self._longest)
