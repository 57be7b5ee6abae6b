"""Cells that one-shot searches find on CIFAR-10 at a size for a CPU core, and what NAS-Bench-201's table says about them.

    ARCHDUEL_DATA=... python benchmarks/oneshot_found.py --table cifar10.table --work /tmp/found --out benchmarks/records/oneshot_found.json

All strategies get a supernet of the same size, the same images and about the same number of training batches (their other work is
counted in batches as the main job counts it). The table is read only for the cells that were found: mean test accuracy
after 200 epochs of the published network. Nothing is trained alone before the choice. Random search at equal cost trains ``--drawn`` cells
alone for an epoch each and takes the best on the searches' validation images. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
from oneshot_alone import RANDOM, drawn
from oneshot_cifar10 import parser_of, prepared, root_of, searched
from recording import command, write_record

STRATEGIES: dict[str, dict[str, Any]] = {
    "spos": {},
    "cnas": {},
    "relativenas": {},
    "gdas": {},
    "darts": {"order": 1},
    "darts, softmax": {"order": 1, "variant": "judged"},
    "ctnas_oneshot": {},
}
"""Name -> settings; what follows a comma tells two of one strategy apart."""
GOOD = 0.93
"""An accuracy that 9 % of the cells reach."""
BELIEF = (0.0, 0.5, 1.0, 2.0)
"""Weights of multiply-adds beside inherited scores, by which one of a search's finalists is chosen instead of its own choice."""
PUBLISHED = {
    "random search with shared weights (RSPS)": [0.8766, 0.0169],
    "DARTS, first and second order": [0.5430, 0.0],
    "SETN": [0.8764, 0.0],
    "GDAS": [0.9361, 0.0009],
    "FairNAS": [0.9323, 0.0018],
    "DrNAS": [0.9436, 0.0],
}
"""Mean and deviation of test accuracy at the published size on a GPU: NAS-Bench-201's paper, later ones for FairNAS and DrNAS."""


def one_search(arguments: argparse.Namespace, dataset: Any, strategy: str, seed: int) -> dict[str, Any]:
    """Returns the cell that one search finds, and what it cost."""
    from archduel import make_strategy
    from archduel.core import Budget, Local, Query, search

    if strategy == RANDOM:
        return random_arm(arguments, dataset, seed)
    known = strategy.partition(",")[0]
    space, plan, shared = prepared(arguments, dataset, known, STRATEGIES[strategy], seed)
    began = time.process_time()
    made = make_strategy(known, space, seed=seed, settings=plan.settings, given={"shared": shared})
    search(made, Local(lambda queries: []), budget=Budget())
    seconds = time.process_time() - began
    finalists = made.finalists(8)
    said = shared.estimate([Query(arch) for arch in finalists])
    return {
        "strategy": strategy, "seed": seed, "found": str(made.best()), "finalists": [str(arch) for arch in finalists],
        "scores": [e.score for e in said], "losses": [e.values["val_loss"] for e in said], "macs": [e.values["macs"] for e in said],
        "seconds": round(seconds, 1), "batches": plan.batches, "settings": plan.settings,
    }  # fmt: skip


