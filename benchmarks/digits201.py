"""How far the table of NAS-Bench-201 cells on the digits came, and how well two of its seeds agree about the order of cells.

    archduel table train digits --out benchmarks/records/digits201.table --cells 5234 --seeds 3 --mean-of 2 --fused 32 \\
        --set channels=4 --set depth=5 --set epochs=6 --set batch_size=32 --set lr=0.1 \\
        --set label_smoothing=0 --set warmup_epochs=0 --set data_fraction=0.37
    python benchmarks/digits201.py benchmarks/records/digits201.jsonl --out benchmarks/records/digits201.json

Reads the journal that the first command continues. Cells whose trainings are all there are a random sample of the functionally
different ones. Kendall's tau is the mean over pairs of seeds, a seed being the mean of 1, 2 or 3 trainings; 95 % intervals by
bootstrap over cells.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from archduel import environment

TRAININGS, DISTINCT = 6, 5234
Values = np.ndarray[Any, np.dtype[np.float64]]


def read(path: Path) -> dict[str, Values]:
    """Returns (cells, trainings) of each number, of the cells that have all trainings."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record.get("event") != "estimate":
            continue
        found.setdefault(record["arch"], {})[record["run"]] = record
    whole = [[runs[i] for i in range(TRAININGS)] for runs in found.values() if len(runs) == TRAININGS]

    def grid(name: str, inside: bool) -> Values:
        return np.array(
            [[r["values"][name] if inside else r[name] for r in runs] for runs in whole], dtype=float
        )

    return {"validation": grid("score", False), "test": grid("test", True), "seconds": grid("seconds", False)}


def seeds_tau(values: Values, mean_of: int) -> float:
    """Returns the mean tau over pairs of seeds that are means of ``mean_of`` trainings."""
    seeds = values.reshape(len(values), -1, mean_of).mean(2)
    return float(
        np.mean([kendalltau(seeds[:, a], seeds[:, b])[0] for a, b in combinations(range(seeds.shape[1]), 2)])
    )


def with_interval(values: Values, mean_of: int, draws: int = 300) -> dict[str, float]:
    """Returns tau and its interval."""
    rng = np.random.default_rng(0)
    again = [seeds_tau(values[rng.integers(0, len(values), len(values))], mean_of) for _ in range(draws)]
    low, high = np.quantile(again, (0.025, 0.975))
    return {"tau": seeds_tau(values, mean_of), "low": float(low), "high": float(high)}


def main() -> None:
    """Prints and writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("journal", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    values = read(options.journal)
    accuracy = values["validation"]
    record = {
        "command": shlex.join(["python", *sys.argv]),
        **environment(),
        "cells": len(accuracy),
        "of": DISTINCT,
        "trainings_a_cell": TRAININGS,
        "seconds_a_training": float(np.median(values["seconds"])),
        "validation_accuracy_quantiles": dict(
            zip(
                ("5", "25", "50", "75", "95"),
                np.quantile(accuracy.mean(1), (0.05, 0.25, 0.5, 0.75, 0.95)).tolist(),
            )
        ),
        "tau_of_seeds": {f"mean of {n}": with_interval(accuracy, n) for n in (1, 2, 3)},
        "spread_between_cells": float(accuracy.mean(1).std()),
        "spread_between_trainings": float(np.sqrt(accuracy.var(1, ddof=1).mean())),
        "tau_validation_test": float(kendalltau(accuracy.mean(1), values["test"].mean(1))[0]),
    }
    print(json.dumps(record, indent=1))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
