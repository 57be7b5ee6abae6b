"""Judging queries in worker processes of this machine.

Which worker takes a query depends on who is free; the answers do not: an evaluation's seed depends on the run's seed and
its ordinal only, and every worker computes with the same number of threads.

Whose fault a failure is decides what becomes of it (:mod:`archduel.execution.tries`); what is tried again is given to a fresh worker. A worker
that stopped computing is ended.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from typing import Any

from archduel.core import Estimate, Query
from archduel.core.pulse import SHOWN, show
from archduel.errors import (
    ArchduelError,
    MachineError,
    RunError,
    SettingError,
    in_one_line,
    of_the_machine,
    short_of_memory,
)
from archduel.execution.judging import ATTEMPTS, AtOnce, Judge, all_judged, one_by_one
from archduel.execution.processes import (
    MACHINES,
    THREADS,
    Watch,
    children_allowed,
    end_with_parent,
    how_it_ended,
    main_hidden,
    memory_kills,
)
from archduel.execution.tries import Job, Rounds, Trouble

__all__ = ["BROKEN", "DONE", "IDLE", "LOOK_EVERY", "READY", "SHORT", "TAKEN", "TROUBLE", "Processes", "Worker", "crew", "over", "work"]

# -- What runs inside a worker process ----------------------------------------------------------------------------------


READY, BROKEN, TAKEN, DONE, TROUBLE, SHORT = "ready", "broken", "taken", "done", "trouble", "short"


def work(connection: Connection, threads: int, pulse: Any = None, environment: Mapping[str, str] | None = None) -> None:
    """Judges what comes through the pipe until it closes.

    Args:
        connection: gives the pickled factory that makes the judge, then (run, place, queries, seeds); takes (READY, "") or
            (BROKEN, traceback) or (TROUBLE, reason) once, and (TAKEN, ""), then (DONE, estimates), (TROUBLE, reason) or (SHORT, reason), of
            memory, for every group of queries.
        threads: for torch and BLAS.
        pulse: shared memory in which it shows that it gets on.
        environment: what libraries find that are loaded from here on, such as which devices there are.
    """
    os.environ.update(environment or {})
    if pulse is not None:
        show(pulse)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides what ends
    end_with_parent()
    os.environ.update(dict.fromkeys(THREADS, str(threads)))  # for libraries that are not loaded yet
    try:
        _limit_torch(threads)
        factory: Callable[[], Judge] = ForkingPickler.loads(connection.recv_bytes())
        judge = factory()
        _limit_torch(threads)
    except Exception as error:
        passing = of_the_machine(error) and not isinstance(error, FileNotFoundError)  # a file that is not there will not come
        ours = str(error) if isinstance(error, ArchduelError) else traceback.format_exc()
        connection.send((TROUBLE, in_one_line(error)) if passing else (BROKEN, ours))
        return
    connection.send((READY, ""))
    try:
        while True:
            _, _, queries, seeds = connection.recv()
            connection.send((TAKEN, ""))
            _answer(connection, judge, queries, seeds)
    except (EOFError, ConnectionError):  # a parent that ends with answers unread resets the pipe: no news to anybody
        return


def _answer(connection: Connection, judge: Judge, queries: Sequence[Query], seeds: Sequence[int]) -> None:
    """Sends the estimates (failed ones if they hold something that cannot be sent), or the machine's trouble."""
    try:
        estimates = all_judged(judge, queries, seeds)
    except Exception as error:
        connection.send((SHORT if short_of_memory(error) else TROUBLE, in_one_line(error)))
        return
    try:
        connection.send((DONE, list(estimates)))
    except (PicklingError, AttributeError, TypeError) as error:  # what pickle raises; nothing was sent yet
        reason = f"the answer cannot be sent: {error}"
        connection.send((DONE, [Estimate(math.nan, estimate.cost, {}, reason) for estimate in estimates]))


