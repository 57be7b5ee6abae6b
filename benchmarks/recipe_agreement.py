"""Whole recipes against published accuracies: BPE's 100 DARTS cells, or random NAS-Bench-201 cells, as resumable jobs.

    python benchmarks/recipe_agreement.py cifar10 --cells bpe --recipes bpe1 --device cuda --fused auto --work runs/bpe --out bpe1_cells.json
    python benchmarks/recipe_agreement.py cifar10 --cells nasbench201 --n 60 --recipes bpe1,bpe2 --device cuda --fused auto --work runs/nb201 --out nb201.json

For a GPU, where all of CIFAR-10 and the published recipes fit (``benchmarks/cifar_agreement.py`` is the small version for a CPU). The
published accuracies are found by ``ARCHDUEL_DATA`` (``bpe/*.csv``, ``nasbench201/nasbench201.parquet``). The same command continues.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from archduel.apps.folder import environment
from archduel.apps.proxy_text import bounded_text
from archduel.apps.proxy_train import read_archs, train_file
from archduel.apps.spaces import sampled, settings_of
from archduel.proxies.agreement import agreement, agreement_of_like_size
from archduel.proxies.published import read_published
from archduel.reporting.tables import text_table
from archduel.spaces.nasbench201 import NASBench201


def wanted(cells: str, n: int, file: Path) -> np.ndarray:
    """Writes the cells, one a line, and returns their published accuracies as fractions."""
    root = Path(os.environ["ARCHDUEL_DATA"])
    if cells == "bpe":
        tables = read_published(root / "bpe", draws=0)
        lines, truth = tables.genotypes[:n], tables.truth[:n]
    else:
        import pyarrow.parquet as parquet

        path = root / "nasbench201" / "nasbench201.parquet"
        table = parquet.read_table(path, columns=["cifar10_test"])["cifar10_test"].to_numpy()
        archs = sampled(NASBench201(), n, 0, distinct=True)
        lines, truth = [str(arch) for arch in archs], np.array([table[NASBench201().index(arch)] / 100 for arch in archs])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert len(read_archs(file)) == len(truth)
    return np.asarray(truth)


def measured(rows: list[dict[str, Any]], truth: np.ndarray) -> list[dict[str, Any]]:
    """Returns agreement and cost of one recipe, a record a reading."""
    column = {
        "score": [row["score"] for row in rows],
        "val_loss": [None if row["val_loss"] is None else -row["val_loss"] for row in rows],
        "train_loss": [None if row["train_loss"] is None else -row["train_loss"] for row in rows],
        "macs": [row["macs"] for row in rows],
    }
    found = []
    for name, values in column.items():
        scores = np.array([np.nan if value is None else value for value in values], float)
        pairs, like = agreement_of_like_size(scores, truth, column["macs"])
        found.append({"reading": name, **agreement(scores, truth).record(), "of_like_size": {"pairs": pairs, **like.record()}})
    return found


def main() -> None:
    """Trains under every recipe, writes the record and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--cells", choices=("bpe", "nasbench201"), required=True)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--recipes", default="bpe1,bpe2", help="names or files")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE of all recipes")
    parser.add_argument("--max-images", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fused", default="off")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    file = arguments.work / "cells.txt"
    truth = wanted(arguments.cells, arguments.n, file)
    fused = int(arguments.fused) if arguments.fused.isdigit() else arguments.fused
    records, lines = [], []
    for recipe in arguments.recipes.split(","):
        trained = train_file(
            file, arguments.data, arguments.work / Path(recipe).stem, recipe=recipe, changes=settings_of(arguments.set),
            device=arguments.device, fused=fused, load_settings={"max_images": arguments.max_images} if arguments.max_images else None,
        )  # fmt: skip
        seconds = float(np.mean([row["seconds"] for row in trained.rows]))
        found = measured(trained.rows, truth)
        records.append({"recipe": recipe, "seconds_each": seconds, "readings": found, "rows": trained.rows})
        lines += [[recipe, f["reading"], f["n"], bounded_text(f["kendall"]), bounded_text(f["spearman"]), f"{seconds:.1f}"] for f in found]
    whole = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "data": arguments.data, "cells": arguments.cells,
        "device": arguments.device, "fused": fused, "published_accuracy": truth.tolist(), "recipes": records,
    }  # fmt: skip
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(text_table(["recipe", "reading", "n", "Kendall", "Spearman", "seconds each"], lines))


if __name__ == "__main__":
    main()
