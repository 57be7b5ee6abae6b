"""What runs inside a worker process."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError

from archduel.core import Estimate
from archduel.execution.local import Judge, judged

__all__ = ["BROKEN", "DONE", "READY", "TAKEN", "end_with_parent", "work"]

READY, BROKEN, TAKEN, DONE = "ready", "broken", "taken", "done"


def work(connection: Connection, threads: int) -> None:
    """Judges what comes through the pipe until it closes.

    Args:
        connection: gives the pickled factory that makes the judge, then (run, place, query, seed); takes (READY, "") or
            (BROKEN, traceback) once, and (TAKEN, ""), (DONE, estimate) for every query.
        threads: for torch and BLAS.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides what ends
    end_with_parent()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)  # for libraries that are not loaded yet
    try:
        _limit_torch(threads)
        factory: Callable[[], Judge] = ForkingPickler.loads(connection.recv_bytes())
        judge = factory()
        _limit_torch(threads)
    except Exception:
        connection.send((BROKEN, traceback.format_exc()))
        return
    connection.send((READY, ""))
    try:
        while True:
            _, _, query, seed = connection.recv()
            connection.send((TAKEN, ""))
            _answer(connection, judged(judge, query, seed))
    except (EOFError, BrokenPipeError):
        return


def _answer(connection: Connection, estimate: Estimate) -> None:
    """Sends the estimate, or a failed one if it holds something that cannot be sent."""
    try:
        connection.send((DONE, estimate))
    except (PicklingError, AttributeError, TypeError) as error:  # what pickle raises; nothing was sent yet
        reason = f"the answer cannot be sent: {error}"
        connection.send((DONE, Estimate(math.nan, estimate.cost, {}, reason)))


def _limit_torch(threads: int) -> None:
    """Sets torch's threads if it is loaded; a judge that needs no torch does not pay for its import."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


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
