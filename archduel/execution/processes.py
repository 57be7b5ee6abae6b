"""Starting and watching processes of this machine, for whoever gives them work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType

__all__ = ["MACHINES", "Watch", "children_allowed", "end_with_parent", "how_it_ended", "main_hidden"]

MACHINES = {
    getattr(signal, name) for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGBUS", "SIGXCPU", "SIGXFSZ", "SIGQUIT", "SIGPWR") if hasattr(signal, name)
}
"""Signals that somebody or the system ended a process with; others (a segmentation fault) it may have earned by what it computed."""


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
        hint = " (the system may have run out of memory)" if exitcode == -signal.SIGKILL else ""
        return f"was ended by signal {signal.Signals(-exitcode).name}{hint}"
    return f"ended with exit code {exitcode}"


class Watch:
    """Notices that a process computes nothing any more: stopped, or waiting for what never comes.

    Where the system does not say what a process has computed (no ``/proc``) it notices nothing.

    Args:
        process: its number.
        idle: seconds without any work after which it hangs.
    """

    def __init__(self, process: int, idle: float) -> None:
        self.path, self.idle = Path(f"/proc/{process}/stat"), idle
        self._worked, self._waited, self._looked = -1, 0.0, time.monotonic()

    def hangs(self) -> bool:
        """Returns whether the process has done nothing for too long; asked every few seconds."""
        try:
            fields = self.path.read_bytes().rpartition(b")")[2].split()
            state, worked = fields[0], int(fields[11]) + int(fields[12])
        except (OSError, IndexError, ValueError):
            return False
        now = time.monotonic()
        # A look after a long time means that this process was stopped or the machine slept, and with it the other: no time of waiting.
        passed, self._looked = min(now - self._looked, 10.0), now
        # D: it waits for a disk or a network drive, which no new process would do better
        if worked != self._worked or state == b"D":
            self._worked, self._waited = worked, 0.0
        else:
            self._waited += passed
        return self._waited >= self.idle
