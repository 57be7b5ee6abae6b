"""The command line with the clock of the budget in processor seconds: `python clocked.py search digits --time 30s ...`.

A machine that is busy makes a timed run slower and not shorter then, so that a test of half a minute is one of half a minute anywhere.
"""

from __future__ import annotations

import threading  # noqa: F401  waits of these keep the wall clock: they have taken it by the time it is replaced
import time
from concurrent import futures  # noqa: F401
from multiprocessing import connection, pool  # noqa: F401

if __name__ == "__main__":
    time.monotonic = time.process_time
    from archduel.commands import main

    main()
