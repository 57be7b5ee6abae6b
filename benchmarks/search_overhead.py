"""Processor time of searches on a table, and of CTNAS's parts against plain paths of the same algorithms.

    python benchmarks/search_overhead.py --table nasbench201/cifar10 --ctnas-table nasbench101 --repeats 5 --out benchmarks/records/search_overhead.json

One thread; a whole command also in seconds on the clock, with one worker. A whole search of CTNAS has the published numbers: 423
labels, 1,000 epochs of the comparator, 10,000 updates of the policy. Random search and evolution against the same algorithm written as a bare loop over arrays (no queries, no journal,
no resume); a policy update of CTNAS against a controller that keeps the graph of every step, as released codes do.
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
from torch import Tensor, nn

import archduel
from archduel.apps.bench_trials import Protocol, parse_contestants, run_trial
from archduel.apps.tables import open_table
from archduel.policies.lstm import LSTMPolicy
from archduel.rankers.nac import NAC

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


class PlainController(nn.Module):
    """The policy step by step, with the graph of every step kept."""

    def __init__(self, decisions: int, options: int, hidden: int = 64) -> None:
        super().__init__()
        self.decisions, self.hidden = decisions, hidden
        self.embed, self.cell = nn.Embedding(options + 1, hidden), nn.LSTMCell(hidden, hidden)
        self.head = nn.Linear(hidden, options)

    def forward(self) -> tuple[tuple[int, ...], Tensor, Tensor]:
        """Returns the answers, their log probability and the entropy."""
        token = torch.tensor([self.head.out_features])
        state = torch.zeros(1, self.hidden), torch.zeros(1, self.hidden)
        answers, log_prob, entropy = [], torch.zeros(()), torch.zeros(())
        for _ in range(self.decisions):
            state = self.cell(self.embed(token), state)
            spread = torch.distributions.Categorical(logits=self.head(state[0]))
            token = spread.sample()
            log_prob, entropy = log_prob + spread.log_prob(token).sum(), entropy + spread.entropy().sum()
            answers.append(int(token))
        return tuple(answers), log_prob, entropy


def ctnas_updates(table: str, n: int, *, plain: bool) -> Callable[[], None]:
    """Returns ``n`` policy updates with the comparator's verdict as reward, batch 1 as published."""
    opened = open_table(table)
    space, archs = opened.space, opened.archs
    assert space is not None
    ranker = NAC(space, epochs=2)
    ranker.fit(archs[:100], opened.validation(archs[:100]))
    generator = torch.Generator().manual_seed(0)
    policy: Any = PlainController(6, 5) if plain else LSTMPolicy(space, generator=generator)
    optimizer = torch.optim.Adam(policy.parameters(), lr=2e-4, betas=(0.5, 0.999), weight_decay=5e-4)

    def work() -> None:
        for _ in range(n):
            if plain:
                answers, log_prob, entropy = policy()
                arch = type(archs[0])(space.name, answers)
            else:
                draw = policy.draw(1, generator)
                arch, log_prob, entropy = draw.archs[0], draw.log_prob.sum(), draw.entropy.sum()
            reward = float(ranker.prob([arch], [archs[0]])[0])
            optimizer.zero_grad()
            (-(reward * log_prob + 5e-4 * entropy)).backward()
            optimizer.step()

    return work


def whole_command(table: str, strategy: str, queries: int) -> float:
    """Returns the seconds on the clock of `archduel bench search` with 100 runs and one worker, start included."""
    arguments = ["bench", "search", "--table", table, "--strategies", strategy, "--queries", str(queries), "--runs", "100"]
    program = [sys.executable, "-m", "archduel"]
    began = time.perf_counter()
    subprocess.run([*program, *arguments, "--workers", "0", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def ctnas_search(table: str) -> float:
    """Returns the processor seconds of one search of CTNAS with 423 labels and the published numbers of updates."""
    (contestant,) = parse_contestants("ctnas[labels=423;verify=10]")
    return run_trial(Protocol(table), contestant, 433, 0).cpu_seconds


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", required=True)
    parser.add_argument("--ctnas-table", required=True)
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
    for name, is_plain in (("ctnas updates", False), ("ctnas updates, plain controller", True)):
        measured = seconds(ctnas_updates(given.table, 200, plain=is_plain), given.repeats)
        found[name] = {**measured, "updates": 200, "milliseconds_an_update": 1e3 * measured["median"] / 200}
        print(name, f"{found[name]['milliseconds_an_update']:.2f} ms", flush=True)
    commands = {name: whole_command(given.table, name, given.queries) for name in ("random", "evolution")}
    found["ctnas, whole search"] = {"n": 1, "median": ctnas_search(given.ctnas_table)}
    ratios = {
        "evolution over its bare loop": found["evolution"]["median"] / plain["median"],
        "plain controller over ctnas updates": found["ctnas updates, plain controller"]["median"] / found["ctnas updates"]["median"],
    }
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