def _limit_torch(threads: int) -> None:
    """Sets torch's threads if it is loaded; a judge that needs no torch does not pay for its import."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


# -- The executor -------------------------------------------------------------------------------------------------------


MAIN = b"__main__"
"""Stands in a pickled factory that is defined in the script itself; its workers have to run that first."""
IDLE = 60.0
"""Seconds after which a training that computes nothing hangs: a stopped process, a lock that nobody opens."""
LOOK_EVERY = 2.0  # seconds between two looks at what busy workers do


class Processes:
    """An executor with ``workers`` processes that are started at the first run and then kept.

    Workers end when this process does, however it ends.

    Args:
        factory: called once in each worker, returns ``judge(query, seed)``; must be picklable.
        workers: number of processes.
        run_seed: seed of the run; with the ordinal it gives the seed of an evaluation.
        threads: of each worker, for torch and BLAS.
        at_once: how many waiting queries a worker judges as one group; the judge is then a :class:`GroupJudge`.
        idle: seconds after which a busy worker that computes nothing is ended, and one that is ten times as long at a batch; None for judges that wait for something else.
        limit: seconds that a job may take, None for any time.
        environments: what the processes find in their environment, in turn (:func:`archduel.execution.devices.device_environments`).

    Raises:
        SettingError: for fewer than one worker or thread.
    """

    def __init__(
        self, factory: Callable[[], Judge], *, workers: int, run_seed: int, threads: int = 1, at_once: AtOnce = one_by_one,
        idle: float | None = None, limit: float | None = None, environments: Sequence[Mapping[str, str]] = ({},),
    ) -> None:  # fmt: skip
        for name, value in (("workers", workers), ("threads", threads)):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}")
        self.factory, self.run_seed, self.threads, self.at_once, self.idle = factory, run_seed, threads, at_once, idle
        self._workers = crew(factory, threads, idle, limit, workers, environments)
        self._rounds = Rounds(_Crew(self._workers), run_seed, at_once)
        self._finalizer = weakref.finalize(self, _end, self._workers)

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query in the order given, each as soon as it and all before it are there.

        One run at a time: a new one drops what an unfinished one still waits for.

        Raises:
            MachineError: where the machine fails again and again.
            RunError: if a worker cannot be prepared.
        """
        return self._rounds.run(queries, ordinals)

    def close(self) -> None:
        """Ends the workers at once, whatever they are doing; a later run starts them anew."""
        _end(self._workers)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Crew:
    """The processes, as those who judge."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers

    def busy(self) -> list[Job]:
        return [worker.job for worker in self.workers if worker.job is not None]

    def free(self) -> bool:
        return any(worker.job is None for worker in self.workers)

    def begin(self, job: Job) -> None:
        next(worker for worker in self.workers if worker.job is None).begin(job)

    def over(self) -> list[tuple[Job, list[Estimate] | Trouble]]:
        return over(self.workers, LOOK_EVERY)

    def abandon(self) -> None:
        """Nothing: they finish what they have, and its answers are dropped."""


def crew(
    factory: Callable[[], Judge], threads: int, idle: float | None, limit: float | None, n: int, environments: Sequence[Mapping[str, str]] = ({},)
) -> list[Worker]:
    """Returns ``n`` processes, not started yet; environments go round among them."""
    return [Worker(factory, threads, idle, limit, environments[place % len(environments)]) for place in range(n)]


def over(workers: Sequence[Worker], seconds: float) -> list[tuple[Job, list[Estimate] | Trouble]]:
    """Waits for busy workers and returns the jobs that are over, with their answers or why there are none.

    Args:
        workers: those that may be busy.
        seconds: to wait at most, for the first of them.

    Raises:
        MachineError: where processes die again and again before they are ready.
        RunError: if a worker cannot be prepared.
    """
    busy = {worker.connection: worker for worker in workers if worker.connection is not None and worker.job}
    found = [busy[connection].take() for connection in wait(list(busy), seconds)]  # type: ignore[index]
    found += [worker.looked_at() for worker in busy.values() if worker.job is not None]
    return [each for each in found if each is not None]


class Worker:
    """One process and the job it has.

    Args:
        factory: called in it, returns ``judge(query, seed)``; must be picklable.
        threads: for torch and BLAS.
        idle: as for :class:`Processes`.
        limit: seconds that a job may take at most, None for any time.
        environment: what it finds in its environment besides this process's.
    """

    def __init__(
        self, factory: Callable[[], Judge], threads: int, idle: float | None, limit: float | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.environment = dict(environment or {})
        self.factory, self.threads, self.idle, self.limit = factory, threads, idle, limit
        self.process: multiprocessing.process.BaseProcess | None = None
        self.connection: Connection | None = None
        self.watch: Watch | None = None
        self.pulse: Any = None
        self.ready = False
        self.taken = False  # whether the worker has said that it has its job
        self.unready = 0  # processes in a row that ended before they were ready
        self.job: Job | None = None
        self.began = 0.0
        self.kills = 0  # what the system had ended for memory when the process was started

    def begin(self, job: Job) -> None:
        """Takes a job; starts the process if there is none."""
        message = (job.run, job.place, job.queries, job.seeds)
        connection = self.connection or self._start()
        try:
            connection.send(message)
        except (BrokenPipeError, ConnectionResetError):  # it died while idle, which is not this query's fault
            self.end()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # that one's end is seen when its answer is waited for
                self._start().send(message)
        if self.idle is not None and self.process is not None:
            self.watch = Watch(self.process.pid or 0, self.idle, self.pulse, self.threads)
        self.job, self.taken, self.began = job, False, time.perf_counter()

    def _start(self) -> Connection:
        """Starts a process and gives it the factory.

        Raises:
            MachineError: where the system allows no more processes, files or memory.
        """
        self.kills = memory_kills()
        context = multiprocessing.get_context("spawn")  # fork would copy torch's threads in an unknown state
        factory = ForkingPickler.dumps(self.factory)
        try:
            self.connection, theirs = context.Pipe()
            self.pulse = None
            with contextlib.suppress(OSError):  # no room for a few bytes of shared memory: then only idleness is noticed
                self.pulse = context.RawArray("d", SHOWN)
            self.process = context.Process(target=work, args=(theirs, self.threads, self.pulse, self.environment), daemon=True)
            with main_hidden(MAIN not in bytes(factory)), children_allowed():
                self.process.start()
        except OSError as error:
            self.process = None
            self.end()
            raise MachineError(f"a worker process cannot be started: {in_one_line(error)}; the same command goes on once it can") from error
        theirs.close()  # the worker holds the only copy, so its death closes the pipe
        self.ready = False
        # not as an argument: a process that dies while it reads those leaves the one that writes them waiting
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # what became of it is seen when its answer is waited for
            self.connection.send_bytes(factory)
        return self.connection

    def take(self) -> tuple[Job, list[Estimate] | Trouble] | None:
        """Returns the job and its answers or why there are none; None while nothing is known."""
        assert self.connection is not None
        assert self.job is not None
        job = self.job
        try:
            kind, body = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._died(job)
        if kind == READY:
            self.ready, self.unready, self.began = True, 0, time.perf_counter()
        elif kind == TAKEN:
            self.taken = True
        elif kind == BROKEN:
            self.end()
            raise RunError(f"a worker could not be prepared:\n{body}")
        elif kind in (TROUBLE, SHORT):
            spent = time.perf_counter() - self.began
            self.end()  # a new process has all the memory that this one still holds
            return job, Trouble(body, True, spent, short=kind == SHORT)
        else:
            self.job = None
            return job, body
        return None

    def looked_at(self) -> tuple[Job, Trouble] | None:
        """Ends a worker that gets no further and returns its job; None for one that works."""
        job, spent = self.job, time.perf_counter() - self.began
        if job is None:
            return None
        reason = f"its training took longer than the limit of {self.limit:g} s" if self.limit and self.ready and spent > self.limit else ""
        if not reason and self.watch is not None and self.watch.hangs():
            reason = self.watch.reason
        if not reason:
            return None
        self.end(at_once=True)  # one that is stopped does not hear a polite request
        return job, Trouble(reason, True, spent, hung=True)

    def _died(self, job: Job) -> tuple[Job, list[Estimate] | Trouble] | None:
        """Returns the failure of the job that the process died in, or gives the job to a new one that the old one never saw."""
        assert self.process is not None
        self.process.join()
        code, was_ready, taken = self.process.exitcode, self.ready, self.taken
        reason, seconds = how_it_ended(code), time.perf_counter() - self.began
        self.end()
        by_machine = code is not None and -code in MACHINES
        if not was_ready:
            self.unready += 1
            if by_machine and self.unready < ATTEMPTS:
                self.begin(job)
                return None
            if by_machine:
                raise MachineError(f"{self.unready} worker processes in a row: the last one {reason} before it was ready; the same command goes on from there")
            raise RunError(
                f"a worker process {reason} before it was ready; a script that gives workers its own classes needs "
                "`if __name__ == '__main__':` around what it does"
            )
        if not taken and not job.failures:  # it died while idle, and the pipe stayed open a moment
            self.begin(replace(job, failures=1))
            return None
        short = by_machine and memory_kills() > self.kills
        return job, Trouble(f"the worker process {reason}", by_machine, seconds, short=short)

    def end(self, *, at_once: bool = False) -> None:
        """Ends the process; politely first, unless it does not hear."""
        if self.connection is not None:
            self.connection.close()
        if self.process is not None and self.process.is_alive():
            if not at_once:
                self.process.terminate()
                self.process.join(5)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
        self.process = self.connection = self.job = None


def _end(workers: list[Worker]) -> None:
    for worker in workers:
        worker.end()

