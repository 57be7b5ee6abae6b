"""Judges that run in worker processes; they must be importable there."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from archduel.core import Cost, Estimate, Query

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
    """Fails for 1, dies for 2, cannot send its answer for 3."""
    what = query.arch.choices[0]
    if what == 1:
        raise ValueError("one is too few")
    if what == 2:
        os.kill(os.getpid(), signal.SIGKILL)
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