def random_arm(arguments: argparse.Namespace, dataset: Any, seed: int) -> dict[str, Any]:
    """Returns the cell that random search finds at equal cost, and all that it trained, best first."""
    from archduel.core import Scale
    from archduel.spaces import family

    began = time.process_time()
    cells, scores = drawn(arguments, dataset, seed)
    seconds, order = time.process_time() - began, np.argsort(-np.asarray(scores), kind="stable")
    scale = Scale(arguments.channels, arguments.depth, arguments.image_size, 3, 10)
    return {
        "strategy": RANDOM, "seed": seed, "found": str(cells[order[0]]), "finalists": [str(cells[i]) for i in order],
        "scores": [scores[i] for i in order], "macs": [family.count(cells[i], scale).macs for i in order],
        "seconds": round(seconds, 1), "batches": len(cells) * -(-len(dataset.train) // arguments.batch_size), "settings": {"drawn": len(cells)},
    }  # fmt: skip


def looked_up(searches: list[dict[str, Any]], path: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Returns the searches with the table's accuracies, and what the table says about random cells and trivial choices."""
    from archduel.core import parse
    from archduel.rankers.size_belief import lifted
    from archduel.tables import open_table

    table = open_table(path)
    truth = np.asarray(table.test(np.arange(len(table))))

    def accuracy(text: str) -> float:
        return float(truth[table.find(parse(text))])

    quantiles = dict(zip(("5 %", "25 %", "median", "75 %", "95 %"), np.quantile(truth, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()))
    about = {"cells": len(truth), "random": quantiles, "best": float(truth.max()), "all 3x3": accuracy("nasbench201:3.3.3.3.3.3")}
    rows = []
    for found in searches:
        test = accuracy(found["found"])
        finalists = [accuracy(text) for text in found["finalists"]]
        sized = {f"{weight:g}": finalists[int(np.argmax(lifted(found["scores"], found["macs"], weight)))] for weight in BELIEF}
        better = float((truth < test).mean())
        rows.append({**found, "test": test, "better_than": better, "finalists_test": finalists, "test_with_size": sized})
    return rows, about


def write(arguments: argparse.Namespace, searches: list[dict[str, Any]], sizes: str) -> None:
    """Writes the record."""
    from archduel import environment
    from archduel.reporting import mean_interval, paired_difference

    rows, about = looked_up(searches, arguments.table)
    tests = {name: {row["seed"]: row["test"] for row in rows if row["strategy"] == name} for name in (*STRATEGIES, RANDOM)}
    strategies, sized = {}, {row["seed"]: row["test_with_size"]["1"] for row in rows if row["strategy"] == RANDOM}
    for name in filter(tests.get, tests):
        own, each = [row for row in rows if row["strategy"] == name], list(tests[name].values())
        strategies[name] = {
            "n": len(each),
            "test": mean_interval(each).record() if len(each) > 1 else {"value": each[0]},
            "median": statistics.median(each),
            "least": min(each),
            "above_median_cell": sum(test > about["random"]["median"] for test in each),
            "good": sum(test >= GOOD for test in each),
            "test_with_size": {w: statistics.mean(row["test_with_size"][w] for row in own) for w in own[0]["test_with_size"]},
            "better_than": statistics.mean(row["better_than"] for row in own),
            "seconds": statistics.median(timed) if (timed := [row["seconds"] for row in own if "seconds" in row]) else None,
        }
        others = {other: tests[other] for other in tests if other.startswith(f"{name}, ")}
        for rival, its in {RANDOM: tests[RANDOM], f"{RANDOM}, chosen with size": sized, **others}.items():
            pairs = [(test, its[seed]) for seed, test in tests[name].items() if seed in its]
            if len(pairs) > 1 and name != rival:
                strategies[name][f"minus {rival}"] = paired_difference(*zip(*pairs)).record()
        print(name, json.dumps(strategies[name]), flush=True)
    record = {
        "command": command(), **environment(), "threads": 1, "data": sizes, "table": about,
        "published": PUBLISHED, "strategies": strategies, "searches": rows,
    }  # fmt: skip
    write_record(arguments.out, record)


def main() -> None:
    """Searches, looks up, and writes the record of what is there after each search."""
    parser = parser_of(__doc__, images=10_000)
    parser.add_argument("--table", required=True)
    parser.add_argument("--batches", type=int, default=2_500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=[*STRATEGIES, RANDOM], default=[*STRATEGIES, RANDOM])
    parser.add_argument("--drawn", type=int, default=8, help="cells of a random search")
    parser.set_defaults(epochs=1)
    arguments = parser.parse_args()
    root = root_of(parser)
    for searches, sizes in searched(arguments, root, arguments.seeds, arguments.only, one_search):
        write(arguments, searches, sizes)


if __name__ == "__main__":
    main()
