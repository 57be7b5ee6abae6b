"""A worker that joins a folder in which a driver lays down jobs (:mod:`archduel.execution.folder`), until there is nothing more to do."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from archduel.core import Estimate
from archduel.core.storage import write_records
from archduel.errors import RunError
from archduel.execution.folder import (
    FIRST_POLL,
    LONGEST_POLL,
    Beating,
    Places,
    Still,
    entries,
    host_name,
    read_driver,
    records_in,
)
from archduel.execution.judging import Judge
from archduel.execution.letters import outcome_records, read_job
from archduel.execution.tries import Job, Trouble
from archduel.execution.workers import Worker, crew, over

__all__ = ["WAIT", "join"]

WAIT = 600.0
"""Seconds that a worker waits for a driver, for one that begins or goes on."""
ASK = 1.0  # seconds between two questions while there is no driver


def join(
    folder: Path, prepare: Callable[[Mapping[str, Any]], Callable[[], Judge]], *, workers: int | None = 1, wait: float = WAIT,
    finished: Callable[[], bool] = lambda: False, say: Callable[[str], None] = lambda text: None,
    environments: Callable[[], Sequence[Mapping[str, str]]] = lambda: ({},),
) -> int:  # fmt: skip
    """Does jobs until the run is finished, and returns how many.

    Args:
        folder: where driver and workers meet.
        prepare: is told what the run is about, refuses what does not agree, and returns the factory that makes a judge in a process.
        workers: processes; None = as many as there are environments.
        wait: seconds without a driver after which it leaves.
        finished: whether there is nothing more to do, asked while nobody drives.
        say: is told what happens.
        environments: says what the processes find in their environment, in turn; asked once the run is known.

    Raises:
        RunError: where no driver comes, or this machine cannot do what is asked.
    """
    worker = _Joined(folder, prepare, workers, wait, finished, say, environments)
    try:
        worker.go_on()
    finally:
        worker.leave()
    return worker.done


class _Joined:
    """The processes of one worker and the jobs that they have."""

    def __init__(
        self, folder: Path, prepare: Any, workers: int | None, wait: float, finished: Callable[[], bool], say: Callable[[str], None],
        environments: Callable[[], Sequence[Mapping[str, str]]],
    ) -> None:  # fmt: skip
        self.environments = environments
        self.folder, self.places, self.prepare, self.number, self.wait = folder, Places(folder), prepare, workers, wait
        self.finished, self.say, self.done = finished, say, 0
        self.name = f"{host_name()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.driver: dict[str, Any] = {}
        self.workers: list[Worker] = []
        self.claims: dict[int, Path] = {}  # number of a process -> the file of the job that it has
        self._beating: Beating | None = None
        self._still = Still(2 * max(ASK, 30.0))
        self._asked = 0.0

    def go_on(self) -> None:
        """Does jobs until there is nothing more to do."""
        pause = FIRST_POLL
        while self._driven():
            took = self._claim()
            began = time.monotonic()
            answered = over(self.workers, pause)
            for job, outcome in answered:
                self._answer(job, outcome)
            pause = FIRST_POLL if took or answered else min(1.5 * pause, LONGEST_POLL)
            if not took and not answered:
                time.sleep(max(0.0, pause - (time.monotonic() - began)))

    def leave(self) -> None:
        """Ends the processes and gives back what they had."""
        for worker in self.workers:
            worker.end(at_once=True)
        for path in self.claims.values():
            name, token, _ = path.name.split(".", 2)
            with contextlib.suppress(OSError):
                os.rename(path, self.places.tasks / f"{name}.{token}.jsonl")
        self.claims.clear()
        if self._beating is not None:
            self._beating.end()

    # -- the driver -------------------------------------------------------------------------------------------------------

    def _driven(self) -> bool:
        """Returns whether to go on, asked every second: a driver may come, go, and be started again.

        Raises:
            RunError: where none comes.
        """
        now = time.monotonic()
        if self.driver and now - self._asked < ASK:
            return True
        self._asked = now
        driver = read_driver(self.places)
        beat = self.places.beat.read_bytes() if driver and self.places.beat.exists() else None
        still = self._still.seconds("driver", (driver and driver["session"], driver and driver["state"], beat))
        if driver is None or driver["state"] != "working":
            if self.finished():
                return False
            self._no_driver(still)
            time.sleep(ASK)
            return True
        if still > self.wait:
            self._no_driver(still)
        if driver["session"] != self.driver.get("session"):
            self._prepare(driver)
        self._drop_taken()
        return True

    def _no_driver(self, still: float) -> None:
        if still > self.wait and not self.claims:
            raise RunError(f"nobody has driven the run in {self.folder.parent} for {still:.0f} s; start it with --executor folder, then join it")

    def _prepare(self, driver: dict[str, Any]) -> None:
        """Makes ready for a driver; one that was started again with the same work finds the processes as they are."""
        if driver["identity"] != self.driver.get("identity"):
            factory = self.prepare(driver["about"])
            for worker in self.workers:
                worker.end(at_once=True)
            found = self.environments()
            self.workers = crew(factory, int(driver["threads"]), driver["idle"], driver["limit"], self.number or len(found), found)
            self.claims.clear()
        if self._beating is None:
            self._beating = Beating(self.places.workers / self.name, float(driver["beat"]))
        self.say(f"{self.name} works for process {driver['process']} of {driver['host']}")
        self.driver = driver

    def _drop_taken(self) -> None:
        """Ends the processes whose job was given to somebody else, or is not wanted any more."""
        for number, path in list(self.claims.items()):
            if not path.exists():
                self.say(f"{path.name.split('.')[0]} is not wanted any more")
                self.workers[number].end(at_once=True)
                del self.claims[number]

    # -- jobs -------------------------------------------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Takes a job for each process that has none; returns whether there was any."""
        if not self.driver:
            return False
        took = False
        for number, worker in enumerate(self.workers):
            if worker.job is None:
                job = self._next(number)
                if job is None:
                    break
                took = True
                worker.begin(job)
        return took

    def _next(self, number: int) -> Job | None:
        """Returns a job that is this worker's now, None where there is none."""
        for path, match in entries(self.places.tasks):
            target = self.places.claimed / f"{match['name']}.{match['token']}.{self.name}.jsonl"
            try:
                os.rename(path, target)
            except FileNotFoundError:
                # another one was first; or over a network the answer to a rename that was made got lost
                if not target.exists():
                    continue
            read = read_job(records_in(target))
            if read is None:  # not whole: the driver notices that nobody has it
                target.unlink(missing_ok=True)
                continue
            if read[1] != self.driver["identity"]:  # of a driver that has just begun, which is asked first
                os.rename(target, path)
                self._asked = 0.0
                return None
            self.claims[number] = target
            return replace(read[0], place=number)
        return None

    def _answer(self, job: Job, outcome: list[Estimate] | Trouble) -> None:
        """Writes down what a job came to."""
        path = self.claims.pop(job.place, None)
        if path is None:
            return
        name, token, _ = path.name.split(".", 2)
        write_records(self.places.answers / f"{name}.{token}.jsonl", outcome_records(job, outcome), durable=False)
        path.unlink(missing_ok=True)
        self.done += 1
