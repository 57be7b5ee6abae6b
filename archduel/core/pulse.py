"""How a worker shows that it gets on: a number that rises with every batch, and the seconds it has computed, in memory that another process reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["SHOWN", "beat", "show"]

SHOWN = 2
"""Numbers that are shown, as doubles in shared memory: batches so far, seconds of processor time."""
EVERY = 1.0  # seconds between two notes of the processor time
_shown: Any = None


def show(shared: Any, seconds: Callable[[], float] = time.process_time) -> None:
    """Lets this process show its pulse from now on.

    Args:
        shared: :data:`SHOWN` doubles in shared memory.
        seconds: what has been computed; noted by a thread, which a stopped process does not run.
    """
    global _shown
    _shown = shared

    def note() -> None:
        while True:
            shared[1] = seconds()
            time.sleep(EVERY)

    threading.Thread(target=note, daemon=True, name="pulse").start()


def beat() -> None:
    """Shows that one more batch is begun; nothing where nobody looks."""
    if _shown is not None:
        _shown[0] += 1.0
