"""Writes the tables of NAS-Bench-201 that comparisons of rankers and searches use, one a target, from the published columns.

    python benchmarks/label_tables.py DATA/nasbench201 --to tables/

``DATA/nasbench201`` has ``nasbench201.parquet`` and ``nasbench201_hardware.parquet`` (HW-NAS-Bench and HELP). Labels of tables are shares of
one, and the larger the better, so that a latency, an energy or a size is kept as 1 less its share of a hundredth more than the largest: an order, not
an accuracy. ``c10``, ``c100`` and ``c10_12`` (12 epochs) are accuracies; ``fronts`` has costs as columns.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.spaces import NASBench201
from archduel.tables import make_table

ACCURACIES = {
    "c10": ("cifar10_val", "cifar10_test"),
    "c100": ("cifar100_val", "cifar100_test"),
    "c10_12": ("cifar10_val_12ep", "cifar10_test_12ep"),
    "c100_12": ("cifar100_val_12ep", "cifar100_test_12ep"),
}  # fmt: skip
COSTS = {
    "raspi4": "cifar10_raspi4_latency",
    "pixel3": "cifar10_pixel3_latency",
    "edgegpu": "cifar10_edgegpu_latency",
    "gold6226": "help_gold_6226_latency_ms",
    "energy": "cifar10_edgegpu_energy",
    "energy_eyeriss": "cifar10_eyeriss_energy",
}  # fmt: skip
FRONTS = {"raspi4_ms": "cifar10_raspi4_latency", "edgegpu_ms": "cifar10_edgegpu_latency", "edgegpu_mj": "cifar10_edgegpu_energy"}


def columns(path: Path) -> dict[str, Any]:
    """Returns the columns of a parquet file."""
    import pyarrow.parquet

    found = pyarrow.parquet.read_table(path)
    return {name: found[name].to_pylist() for name in found.column_names}


def cheaper(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (N,) labels of which the cheapest has the largest."""
    return np.asarray(1 - costs / (1.01 * np.nanmax(costs)))


def main() -> None:
    """Writes one file a target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    space = NASBench201()
    cells, hardware = (columns(arguments.data / f"{name}.parquet") for name in ("nasbench201", "nasbench201_hardware"))
    archs = [space.read(text) for text in cells["arch_str"]]
    values = {name: [np.array(cells[column], float) / 100 for column in pair] for name, pair in ACCURACIES.items()}
    values |= {name: [cheaper(np.array(hardware[column], float))] * 2 for name, column in COSTS.items()}
    values["size"] = [cheaper(np.array(cells["params"], float))] * 2
    for name, (validation, test) in values.items():
        splits = {"validation": validation[None, None], "test": test[None, None]}
        make_table(archs, splits, name=name, space=space).write(arguments.to / f"{name}.table")
    front = {name: np.array(hardware[column], float) for name, column in FRONTS.items()} | {"macs": 1e6 * np.array(cells["mmacs"])}
    validation, test = values["c10"]
    splits = {"validation": validation[None, None], "test": test[None, None]}
    make_table(archs, splits, name="fronts", space=space, columns=front).write(arguments.to / "fronts.table")
    print(json.dumps(sorted([*values, "fronts"])))


if __name__ == "__main__":
    main()
