"""Tables of what NAS-Bench-201 cells cost, for `archduel bench rank`: a ranker for accuracies meets targets that are none.

    ARCHDUEL_DATA=... python benchmarks/cost_tables.py --work /tmp/costs
    archduel bench rank --table /tmp/costs/raspi4_latency.table --rankers 'best,best[view=effect],boosting,boosting[target=rank;view=effect]' \\
        --labels 78,469 --splits 4 --judge 3000 --out benchmarks/records/rank_cost_raspi4_latency.json

Every value is one minus the cost over the largest cost, so that cheap cells are good ones: latency on a Raspberry Pi 4, energy on an edge
GPU (HW-NAS-Bench, CIFAR-10 networks), and the number of weights.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

from archduel.core import Arch
from archduel.spaces import NASBench201
from archduel.tables import make_table

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
COSTS = {"raspi4_latency": "cifar10_raspi4_latency", "edgegpu_energy": "cifar10_edgegpu_energy", "reversed_size": "params"}


def cell(text: str) -> Arch:
    """Returns the cell that the benchmark writes as ``|nor_conv_3x3~0|+|...``."""
    ops = {}
    for node, part in enumerate(text.split("+")):
        for word in part.strip("|").split("|"):
            op, source = word.split("~")
            ops[int(source), node + 1] = OPS.index(op)
    return Arch("nasbench201", tuple(ops[edge] for edge in EDGES))


def main() -> None:
    """Writes one table a cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    work, root = parser.parse_args().work, Path(os.environ["ARCHDUEL_DATA"]) / "nasbench201"
    known, hardware = (parquet.read_table(root / f"nasbench201{part}.parquet") for part in ("", "_hardware"))
    archs = [cell(text) for text in known["arch_str"].to_pylist()]
    work.mkdir(parents=True, exist_ok=True)
    for name, column in COSTS.items():
        values = np.array((known if column in known.column_names else hardware)[column].to_pylist(), np.float64)
        cheap = 1 - values / values.max()
        make_table(archs, {"validation": cheap, "test": cheap}, name=name, space=NASBench201()).write(work / f"{name}.table")
        print(name, len(values), f"{values.min():g} to {values.max():g}")


if __name__ == "__main__":
    main()
