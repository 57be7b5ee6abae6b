"""One function of many jobs, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from archduel.errors import MachineError
from archduel.execution.judging import ATTEMPTS
from archduel.execution.processes import children_allowed, end_with_parent, main_hidden

__all__ = ["as_they_finish"]

T = TypeVar("T")
Arguments = tuple[Any, ...]


def as_they_finish(work: Callable[..., T], jobs: Iterable[Arguments], *, workers: int) -> Iterator[T]:
    """Yields ``work(*job)`` of all jobs; those that were in work when a process was ended are done again.

    Args:
        work: a function that can be pickled.
        jobs: its arguments.
        workers: processes, which end with this one and take no new job when nobody asks for more; 0 = one after the other here.

    Raises:
        MachineError: where processes are ended again and again.
    """
    if workers == 0:
        yield from (work(*job) for job in jobs)
        return
    left, attempt = list(enumerate(jobs)), 0
    while left:
        done: set[int] = set()
        try:
            for number, answer in _round(work, left, workers):
                done.add(number)
                attempt = 0
                yield answer
        except BrokenProcessPool as error:
            attempt += 1
            if attempt == ATTEMPTS:
                raise MachineError(
                    f"worker processes were ended {ATTEMPTS} times in a row before one of {len(left) - len(done)} jobs was done (the system may have "
                    "run out of memory); what is finished is kept, and the same command goes on from there"
                ) from error
        left = [(number, job) for number, job in left if number not in done]


def _round(work: Callable[..., T], jobs: list[tuple[int, Arguments]], workers: int) -> Iterator[tuple[int, T]]:
    """Yields (number, answer) of jobs as they finish in one pool."""
    own = getattr(work, "__module__", "") == "__main__"
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        # processes are started while jobs are handed in
        with main_hidden(not own), children_allowed():
            waiting = {pool.submit(work, *job): number for number, job in jobs}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
