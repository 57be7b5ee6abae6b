"""Judges that run in worker processes; they must be importable there."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from archduel.core import Arch, Cost, Estimate, Query
from archduel.errors import DamagedError, RunError

COUNTED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def judge(query: Query, seed: int) -> Estimate:
    """Scores by the seed; later queries are sooner done."""
    time.sleep(0.05 / (1 + query.arch.choices[0]))
    return Estimate(seed + query.arch.choices[0] / 100, Cost(1.0, 10), {"worker": os.getpid()})


def factory():
    return judge


def ignoring(data: bytes):
    return judge


def quick_factory():
    return lambda query, seed: Estimate(seed, Cost(), {"worker": os.getpid()})


def threads_factory():
    import torch

    return lambda query, seed: Estimate(
        torch.get_num_threads(), Cost(), {name: os.environ[name] for name in COUNTED}
    )


def faulty(query: Query, seed: int) -> Estimate:
    """Fails for 1, dies of itself for 2, cannot send its answer for 3, and is killed for 8."""
    what = query.arch.choices[0]
    if what == 1:
        raise ValueError("one is too few")
    if what in (2, 8):
        os.kill(os.getpid(), signal.SIGSEGV if what == 2 else signal.SIGKILL)
    if what == 3:
        return Estimate(0.0, Cost(), {"bad": lambda: None})
    return Estimate(float(what), Cost(), {"worker": os.getpid()})


class Together:
    """Judges groups as ``faulty`` does single queries, and notes how many there were; dies of a group with a 2."""

    def __call__(self, query: Query, seed: int) -> Estimate:
        return faulty(query, seed)

    def together(self, queries, seeds) -> list[Estimate]:
        answers = [faulty(query, seed) for query, seed in zip(queries, seeds)]
        return [Estimate(one.score, one.cost, {**one.values, "n": len(answers)}) for one in answers]


def faulty_factory():
    return faulty


def broken_factory():
    raise FileNotFoundError("no images here")


def dying_factory():
    os._exit(7)


@dataclass(frozen=True)
class Sleeper:
    """Answers 0 at once; for others writes the worker's process number into a folder and then works for long."""

    folder: Path

    def __call__(self):
        def judge(query: Query, seed: int) -> Estimate:
            if query.arch.choices[0] == 0:
                return Estimate(0.0)
            (self.folder / str(os.getpid())).touch()
            time.sleep(600)
            return Estimate(1.0)

        return judge


def counted(folder: Path, query: Query) -> int:
    """Returns how often this query was tried before, in whatever process."""
    path = folder / f"tried-{query.arch.choices[0]}"
    with open(path, "ab") as file:
        file.write(b".")
    return path.stat().st_size - 1


@dataclass
class Troubled:
    """The first ``times`` tries at a query of 10 or more end as ``how`` says; others are answered."""

    folder: Path
    how: str
    times: int

    def __call__(self):
        return self.judge

    def judge(self, query: Query, seed: int) -> Estimate:
        number = query.arch.choices[0]
        if number >= 10 and counted(self.folder, query) < self.times:
            if self.how in ("SIGKILL", "SIGSTOP", "SIGSEGV", "SIGTERM", "SIGBUS"):
                os.kill(os.getpid(), getattr(signal, self.how))
            if self.how == "sleep":
                time.sleep(1000)
            while self.how == "spin":
                pass
            if self.how == "gpu":
                return Estimate(float("nan"), Cost(), {}, "out of memory: CUDA out of memory")
            raise TROUBLES[self.how]
        return Estimate(float(number), Cost(), {"worker": os.getpid()})

    def together(self, queries, seeds):
        return [self.judge(query, seed) for query, seed in zip(queries, seeds)]


TROUBLES: dict[str, Exception] = {
    "disk": OSError(28, "No space left on device"),
    "quota": OSError(122, "Disk quota exceeded"),
    "memory": MemoryError(),
    "allocator": RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes"),
    "cuda": RuntimeError("CUDA out of memory. Tried to allocate 9.00 GiB"),
    "threads": RuntimeError("can't start new thread"),
    "damaged": DamagedError("checkpoint is not a saved state"),
    "wrapped": ValueError("a strange place"),
}
TROUBLES["wrapped"].__cause__ = OSError(5, "Input/output error")


@dataclass
class Late:
    """A factory that the first ``times`` processes die in before they say that they are ready."""

    folder: Path
    times: int

    def __call__(self):
        if counted(self.folder, Query(Arch("s", (0,)))) < self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return lambda query, seed: Estimate(1.0)


@dataclass(frozen=True)
class Once:
    """The first process that gets a query of 1 or more leaves a file and then works for long; the next one answers."""

    folder: Path

    def __call__(self):
        def judge(query: Query, seed: int) -> Estimate:
            if query.arch.choices[0] and counted(self.folder, query) == 0:
                time.sleep(600)
            return Estimate(float(query.arch.choices[0]))

        return judge


@dataclass(frozen=True)
class DiffersOnce:
    """One of the processes says that this machine has another version."""

    folder: Path

    def __call__(self):
        if counted(self.folder, Query(Arch("s", (0,)))) == 0:
            raise RunError("archduel is 1 here, 9 there")
        return judge


@dataclass(frozen=True)
class Fits:
    """Makes a judge that has the memory for groups of ``most`` and for none with a query of 100 or more; else it fails as ``how`` says."""

    how: str
    most: int
    full: Path | None = None
    """Once somebody has asked for a query of 100 or more, a file that says that the machine has no memory for anything any more."""

    def __call__(self):
        return Fitting(self)


@dataclass(frozen=True)
class Fitting:
    """The judge."""

    made_by: Fits

    def __call__(self, query: Query, seed: int) -> Estimate:
        return self.together([query], [seed])[0]

    def together(self, queries, seeds) -> list[Estimate]:
        full, large = self.made_by.full, any(query.arch.choices[0] >= 100 for query in queries)
        if full is not None and large:
            full.touch()
        if len(queries) > self.made_by.most or large or (full is not None and full.exists()):
            if self.made_by.how == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            raise TROUBLES[self.made_by.how]
        return [Estimate(float(query.arch.choices[0]), Cost(), {"n": len(queries)}) for query in queries]


two_fit = Fits("allocator", 2)


def shown(query: Query, seed: int) -> Estimate:
    """Says which devices this process is shown, and takes so long that another one does the next."""
    time.sleep(0.5)
    return Estimate(0.0, Cost(), {"shown": os.environ.get("CUDA_VISIBLE_DEVICES", "all"), "worker": os.getpid()})


def shown_factory():
    return shown
