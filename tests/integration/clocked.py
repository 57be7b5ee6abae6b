"""A machine whose clocks all count processor seconds, three for each: runs of half a minute in ten seconds of a processor.

A machine that is busy makes a timed run slower and not shorter then, so that a test of half a minute is one of half a minute anywhere; that
its seconds are short makes it a slow machine, which has to keep to a budget as any other.

As a program the command line on such a machine: `python clocked.py search digits --time 30s ...`; in a test :func:`slow_machine`.
"""

from __future__ import annotations

import threading  # noqa: F401  waits of these keep the wall clock: they have taken it by the time it is replaced
import time
from concurrent import futures  # noqa: F401
from multiprocessing import connection, pool  # noqa: F401

import pytest

SLOWER = 3.0
"""Seconds on the clocks of this machine for each second of a processor."""


def slow_machine(patch: pytest.MonkeyPatch) -> None:
    """Sets all clocks that the package reads, from 0 on; what computes in another process takes no time on them."""
    from archduel.commands.search import audit, report, run  # noqa: F401  importing them is no part of the time

    used = time.process_time
    began = used()

    def clock() -> float:
        return SLOWER * (used() - began)

    for name in ("monotonic", "perf_counter", "process_time"):
        patch.setattr(time, name, clock)


if __name__ == "__main__":
    slow_machine(pytest.MonkeyPatch())
    from archduel.commands import main

    main()
