"""Processor time of searches on a table, and of evolution as a bare loop; for CTNAS see ctnas_time.py.

    python benchmarks/search_overhead.py --table nasbench201/cifar10 --repeats 5 --out benchmarks/records/search_overhead.json

One thread; a whole command also in seconds on the clock, with one worker. The bare loop is regularized evolution over a dictionary:
no queries, no journal, no resume.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import json
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import archduel
from archduel.commands.bench.search_trials import Protocol, parse_contestants, run_trial
from archduel.tables import open_table

SEARCHES = {"random": 20, "evolution": 20, "local": 20, "bananas": 2, "npenas": 2, "best": 1}
"""Strategy -> searches a measurement."""


def seconds(work: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Returns median and spread of the processor seconds of ``work``, after one call that does not count."""
    work()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return {"n": repeats, "median": statistics.median(times), "low": min(times), "high": max(times)}


def searches(table: str, strategy: str, n: int, queries: int) -> Callable[[], None]:
    """Returns ``n`` searches as one call; new seeds each time."""
    (contestant,) = parse_contestants(strategy)
    runs = iter(range(10**9))

    def work() -> None:
        for _ in range(n):
            run_trial(Protocol(table), contestant, queries, next(runs))

    return work


def bare_evolution(scores: dict[tuple[int, ...], float], n: int, queries: int) -> Callable[[], None]:
    """Returns regularized evolution on a dictionary, as short as it can be."""
    rng = np.random.default_rng(0)
    keys = list(scores)

    def work() -> None:
        for _ in range(n):
            alive = [(scores[keys[i]], keys[i]) for i in rng.integers(len(keys), size=30).tolist()]
            seen = {key for _, key in alive}
            while len(seen) < queries:
                _, parent = max(alive[i] for i in rng.integers(30, size=10).tolist())
                place, op = int(rng.integers(6)), int(rng.integers(4))
                child = (*parent[:place], op + (op >= parent[place]), *parent[place + 1 :])
                seen.add(child)
                alive = [*alive[1:], (scores[child], child)]

    return work


def whole_command(table: str, strategy: str, queries: int) -> float:
    """Returns the seconds on the clock of `archduel bench search` with 100 runs and one worker, start included."""
    arguments = ["bench", "search", "--table", table, "--strategies", strategy, "--queries", str(queries), "--runs", "100"]
    program = [sys.executable, "-m", "archduel"]
    began = time.perf_counter()
    subprocess.run([*program, *arguments, "--workers", "0", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", required=True)
    parser.add_argument("--queries", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for strategy, n in SEARCHES.items():
        measured = seconds(searches(given.table, strategy, n, given.queries), given.repeats)
        found[strategy] = {**measured, "searches": n, "microseconds_a_query": 1e6 * measured["median"] / n / given.queries}
        print(strategy, f"{found[strategy]['microseconds_a_query']:.0f} microseconds a query", flush=True)
    table = open_table(given.table)
    scores = dict(zip((arch.choices for arch in table.archs), table.validation().tolist()))
    plain = seconds(bare_evolution(scores, 20, given.queries), given.repeats)
    found["evolution, bare loop"] = {**plain, "searches": 20, "microseconds_a_query": 1e6 * plain["median"] / 20 / given.queries}
    commands = {name: whole_command(given.table, name, given.queries) for name in ("random", "evolution")}
    ratios = {"evolution over its bare loop": found["evolution"]["median"] / plain["median"]}
    record = {
        "command": "python " + shlex.join(sys.argv),
        "what": "processor seconds, one thread",
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "versions": {"archduel": archduel.__version__, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "queries": given.queries,
        "measured": found,
        "seconds_of_a_command_with_100_runs": commands,
        "ratios": ratios,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
