"""Judging queries in worker processes of this machine.

Which worker takes a query depends on who is free; the answers do not: an evaluation's seed depends on the run's seed and
its ordinal only, and every worker computes with the same number of threads.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from types import ModuleType
from typing import Any, Protocol, TypeVar, runtime_checkable

from archduel.core import Cost, Estimate, Query, evaluation_seed
from archduel.errors import RunError, SettingError

__all__ = [
    "BROKEN",
    "DONE",
    "READY",
    "TAKEN",
    "GroupJudge",
    "Judge",
    "Processes",
    "Sequential",
    "as_they_finish",
    "end_with_parent",
    "judged",
    "one_by_one",
    "work",
]

# -- Judging queries in this process, one after the other ---------------------------------------------------------------


Judge = Callable[[Query, int], Estimate]
"""Says how good a query is, given the seed of the evaluation."""

AtOnce = Callable[[Sequence[Query], Sequence[int]], int]
"""Says how many of the waiting queries, the first ones, are judged at once, given their seeds too."""


@runtime_checkable
class GroupJudge(Protocol):
    """A judge that also judges several queries at once."""

    def __call__(self, query: Query, seed: int) -> Estimate:
        """Returns how good a query is."""

    def together(self, queries: Sequence[Query], seeds: Sequence[int]) -> list[Estimate]:
        """Returns how good each query is."""


def one_by_one(queries: Sequence[Query], seeds: Sequence[int]) -> int:
    """Returns 1: each query is judged by itself."""
    return 1


def judged(judge: Judge, query: Query, seed: int) -> Estimate:
    """Returns ``judge(query, seed)``; an exception becomes a failed estimate that names it."""
    began = time.perf_counter()
    try:
        return judge(query, seed)
    except Exception as error:
        return Estimate(math.nan, Cost(time.perf_counter() - began), {}, f"{type(error).__name__}: {error}")


def _all_judged(judge: Judge, queries: Sequence[Query], seeds: Sequence[int]) -> list[Estimate]:
    """Returns the estimates of queries, judged at once if they are several; where that raises, each gets its own answer."""
    if len(queries) > 1 and isinstance(judge, GroupJudge):
        try:
            return judge.together(queries, seeds)
        except Exception:  # the one query that it is about will say so by itself
            pass
    return [judged(judge, query, seed) for query, seed in zip(queries, seeds)]


def _grouped(queries: Sequence[Query], seeds: Sequence[int], at_once: AtOnce) -> Iterator[tuple[int, list[Query], list[int]]]:
    """Yields (place of the first, queries, seeds) of each group, in ask order."""
    place = 0
    while place < len(queries):
        n = max(1, at_once(queries[place:], seeds[place:]))
        yield place, list(queries[place : place + n]), list(seeds[place : place + n])
        place += n


class Sequential:
    """An executor without workers: each answer is there before the next query begins.

    Args:
        judge: judges one query, or a group if ``at_once`` makes any.
        run_seed: seed of the run; with the ordinal it gives the seed of an evaluation.
        at_once: how many waiting queries are one group.
    """

    def __init__(self, judge: Judge, *, run_seed: int, at_once: AtOnce = one_by_one) -> None:
        self.judge, self.run_seed, self.at_once = judge, run_seed, at_once

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query, in order."""
        seeds = [evaluation_seed(self.run_seed, ordinal) for ordinal in ordinals]
        for _, some, theirs in _grouped(queries, seeds, self.at_once):
            yield from _all_judged(self.judge, some, theirs)

    def close(self) -> None:
        """Nothing to end."""


# -- What runs inside a worker process ----------------------------------------------------------------------------------


READY, BROKEN, TAKEN, DONE = "ready", "broken", "taken", "done"


