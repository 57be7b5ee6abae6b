"""Shares of the true fronts of NAS-Bench-201 that searches find, on four pairs of objectives.

    PYTHONPATH=benchmarks python benchmarks/fronts.py tables/fronts.table --runs 30 --out benchmarks/records/fronts_nasbench201.json
    PYTHONPATH=benchmarks python benchmarks/fronts.py tables/fronts.table --runs 20 --queries 25,50 --seed 1 --out benchmarks/records/fronts_first_50.json

The table is one of ``label_tables.py``: CIFAR-10 validation after 200 epochs (mean of trials); multiply-adds in closed form, which a search knows before it asks;
Raspberry Pi 4 latency, edge GPU latency and energy of HW-NAS-Bench, which are told with each answer. Needs the extras ``pareto`` and ``optuna``, and pymoo. Finished
searches are kept beside ``--trials``; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

from recording import write_record

from archduel import environment
from archduel.commands.bench.fronts import bench_fronts, fronts_summary

COSTS = ("macs", "raspi4_ms", "edgegpu_ms", "edgegpu_mj")
STRATEGIES = "best,nsga2,random,front_outside:PymooNSGA2,front_outside:OptunaNSGA2,tpe"
PUBLISHED = {
    "queries": [25, 50, 100, 200],
    "random": [0.794, 0.85, 0.888, 0.92],
    "NSGA-II": [0.781, 0.845, 0.911, 0.953],
    "TPE": [0.805, 0.89, 0.935, 0.963],
}  # fmt: skip


def main() -> None:
    """Compares on each pair and writes the record after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--queries", default="25,50,100,200")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strategies", default=STRATEGIES)
    parser.add_argument("--costs", default=",".join(COSTS))
    parser.add_argument("--trials", type=Path, default=Path("fronts_trials"), help="folder of finished searches")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.trials.mkdir(parents=True, exist_ok=True)
    record = {
        "what": "share of the true front's hypervolume (losses in ranges of the front of all rows, reference 1.1) after so many distinct queries; validation only",
        "command": shlex.join(["python", *sys.argv]),
        **environment(),
        "runs": arguments.runs,
        "published_elsewhere_on_macs": PUBLISHED,
        "versions_of_others": {"pymoo": f"{version('pymoo')}, population 20", "optuna": f"{version('optuna')}, NSGAIISampler population 20, TPESampler", "moocore": version("moocore")},
        "objectives": {},
    }  # fmt: skip
    for cost in arguments.costs.split(","):
        found = bench_fronts(
            arguments.table, arguments.strategies, ["val_error", cost], queries=[int(n) for n in arguments.queries.split(",")], runs=arguments.runs,
            seed=arguments.seed, workers=0, trials=arguments.trials / f"{cost}.jsonl",
        )  # fmt: skip
        print(fronts_summary(found), flush=True)
        record["objectives"][cost] = {"facts": found.facts, "records": found.records}
        write_record(arguments.out, record)


if __name__ == "__main__":
    main()
