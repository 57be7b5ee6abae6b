"""Judging queries by workers on any machine that sees a folder: what is to be done lies in it, and so does what came of it.

    FOLDER/driver.json, driver.beat   who drives, on what, and that it lives
    FOLDER/tasks/NAME.TOKEN.jsonl     a job that nobody has yet
    FOLDER/claimed/NAME.TOKEN.WORKER.jsonl   the same file, renamed by the worker that took it: of two, one alone can
    FOLDER/answers/NAME.TOKEN.jsonl   what came of it
    FOLDER/workers/WORKER             a number that the worker counts up while it lives

``NAME`` is the first ordinal of a job and a digest of all that decides its answers, so that the answer to a job of before a driver was killed
counts. Clocks of two machines are never compared: whoever watches another looks, on a clock of its own, whether what that one writes still
changes. Files are the records of a journal (:mod:`archduel.execution.letters`); nothing that is read here is executed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from archduel.core import Estimate, Query
from archduel.core.disk import read_json, write_atomic
from archduel.core.storage import read_journal, record_query, write_records
from archduel.errors import DamagedError, RunError, SettingError
from archduel.execution.judging import AtOnce, one_by_one
from archduel.execution.letters import identity_of, job_digest, job_records, read_outcome
from archduel.execution.tries import CONTROL, Job, Rounds, Trouble
from archduel.text import typed

__all__ = ["BEAT", "ENTRY", "LEASE", "Beating", "Folder", "Places", "Still", "entries", "host_name", "read_driver", "records_in"]

BEAT, LEASE = 10.0, 120.0
"""Seconds between two signs of life; without any for how long a worker has vanished. Network file systems show a change up to a minute late."""
FIRST_POLL, LONGEST_POLL = 0.002, 0.25  # seconds between two looks for answers: short while they come, long while trainings run
LONELY = 30.0  # seconds without any worker after which that is said
ENTRY = re.compile(r"(?P<name>\d{9,}-[0-9a-f]{16})\.(?P<token>[0-9a-f]{8})(\.(?P<worker>[\w-]{1,90}))?\.jsonl")


class Places:
    """The folders below one where workers meet."""

    def __init__(self, folder: Path) -> None:
        self.driver, self.beat = folder / "driver.json", folder / "driver.beat"
        self.tasks, self.claimed, self.answers, self.workers = (folder / name for name in ("tasks", "claimed", "answers", "workers"))

    def make(self) -> None:
        """Makes those that are not there."""
        for path in (self.tasks, self.claimed, self.answers, self.workers):
            path.mkdir(parents=True, exist_ok=True)


def host_name() -> str:
    """Returns this machine's name, as files are named."""
    return re.sub(r"[^\w-]", "_", socket.gethostname())[:60] or "host"