def work(connection: Connection, threads: int) -> None:
    """Judges what comes through the pipe until it closes.

    Args:
        connection: gives the pickled factory that makes the judge, then (run, place, queries, seeds); takes (READY, "") or
            (BROKEN, traceback) once, and (TAKEN, ""), (DONE, estimates) for every group of queries.
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
            _, _, queries, seeds = connection.recv()
            connection.send((TAKEN, ""))
            _answer(connection, _all_judged(judge, queries, seeds))
    except (EOFError, ConnectionError):  # a parent that ends with answers unread resets the pipe: no news to anybody
        return


def _answer(connection: Connection, estimates: Sequence[Estimate]) -> None:
    """Sends the estimates, or failed ones if they hold something that cannot be sent."""
    try:
        connection.send((DONE, list(estimates)))
    except (PicklingError, AttributeError, TypeError) as error:  # what pickle raises; nothing was sent yet
        reason = f"the answer cannot be sent: {error}"
        connection.send((DONE, [Estimate(math.nan, estimate.cost, {}, reason) for estimate in estimates]))


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


# -- One function of many jobs, in this process or in several -----------------------------------------------------------


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


MAIN = b"__main__"
"""Stands in a pickled factory that is defined in the script itself; its workers have to run that first."""

Job = tuple[int, int, list[Query], list[int]]
"""Number of the run, place of the first query in it, queries, seeds."""


class Processes:
    """An executor with ``workers`` processes that are started at the first run and then kept.

    A worker that dies gives a failed estimate with the reason and is replaced; a group in which it died is judged one by one.
    Workers end when this process does, however it ends.

    Args:
        factory: called once in each worker, returns ``judge(query, seed)``; must be picklable.
        workers: number of processes.
        run_seed: seed of the run; with the ordinal it gives the seed of an evaluation.
        threads: of each worker, for torch and BLAS.
        at_once: how many waiting queries a worker judges as one group; the judge is then a :class:`GroupJudge`.

    Raises:
        SettingError: for fewer than one worker or thread.
    """

    def __init__(
        self, factory: Callable[[], Judge], *, workers: int, run_seed: int, threads: int = 1, at_once: AtOnce = one_by_one
    ) -> None:
        for name, value in (("workers", workers), ("threads", threads)):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}")
        self.factory, self.run_seed, self.threads, self.at_once = factory, run_seed, threads, at_once
        self._workers = [_Worker(factory, threads) for _ in range(workers)]
        self._runs = 0
        self._finalizer = weakref.finalize(self, _end, self._workers)

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query in the order given, each as soon as it and all before it are there.

        One run at a time: a new one drops what an unfinished one still waits for.

        Raises:
            RunError: if a worker cannot be started.
        """
        self._runs += 1
        seeds = [evaluation_seed(self.run_seed, ordinal) for ordinal in ordinals]
        jobs: deque[Job] = deque((self._runs, *group) for group in _grouped(queries, seeds, self.at_once))
        answers: dict[int, Estimate] = {}
        for place in range(len(queries)):
            while place not in answers:
                self._hand_out(jobs)
                answers |= self._collect(jobs)
            self._hand_out(jobs)  # nobody waits while the caller is busy with this answer
            yield answers.pop(place)

    def _hand_out(self, jobs: deque[Job]) -> None:
        """Gives every free worker a job; starts those that are not running yet."""
        for worker in self._workers:
            if jobs and worker.free:
                worker.begin(jobs.popleft())

    def _collect(self, jobs: deque[Job]) -> dict[int, Estimate]:
        """Waits for workers and returns what this run's queries came to, by place; a group that a worker died of is split."""
        busy = {worker.connection: worker for worker in self._workers if worker.connection is not None and worker.job}
        answers: dict[int, Estimate] = {}
        for connection in wait(list(busy)):
            worker = busy[connection]  # type: ignore[index]
            (run, place, queries, seeds), estimates = worker.take()
            if estimates is None or run != self._runs:  # answers to an abandoned run are dropped
                continue
            if len(estimates) < len(queries):
                jobs.extendleft((run, place + i, [queries[i]], [seeds[i]]) for i in reversed(range(len(queries))))
            else:
                answers |= {place + i: estimate for i, estimate in enumerate(estimates)}
        return answers

    def close(self) -> None:
        """Ends the workers at once, whatever they are doing; a later run starts them anew."""
        _end(self._workers)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Worker:
    """One process and the job it has."""

    def __init__(self, factory: Callable[[], Judge], threads: int) -> None:
        self.factory, self.threads = factory, threads
        self.process: multiprocessing.process.BaseProcess | None = None
        self.connection: Connection | None = None
        self.ready = False
        self.taken = False  # whether the worker has said that it has its job
        self.again = False  # whether the job is given out for the second time
        self.job: Job | None = None
        self.began = 0.0

    @property
    def free(self) -> bool:
        """Whether it can take a job."""
        return self.job is None

    def begin(self, job: Job) -> None:
        """Takes a job; starts the process if there is none."""
        connection = self.connection or self._start()
        try:
            connection.send(job)
        except (BrokenPipeError, ConnectionResetError):  # it died while idle, which is not this query's fault
            self.end()
            self._start().send(job)
        self.job, self.taken, self.began = job, False, time.perf_counter()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")  # fork would copy torch's threads in an unknown state
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, self.threads), daemon=True)
        factory = ForkingPickler.dumps(self.factory)
        with main_hidden(MAIN not in bytes(factory)):
            self.process.start()
        theirs.close()  # the worker holds the only copy, so its death closes the pipe
        self.ready = False
        try:  # not as an argument: a process that dies while it reads those leaves the one that writes them waiting
            self.connection.send_bytes(factory)
        except (BrokenPipeError, ConnectionResetError):
            self._died()  # raises, because it was not ready
        return self.connection

    def take(self) -> tuple[Job, list[Estimate] | None]:
        """Returns the job and its answers, or None if there are none yet; fewer than there are queries if the process died."""
        assert self.connection is not None
        assert self.job is not None
        job = self.job
        try:
            kind, body = self.connection.recv()
        except (EOFError, ConnectionResetError):
            if self.ready and not self.taken and not self.again:  # it died while idle, and the pipe stayed open a moment
                self.end()
                self.begin(job)
                self.again = True
                return job, None
            return job, [self._died()]
        if kind == BROKEN:
            self.end()
            raise RunError(f"a worker could not be prepared:\n{body}")
        if kind == READY:
            self.ready, self.began = True, time.perf_counter()
            return job, None
        if kind == TAKEN:
            self.taken = True
            return job, None
        self.job, self.again = None, False
        return job, body

    def _died(self) -> Estimate:
        """Returns the failure of the job that the process died in."""
        assert self.process is not None
        self.process.join()
        reason, was_ready = how_it_ended(self.process.exitcode), self.ready
        seconds = time.perf_counter() - self.began
        self.end()
        if not was_ready:
            raise RunError(
                f"a worker process {reason} before it was ready; a script that gives workers its own classes needs "
                "`if __name__ == '__main__':` around what it does"
            )
        return Estimate(math.nan, Cost(seconds), {}, f"the worker process {reason}")

    def end(self) -> None:
        """Ends the process, at once."""
        if self.connection is not None:
            self.connection.close()
        if self.process is not None and self.process.is_alive():
            self.process.terminate()
            self.process.join(5)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
        self.process = self.connection = self.job = None
        self.again = False


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


def how_it_ended(exitcode: int | None) -> str:
    """Returns what an exit code means, in words."""
    if exitcode is not None and exitcode < 0:
        hint = " (the system may have run out of memory)" if exitcode == -signal.SIGKILL else ""
        return f"was ended by signal {signal.Signals(-exitcode).name}{hint}"
    return f"ended with exit code {exitcode}"


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.end()
