"""What many workers gain and lose: regret of wider windows on a table, and a simulation of 10 to 10,000 workers with measured constants.

    python benchmarks/executor_scale.py --table nasbench201/cifar10 --measured benchmarks/records/executors.json --out benchmarks/records/executor_scale.json

Regret: evolution (and random search, which no window changes) is asked for 1, 8 or 64 at a time, 192 evaluations in all; the best validation accuracy of the table minus the best that was found.
Simulation: the driver asks for a window of 2 or 8 trainings a worker, gives tasks away one after the other, journals answers in ask order, and asks again when all are there. Trainings take
``--seconds`` on average (log-normal, coefficient of variation ``--variation``). The paper's number next to it: no more than ``T / (driver's time a task)`` workers can be kept busy, and a round of
k trainings a worker waits for its last one, about ``T * variation * sqrt(2 ln N)`` after the mean one.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import shlex
import statistics
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from recording import write_record

from archduel import environment
from archduel.core import Budget, Local, Query, enumerate_space, search
from archduel.strategies.evolution import RegularizedEvolution
from archduel.strategies.random import RandomSearch
from archduel.tables import open_table
from archduel.tables.estimator import TableEstimator, searchable

WIDE = (1, 8, 64)
EVALUATIONS = 192
WORKERS = (10, 100, 1_000, 10_000)
EACH = (2, 8)  # trainings in a window for each worker: the default, and a wide one


def regret(table: str, runs: int) -> tuple[list[dict[str, Any]], float]:
    """Returns the regret of each strategy and window, and the processor seconds of a query that is asked and told."""
    opened = open_table(table)
    space, estimator = searchable(opened), TableEstimator(opened)
    executor = Local(estimator.estimate)
    best = max(estimate.score for estimate in estimator.estimate([Query(arch) for arch in enumerate_space(space)]))
    rows, spent, asked = [], 0.0, 0
    for name, strategy in (("evolution", RegularizedEvolution), ("random", RandomSearch)):
        for window in WIDE:
            lost = []
            for run in range(runs):
                began = time.process_time()
                told = search(strategy(space, rng=np.random.default_rng([run, 7])), executor, budget=Budget(evaluations=EVALUATIONS), window=window).told
                spent, asked = spent + time.process_time() - began, asked + len(told)
                lost.append(best - max(each.estimate.score for each in told))
            error = statistics.stdev(lost) / math.sqrt(runs)
            rows.append({
                "strategy": name, "window": window, "n": runs, "evaluations": EVALUATIONS, "mean regret %": round(100 * statistics.mean(lost), 3),
                "95 % interval +-": round(196 * error, 3), "median regret %": round(100 * statistics.median(lost), 3),
            })  # fmt: skip
    return rows, spent / asked


def simulated(workers: int, each: int, task: float, variation: float, ask: float, give: float, write: float, rounds: int, rng: np.random.Generator) -> float:
    """Returns the share of the workers' time in which they train.

    Args:
        workers: how many.
        each: trainings in a window, for each of them.
        task: mean seconds of a training.
        variation: standard deviation of a training's seconds over their mean.
        ask: driver's seconds to ask for and tell one.
        give: driver's seconds to give one away and take its answer.
        write: driver's seconds to journal one.
        rounds: windows that are asked for.
        rng: draws.
    """
    sigma = math.sqrt(math.log1p(variation**2))
    window, now, busy = each * workers, 0.0, 0.0
    free = [0.0] * workers
    for _ in range(rounds):
        now += ask * window
        lengths = task * np.exp(sigma * rng.standard_normal(window) - sigma**2 / 2)
        busy += float(lengths.sum())
        done = []
        for i, length in enumerate(lengths):
            given = now + give * (i + 1)
            end = max(heapq.heappop(free), given) + float(length)
            heapq.heappush(free, end)
            done.append(end)
        now += give * window
        for end in done:  # in ask order
            now = max(now, end) + write
    return busy / (workers * now)


def paper(workers: int, each: int, task: float, variation: float, ask: float, give: float, write: float) -> float:
    """Returns what the calculation says of the same."""
    driver = each * workers * (ask + give + write)
    round_seconds = each * task + task * variation * math.sqrt(2 * math.log(workers)) + each * workers * ask
    return each * task / max(round_seconds, driver + task)


def main() -> None:
    """Measures, simulates and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", default="nasbench201/cifar10")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--measured", type=Path, help="record of executors.py: the executor whose driver computes most gives the constants")
    parser.add_argument("--give-ms", type=float, default=1.0, help="driver's milliseconds a task, without --measured")
    parser.add_argument("--append-ms", type=float, default=1.0, help="milliseconds to journal an answer, without --measured")
    parser.add_argument("--seconds", default="10,60,600")
    parser.add_argument("--variation", type=float, default=0.3)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    rows, ask = regret(chosen.table, chosen.runs)
    give, write = chosen.give_ms / 1e3, chosen.append_ms / 1e3
    if chosen.measured is not None:
        record = json.loads(chosen.measured.read_text())
        give = max(row["driver's processor ms a task"] for row in record["overhead"]) / 1e3
        write = max(row["ms to append durably"] for row in record["driver"]) / 1e3
    table = []
    for seconds in map(float, chosen.seconds.split(",")):
        for workers, each in product(WORKERS, EACH):
            constants = (workers, each, seconds, chosen.variation, ask, give, write)
            table.append({
                "workers": workers, "window": each * workers, "seconds a training": seconds,
                "simulated busy": round(simulated(*constants, rounds=5, rng=np.random.default_rng(0)), 3),
                "calculated busy": round(paper(*constants), 3), "workers that the driver keeps busy": round(seconds / (ask + give + write)),
            })  # fmt: skip
    write_record(chosen.out, {
        "table": dict(open_table(chosen.table).header.provenance), "command": shlex.join(["python", *sys.argv]), "regret": rows,
        "constants": {"ask and tell ms": round(1e3 * ask, 4), "give and take ms": round(1e3 * give, 3), "journal ms": round(1e3 * write, 3), "variation": chosen.variation},
        "simulation": table, **environment(),
    })  # fmt: skip
    print(chosen.out.read_text())


if __name__ == "__main__":
    main()