def entries(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    """Yields (path, parts of the name) of the jobs in a folder, in the order of their ordinals."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            if match := ENTRY.fullmatch(name):
                yield folder / name, match


def records_in(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a file that another machine writes; none where it is gone or not whole."""
    try:
        return read_journal(path)
    except RunError:
        return []


def read_driver(places: Places) -> dict[str, Any] | None:
    """Returns what the driver says of itself and the run, None while there is none."""
    needed = {"session": str, "identity": str, "about": dict, "beat": (int, float), "lease": (int, float), "state": str, "host": str, "process": int}
    try:
        return read_json(places.driver, needed) if places.driver.exists() else None  # type: ignore[arg-type]
    except DamagedError:
        return None


class Beating:
    """Counts up a number in a file, from a thread of its own, until it is ended.

    Args:
        path: of the file.
        every: seconds between two numbers.
    """

    def __init__(self, path: Path, every: float) -> None:
        self.path, self.every, self._end, self._number = path, every, threading.Event(), 0
        self.beat()
        self._thread = threading.Thread(target=self._go_on, daemon=True, name="beat")
        self._thread.start()

    def beat(self) -> None:
        """Writes the next number; a file system that refuses it now may take the next."""
        self._number += 1
        with contextlib.suppress(OSError):
            write_atomic(self.path, b"%d" % self._number, durable=False)

    def _go_on(self) -> None:
        while not self._end.wait(self.every):
            self.beat()

    def end(self) -> None:
        """Ends it and removes the file."""
        self._end.set()
        self._thread.join(5)
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class Still:
    """Says for how long something has looked the same, on this machine's clock alone.

    Args:
        longest: seconds between two looks that count at most: whoever was stopped itself, or slept, has not watched meanwhile.
    """

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self._seen: dict[str, tuple[Any, float, float]] = {}  # what it was, when it was looked at last, for how long it has been so

    def seconds(self, key: str, content: Any) -> float:
        """Returns for how long ``key`` has been ``content``; 0 for what changed since the last look."""
        now = time.monotonic()
        before = self._seen.get(key)
        same = 0.0 if before is None or before[0] != content else before[2] + min(now - before[1], self.longest)
        self._seen[key] = (content, now, same)
        return same

    def keep(self, keys: set[str]) -> None:
        """Forgets all but ``keys``."""
        self._seen = {key: value for key, value in self._seen.items() if key in keys}


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()[:64]
    except OSError:
        return None


class Folder:
    """An executor whose workers join a folder (:func:`archduel.execution.joined.join`), from whatever machine.

    Args:
        folder: where they meet; made if it is not there.
        about: what a worker has to know and to agree with, as JSON; what answers depend on beside query and seed.
        run_seed: seed of the run; with the ordinal it gives the seed of an evaluation.
        threads: of each training.
        at_once: how many waiting queries are one job.
        beat: seconds between two signs of life.
        lease: seconds without one after which a worker has vanished, and its job is another's.
        idle: seconds after which a training that computes nothing is ended, None for judges that wait for something else.
        limit: seconds that a job may take, None for any time.
        written: (ordinal, query) of answers that are written down already: what lies here of them is of before, and not wanted.
        say: is told that there is no worker.

    Raises:
        SettingError: for a lease that is not at least three beats long.
    """

    def __init__(
        self, folder: Path, about: Mapping[str, Any], *, run_seed: int, threads: int = 1, at_once: AtOnce = one_by_one, beat: float = BEAT,
        lease: float = LEASE, idle: float | None = None, limit: float | None = None,
        written: Collection[tuple[int, Query]] = (), say: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        if not 0 < beat * 3 <= lease:
            raise SettingError(f"executor.lease must be at least three times executor.beat = {beat:g} s, got {lease:g} s")
        self.folder, self.about, self.written, self.say = folder, dict(about), written, say
        self.threads, self.beat, self.lease, self.idle, self.limit = threads, beat, lease, idle, limit
        self.places, self.identity, self.session = Places(folder), identity_of(about), ""
        self._rounds = Rounds(self, run_seed, at_once)
        self._beating: Beating | None = None
        self._jobs: dict[str, tuple[Job, str, float]] = {}  # name -> job, token, when it was given away
        self._read: list[tuple[int, Path]] = []  # answers that are not written down yet: place of the last query, file
        self._still, self._looked = Still(2 * beat), 0.0
        self._lonely, self._spoken = 0.0, False

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query in the order given, each as soon as it and all before it are there.

        Raises:
            MachineError: where workers vanish again and again.
            RunError: where another driver works on the folder.
        """
        if self._beating is None:
            self._start()
        place = -1
        try:
            for place, estimate in enumerate(self._rounds.run(queries, ordinals)):
                yield estimate
                # whoever asks for the next one has written this one down
                self._forget(place)
        finally:  # nobody asks for one after the last
            self._forget(place)

    def close(self) -> None:
        """Says that nobody drives any more; workers wait for a while, and leave where the run is finished."""
        if self._beating is None:
            return
        for path, _ in entries(self.places.tasks):  # what somebody has already is finished there: its answer waits for the next driver
            path.unlink(missing_ok=True)
        self._jobs.clear()
        self._beating.end()
        self._beating = None
        if (driver := read_driver(self.places)) and driver["session"] == self.session:
            self._write_driver("closed")

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- who drives -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Takes the folder.

        Raises:
            RunError: where somebody else on another machine has it, which not every file system's locks tell.
        """
        self.places.make()
        other = read_driver(self.places)
        if other is not None and other["state"] == "working" and other["host"] != host_name():
            self._refuse_living(other)
        for path, _ in entries(self.places.tasks):  # of a driver that was killed; what is still wanted is laid down again
            path.unlink(missing_ok=True)
        for path, _ in entries(self.places.answers):
            known = [(int(record["ordinal"]), record_query(record)) for record in records_in(path)[1:] if record.get("event") == "estimate"]
            if all(each in self.written for each in known):
                path.unlink(missing_ok=True)
        self.session = secrets.token_hex(8)
        self._write_driver("working")
        self._beating = Beating(self.places.beat, self.beat)
        self._looked = self._lonely = time.monotonic()

    def _refuse_living(self, other: Mapping[str, Any]) -> None:
        """Raises RunError where another driver's number still rises, which takes three of its beats to know."""
        before, until = _content(self.places.beat), time.monotonic() + 3 * float(other["beat"])
        if before is not None:
            self.say(f"{self.folder} was driven from {other['host']}; looking for {3 * float(other['beat']):.0f} s whether it still is ...")
        while before is not None and time.monotonic() < until:
            time.sleep(min(1.0, self.beat))
            if _content(self.places.beat) not in (before, None):
                raise RunError(f"{self.folder} is in use by process {other['process']} of {other['host']}; wait for it or stop it")

    def _write_driver(self, state: str) -> None:
        content = {
            "session": self.session, "identity": self.identity, "state": state, "host": host_name(), "process": os.getpid(), "beat": self.beat,
            "lease": self.lease, "threads": self.threads, "idle": self.idle, "limit": self.limit, "about": self.about,
        }  # fmt: skip
        write_atomic(self.places.driver, json.dumps(content, indent=1).encode() + b"\n")

    # -- as the crew ------------------------------------------------------------------------------------------------------

    def busy(self) -> list[Job]:
        """Returns the jobs that are given away and not over."""
        return [job for job, _, _ in self._jobs.values()]

    def free(self) -> bool:
        """Returns True: all that is asked for at a time lies there, whoever there is to take it."""
        return True

    def begin(self, job: Job) -> None:
        """Lays a job into the folder; one that lies there or is being done, from before this driver was started again, is waited for."""
        name = f"{job.ordinals[0]:09d}-{job_digest(self.identity, job)}"
        begun = [match["token"] for _, match in entries(self.places.claimed) if match["name"] == name]
        token = begun[0] if begun and not job.failures else secrets.token_hex(4)
        self._jobs[name] = (job, token, time.monotonic())
        answers = [path for path, match in entries(self.places.answers) if match["name"] == name]
        if job.place == CONTROL:  # what came of it before may still lie here, and whether it can be done again is the question
            for path in answers:
                path.unlink(missing_ok=True)
            answers = []
        if token not in begun and not any(isinstance(read_outcome(job, records_in(path)), list) for path in answers):
            write_records(self.places.tasks / f"{name}.{token}.jsonl", job_records(job, self.identity), durable=False)

    def over(self) -> list[tuple[Job, list[Estimate] | Trouble]]:
        """Waits a little and returns what is over."""
        pause, until = FIRST_POLL, time.monotonic() + self.beat
        while True:
            found = self._answered()
            if time.monotonic() - self._looked >= self.beat / 2:
                found += self._vanished()
            if found or time.monotonic() > until:
                return found
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_POLL)

    def abandon(self) -> None:
        """Takes what nobody waits for any more out of the folder; a worker that has it notices."""
        for place in (self.places.tasks, self.places.claimed):
            for path, match in entries(place):
                if match["name"] in self._jobs:
                    path.unlink(missing_ok=True)
        self._jobs.clear()

    def _answered(self) -> list[tuple[Job, list[Estimate] | Trouble]]:
        """Returns the jobs whose answers are there."""
        found: list[tuple[Job, list[Estimate] | Trouble]] = []
        for path, match in entries(self.places.answers):
            if match["name"] not in self._jobs:
                continue
            job, token, _ = self._jobs[match["name"]]
            outcome = read_outcome(job, records_in(path))
            # trouble of before a driver was killed is no news; an answer is, whoever asked for it
            if outcome is None or (isinstance(outcome, Trouble) and match["token"] != token):
                path.unlink(missing_ok=True)
                continue
            if isinstance(outcome, Trouble):
                path.unlink(missing_ok=True)
            else:
                self._read.append((job.place + len(job.queries) - 1, path))
            self._take(match["name"])
            found.append((job, outcome))
        return found

    def _take(self, name: str) -> None:
        """Takes a job off the list; whoever else has it notices that it is not wanted any more."""
        del self._jobs[name]
        for place in (self.places.tasks, self.places.claimed):
            for path, match in entries(place):
                if match["name"] == name:
                    path.unlink(missing_ok=True)

    def _forget(self, place: int) -> None:
        """Removes the answers to queries up to ``place``."""
        for last, path in self._read:
            if last <= place:
                path.unlink(missing_ok=True)
        self._read = [each for each in self._read if each[0] > place]

    def _vanished(self) -> list[tuple[Job, list[Estimate] | Trouble]]:
        """Returns the jobs whose worker gives no sign of life, or which nobody has.

        Raises:
            RunError: where another driver has taken the folder.
        """
        self._looked = now = time.monotonic()
        driver = read_driver(self.places)
        if driver is not None and driver["session"] != self.session:
            raise RunError(f"{self.folder} was taken by process {driver['process']} of {driver['host']} meanwhile; this one stops")
        waiting = {match["name"] for _, match in entries(self.places.tasks)}
        claims = {match["name"]: match["worker"] for _, match in entries(self.places.claimed)}
        found: list[tuple[Job, list[Estimate] | Trouble]] = []
        for name, (job, _, began) in list(self._jobs.items()):
            worker = claims.get(name)
            if name in waiting and worker is None:
                continue
            still = self._still.seconds(f"{name} {worker}", None if worker is None else _content(self.places.workers / worker))
            if still >= self.lease:
                gone = f"worker {worker} gave no sign of life for {self.lease:g} s" if worker else f"its task was lost from {self.places.tasks}"
                self._take(name)
                found.append((job, Trouble(gone, True, now - began)))
        self._still.keep({f"{name} {claims.get(name)}" for name in self._jobs} | {"workers"})
        self._say_lonely(now)
        return found

    def _say_lonely(self, now: float) -> None:
        """Says once that nobody works here."""
        living = tuple((path.name, _content(path)) for path in sorted(self.places.workers.glob("*")))
        if self._still.seconds("workers", living) == 0 and living:
            self._lonely, self._spoken = now, False
        if now - self._lonely > max(LONELY, 3 * self.beat) and not self._spoken:
            self._spoken = True
            self.say(f"no worker is there; start some on any machine that sees the folder: archduel worker --join {typed(self.folder.parent)}")
