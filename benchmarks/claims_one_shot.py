"""CNAS's curriculum with shared weights: searches in NAS-Bench-201 at a size for a CPU core, judged by the published table.

    ARCHDUEL_DATA=... python benchmarks/claims_one_shot.py --table c10.table --seeds 10 --work /tmp/claims --out benchmarks/records/claims_curriculum.json

``benchmarks/label_tables.py`` writes the table. All arms of a seed have the same images, the same first weights of supernet and policy, the same order of the other
operations and about the same number of training batches: operations added one at a time with the 3x3 convolution first (the paper's: the first has
weights); with the 3x3 convolution last; the whole space from the start (as many epochs); inner node by inner node (two longer stages, as many epochs).
The stages' candidates, and with them the choice, are judged with shared weights on validation images by their accuracy alone. The table is read for the cell that was
chosen, for 100 draws of the policy, and for nothing else. The same command goes on where it was stopped.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import time
from typing import Any

import numpy as np
from claims import ByNodes, compared, orders
from oneshot_cifar10 import parser_of, prepared, root_of, searched
from recording import command, write_record

ARMS = ("3x3 first", "3x3 last", "whole space", "node by node")


def one_search(arguments: argparse.Namespace, dataset: Any, arm: str, seed: int) -> dict[str, Any]:
    """Returns the cell that one search chooses, draws of its policy, and what it cost."""
    import torch

    from archduel.policies import LSTMPolicy
    from archduel.spaces import NASBench201
    from archduel.strategies import CNAS

    order = orders(NASBench201(), np.random.default_rng(1_000 + seed))
    space, plan, shared = prepared(arguments, dataset, "cnas", {}, seed, order=order["3x3 first"])
    settings = {**plan.settings, "judged_by": "score", "order": order.get(arm, order["3x3 first"])}
    if arm == "whole space":
        settings["grow"] = "fixed"
    if arm == "node by node":  # 5 stages of w + s epochs are 2 stages of 5 (w + s) / 2
        epochs = 5 * (settings["warmup_epochs"] + settings["stage_epochs"]) // 2
        settings |= {"warmup_epochs": epochs // 3, "stage_epochs": epochs - epochs // 3}
    policy = LSTMPolicy(space, generator=torch.Generator().manual_seed(seed), hidden=128)
    kind = ByNodes if arm == "node by node" else CNAS
    made = kind(space, policy, shared, rng=np.random.default_rng(seed), generator=torch.Generator().manual_seed(1_000 + seed), **settings)
    began, stages = time.process_time(), []
    while (report := made.step()) is not None:
        if report.metrics["stage_done"]:
            stages.append(str(made.best()))
    seconds = time.process_time() - began
    with torch.no_grad():
        draws = [str(arch) for arch in policy.draw(100, torch.Generator().manual_seed(0)).archs]
    return {"arm": arm, "seed": seed, "found": str(made.best()), "stages": stages, "draws": draws, "seconds": round(seconds, 1), "settings": settings}


def write(arguments: argparse.Namespace, searches: list[dict[str, Any]], sizes: str) -> None:
    """Writes the record of the seeds that all arms have."""
    from archduel import environment
    from archduel.core import parse
    from archduel.tables import open_table

    table = open_table(arguments.table)
    truth = np.asarray(table.test())

    def accuracy(text: str) -> float:
        return float(truth[table.find(parse(text))])

    done = [seed for seed in range(arguments.seeds) if sum(s["seed"] == seed for s in searches) == len(ARMS)]
    own = {arm: [next(s for s in searches if s["arm"] == arm and s["seed"] == seed) for seed in done] for arm in ARMS}
    figures = {
        "n": len(done),
        "chosen_test": compared({arm: [accuracy(s["found"]) for s in rows] for arm, rows in own.items()}, "3x3 first"),
        "mean_test_of_100_draws": compared({arm: [float(np.mean([accuracy(t) for t in s["draws"]])) for s in rows] for arm, rows in own.items()}, "3x3 first"),
        "whole_space_minus_3x3_last": compared({arm: [accuracy(s["found"]) for s in own[arm]] for arm in ("whole space", "3x3 last")}, "whole space")["3x3 last"],
        "chosen_after_each_stage": {arm: np.mean([[accuracy(t) for t in s["stages"]] for s in rows], 0).tolist() for arm, rows in own.items()},
        "seconds": {arm: float(np.mean([s["seconds"] for s in rows])) for arm, rows in own.items()},
        "table": {"median": float(np.median(truth)), "mean": float(truth.mean()), "best": float(truth.max()), "all 3x3": accuracy("nasbench201:3.3.3.3.3.3")},
    }
    write_record(arguments.out, {"command": command(), **environment(), "threads": 1, "data": sizes, "figures": figures, "searches": searches})


def main() -> None:
    """Searches, looks up, and writes the record after each seed."""
    parser = parser_of(__doc__, images=10_000)
    parser.add_argument("--table", required=True)
    parser.add_argument("--batches", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    root = root_of(parser)
    for searches, sizes in searched(arguments, root, range(arguments.seeds), ARMS, one_search):
        if len(searches) % len(ARMS) == 0:
            write(arguments, searches, sizes)


if __name__ == "__main__":
    main()
