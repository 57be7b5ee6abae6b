"""What the belief about size is worth: which architectures cheap labels, a comparator and both with size propose.

    python benchmarks/size_belief.py nasbench201/cifar10 --sizes TABLE ... --out benchmarks/records/size_belief.json

From the labels in ``cifar_readings.json`` (192 random NAS-Bench-201 cells that searches on CIFAR-10 trained for seconds) 30 of a run
are drawn at a time. The best three by lifted label, and the five that a comparator taught lifted labels ranks highest among 3,000
others, are looked up in the table. ``--sizes`` are tables for the second part: how multiply-adds alone rank their architectures.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from archduel import environment
from archduel.assemble import collaborator
from archduel.core import Arch, Scale, parse
from archduel.rankers import SizeBelief
from archduel.rankers.size_belief import lifted
from archduel.spaces import family as nets
from archduel.tables import open_table

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
DRAWN, SHORTLIST, PROPOSED, OTHERS = 30, 3, 5, 3000
SCALES = {
    "nasbench201": Scale(16, 5, 32, 3, 10), "nasbench101": Scale(128, 3, 32, 3, 10), "darts": Scale(36, 20, 32, 3, 10),
    "mobilenetv3": Scale(16, 1, 224, 3, 1000),
}  # fmt: skip


def macs(archs: list[Arch], scale: Scale) -> np.ndarray:
    """Returns (N,) multiply-adds."""
    return np.array([nets.count(arch, scale).macs for arch in archs], float)


def interval(values: np.ndarray) -> dict[str, float]:
    """Returns the mean with a normal 95 % interval over draws (which overlap, so it is a little too narrow)."""
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return {"value": float(values.mean()), "low": float(values.mean() - half), "high": float(values.mean() + half)}


def duel(table_name: str, runs: list[dict[str, Any]], draws: int, epochs: int) -> list[dict[str, Any]]:
    """Returns a row a weight: what label and comparator choose."""
    table = open_table(table_name)
    truth = dict(zip(map(str, table.archs), table.read("test")))
    rng = np.random.default_rng(0)
    others = [table.archs[i] for i in rng.choice(len(table.archs), OTHERS, replace=False)]
    scale = Scale(8, 1, 16, 3, 10)
    known = dict(zip(others, macs(others, scale)))
    found: dict[float, list[list[float]]] = {weight: [] for weight in WEIGHTS}
    for number, run in enumerate(runs):
        cells, labels = [parse(cell) for cell in run["cells"]], np.array(run["readings"]["val_loss"])
        known |= zip(cells, macs(cells, scale))
        for draw in range(draws):
            drawn = np.random.default_rng([number, draw]).choice(len(cells), DRAWN, replace=False)
            archs, scores = [cells[i] for i in drawn], labels[drawn]
            for weight in WEIGHTS:
                mixed = lifted(scores, [known[arch] for arch in archs], weight)
                chosen = [truth[str(archs[i])] for i in np.argsort(-mixed)[:SHORTLIST]]
                inner = collaborator("ranker", {"name": "nac", "epochs": epochs}, table.space, seed=draw)
                ranker = SizeBelief(inner, lambda given, known=known: np.array([known[arch] for arch in given]), weight)
                ranker.fit(archs, scores)
                ranked = np.argsort(-ranker.predict(others))
                top = [truth[str(others[i])] for i in ranked if others[i] not in archs][:PROPOSED]
                tau = kendalltau(mixed, [truth[str(arch)] for arch in archs])[0]
                found[weight].append([np.mean(chosen), max(chosen), np.mean(top), max(top), tau])
    names = ("shortlist_mean", "shortlist_best", "proposed_mean", "proposed_best", "tau_of_labels")
    rows = [{"weight": w, "n": len(v), **{k: interval(np.array(v)[:, i]) for i, k in enumerate(names)}} for w, v in found.items()]
    by_size = [truth[str(others[i])] for i in np.argsort([-known[arch] for arch in others])[:PROPOSED]]
    return [*rows, {"weight": None, "what": "multiply-adds alone", "proposed_mean": np.mean(by_size), "proposed_best": max(by_size)}]


def sizes(table_name: str) -> dict[str, Any]:
    """Returns how multiply-adds alone rank 300 architectures of a table."""
    table = open_table(table_name)
    values = table.read("test" if "test" in table.splits else "validation")
    there = np.flatnonzero(np.isfinite(values))
    drawn = np.random.default_rng(0).choice(there, min(300, len(there)), replace=False)
    archs = [table.archs[i] for i in drawn.tolist()]
    tau = kendalltau(macs(archs, SCALES[archs[0].space]), values[drawn])[0]
    return {"table": Path(table_name).stem, "space": archs[0].space, "n": len(archs), "tau": float(tau)}


def main() -> None:
    """Computes both parts and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    parser.add_argument("--readings", type=Path, default=Path("benchmarks/records/cifar_readings.json"))
    parser.add_argument("--sizes", nargs="*", default=[])
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    runs = json.loads(arguments.readings.read_text())["runs"]
    record = {"command": shlex.join(["python", *sys.argv]), **environment()}
    record |= {"rows": duel(arguments.table, runs, arguments.draws, arguments.epochs), "sizes": [sizes(name) for name in arguments.sizes]}
    arguments.out.write_text(json.dumps(record, indent=1))
    for row in record["rows"]:
        print(row["weight"], {k: round(v["value"], 4) if isinstance(v, dict) else v for k, v in row.items() if k != "weight"})
    print(record["sizes"])


if __name__ == "__main__":
    main()
