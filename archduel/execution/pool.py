"""One function of many jobs, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from archduel.execution.worker import end_with_parent

__all__ = ["as_they_finish"]

T = TypeVar("T")


def as_they_finish(work: Callable[..., T], jobs: Iterable[tuple[Any, ...]], *, workers: int) -> Iterator[T]:
    """Yields ``work(*job)`` of all jobs.

    Args:
        work: a function that can be pickled.
        jobs: its arguments.
        workers: processes, which end with this one and take no new job when nobody asks for more; 0 = one after the other here.
    """
    if workers == 0:
        yield from (work(*job) for job in jobs)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        waiting = [pool.submit(work, *job) for job in jobs]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
