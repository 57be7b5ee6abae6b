"""A judge that sleeps, and a worker and a driver of a small search with it: what ``executors.py`` starts and kills.

    python benchmarks/sleeping.py drive KIND FOLDER SECONDS        python benchmarks/sleeping.py join FOLDER WORKERS
"""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from archduel.core import Budget, Cost, Estimate, Query, sample, search
from archduel.core.job import RUN, WORK, Job
from archduel.core.storage import record_query
from archduel.execution import Folder, Processes, RayTasks, Sequential, join
from archduel.execution.cluster import cluster_address
from archduel.spaces.lookup import open_space
from archduel.strategies.evolution import RegularizedEvolution

KINDS = ("local", "processes", "folder", "ray")


@dataclass(frozen=True)
class Sleeping:
    """Makes the judge: it sleeps so long, and scores by a hash of query and seed."""

    seconds: float

    def __call__(self) -> Any:
        return self.judge

    def judge(self, query: Query, seed: int) -> Estimate:
        if self.seconds:
            time.sleep(self.seconds)
        digest = hashlib.sha256(f"{query.arch} {query.fidelity} {seed}".encode()).digest()
        return Estimate(int.from_bytes(digest[:4], "big") / 2**32, Cost(1.0, 10), {"seed": seed})


def prepared(about: Any) -> Sleeping:
    """Returns the factory that a driver's text means."""
    return Sleeping(float(about["seconds"]))


def executor(kind: str, folder: Path, seconds: float, workers: int, written: Any = ()) -> Any:
    """Returns an executor of that kind; ``ray`` is the cluster of RAY_ADDRESS."""
    factory = Sleeping(seconds)
    if kind == "local":
        return Sequential(factory(), run_seed=5)
    if kind == "processes":
        return Processes(factory, workers=workers, run_seed=5)
    if kind == "folder":
        return Folder(folder / WORK, {"seconds": seconds}, run_seed=5, beat=0.5, lease=5.0, written=written)
    return RayTasks(factory, run_seed=5, address=cluster_address("ray"), cpus=1)


def drive(kind: str, folder: Path, seconds: float) -> None:
    """Searches in three stages as ``archduel search`` does: labels, trainings of the best again, final ones."""
    with Job(folder, RUN, {"run": {"seed": 5}}) as job:
        written = {(int(record["ordinal"]), record_query(record)) for record in job.journal.records if record["event"] == "estimate"}
        made = executor(kind, folder, seconds, 2, written)
        try:
            space = open_space("nasbench201")
            strategy = RegularizedEvolution(space, rng=np.random.default_rng(5), population=6, tournament=3)
            told = search(strategy, made, budget=Budget(evaluations=16), window=4, journal=job.part("label")).told
            best = sorted(told, key=lambda each: -each.estimate.score)[:4]
            for first, stage in ((1000, "reevaluate"), (2000, "final")):
                queries = [Query(each.query.arch, stage) for each in best]
                list(job.paid(made.run, queries, range(first, first + 4), stage=stage))
        finally:
            made.close()
        job.write("result.json", {"best": str(best[0].query.arch)})


def queries(n: int) -> list[Query]:
    """Returns so many queries."""
    rng, space = np.random.default_rng(0), open_space("nasbench201")
    return [Query(sample(space, rng)) for _ in range(n)]


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    sys.modules["sleeping"] = sys.modules["__main__"]
    from sleeping import Sleeping as Importable  # the same class under the name that other processes know

    if what == "drive":
        Importable.__module__ = "sleeping"
        drive(given[0], Path(given[1]), float(given[2]))
    else:
        Importable.__module__ = "sleeping"
        place = Path(given[0])
        print("done", join(place / WORK, partial(prepared), workers=int(given[1]), wait=60, finished=(place / "result.json").is_file, say=print))
