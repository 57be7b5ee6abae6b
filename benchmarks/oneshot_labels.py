"""Shared weights, size and a few true labels together: what each says of the order of cells that have no label.

    python benchmarks/oneshot_labels.py benchmarks/records/oneshot_ranking.json benchmarks/records/oneshot_ranking_third.json \\
        --labels 10 30 --out benchmarks/records/oneshot_labels.json

Records of ``oneshot_ranking.py`` hold what supernets said of 100 cells and what the table says; nothing is trained here. Some of the cells,
drawn anew in each split, have their true accuracy told; the others are put in order. The splits are the same for all trainings.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from recording import command, write_record


def trainings(paths: list[Path], variants: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns the trainings of a core minute whose variant begins with ``variants``, each with the facts of its record."""
    read = [json.loads(path.read_text()) for path in paths]
    return [(r, whole["facts"]) for whole in read for r in whole["records"] if r["variant"].startswith(variants) and r["passes"] == 10.0]


def main() -> None:
    """Compares and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+")
    parser.add_argument("--variants", default="linear blocks")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    from archduel import environment
    from archduel.commands.bench.one_shot_labels import RANKERS, with_labels
    from archduel.core import Scale, parse
    from archduel.core.ranks import inherited
    from archduel.reporting import mean_interval
    from archduel.spaces import NASBench201, family

    began, rows = time.process_time(), list[dict[str, Any]]()
    for record, facts in trainings(arguments.records, arguments.variants):
        recipe, archs = facts["resolved_recipe"], [parse(text) for text in facts["architectures"]]
        scale = Scale(recipe["channels"], recipe["depth"], recipe["image_size"], 3, 10)
        sizes = np.array([family.count(arch, scale).macs for arch in archs], float)
        column, truth = inherited(record["scores"], record["losses"]), np.asarray(facts["truth"])
        for n in arguments.labels:
            taus = with_labels(NASBench201(), archs, column, sizes, truth, n, splits=arguments.splits)
            rows.append({"variant": record["variant"], "seed": record["seed"], "labels": n, "taus": taus})
            print(record["variant"], n, {name: round(tau["value"], 3) for name, tau in taus.items()}, flush=True)
    means = {
        str(n): {name: mean_interval([row["taus"][name]["value"] for row in rows if row["labels"] == n]).record() for name in RANKERS}
        for n in arguments.labels
    }  # over trainings
    record = {
        "command": command(), **environment(), "threads": 1, "splits": arguments.splits, "seconds": round(time.process_time() - began, 1),
        "means": means, "records": rows,
    }  # fmt: skip
    write_record(arguments.out, record)


if __name__ == "__main__":
    main()
