"""Which reading of the main job's cheap trainings ranks best: finished runs on CIFAR-10 against published accuracies.

    python benchmarks/cifar_readings.py RUN_FOLDER ... --out benchmarks/records/cifar_readings.json

Run folders are those of ``archduel search`` (or ``benchmarks/gain.py --runs``) on a sample of CIFAR-10 with space nasbench201, ranked by
``metric``; nothing is trained here. Of the cheap recipe only random architectures count (labels and the random arm). The table is
found by ``ARCHDUEL_DATA`` (``nasbench201/nasbench201.parquet``). Runs have images, splits and recipes of their own, so rank agreement is
taken within each run and averaged, weighted by its cells; the interval resamples the cells of every run.
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
import pyarrow.parquet as parquet

from archduel import environment
from archduel.commands.proxy.check import bounded_text
from archduel.commands.search.settings import read_settings
from archduel.core import Scale
from archduel.core.storage import read_journal, record_estimate, record_query
from archduel.proxies import agreement_of_like_size
from archduel.proxies.agreement import MEASURES, READINGS, SIZES, readings, sizes
from archduel.reporting import text_table
from archduel.spaces import NASBench201
from archduel.spaces import family as nets

STAGES = {"label": ("label", "random"), "reevaluate": ("reevaluate",)}
DRAWS = 2000
LIKE = 0.01  # cells whose multiply-adds differ by less than this share are of one size
Rows = list[tuple[np.ndarray, np.ndarray]]


def run_of(folder: Path, table: np.ndarray, recipe: str) -> dict[str, Any]:
    """Returns the random cells of a run with their readings, published accuracies and cost."""
    records = read_journal(folder / "journal.jsonl")
    plan = next(record["plan"][recipe] for record in records if record["event"] == "plan")
    labels = [r for r in records if r["event"] == "estimate" and r["stage"] in STAGES[recipe] and r["score"] is not None]
    archs, estimates = [record_query(r).arch for r in labels], [record_estimate(r) for r in labels]
    scale = Scale(plan["channels"], plan["depth"], plan["image_size"], 3, 10)
    return {
        "seed": read_settings(folder).seed,
        "recipe": {k: plan[k] for k in ("epochs", "batch_size", "lr", "warmup_epochs", "label_smoothing", "channels", "depth", "image_size")},
        "cells": [str(arch) for arch in archs],
        "images": float(np.mean([estimate.cost.images for estimate in estimates])),
        "mean_macs": float(np.mean([nets.count(arch, scale).macs for arch in archs])),
        "truth": [float(table[NASBench201().index(arch)]) / 100 for arch in archs],
        "readings": {kind: readings(estimates, kind) for kind in READINGS} | {kind: sizes(estimates, kind) for kind in SIZES},
    }  # fmt: skip


def averaged(runs: Rows, measure: str, rows: list[np.ndarray]) -> np.ndarray:
    """Returns (D,) the mean over runs, weighted by their cells, of the agreement of resamples ``rows``."""
    weights = np.array([len(truth) for _, truth in runs], float)
    found = np.stack([MEASURES[measure](scores, truth, drawn) for (scores, truth), drawn in zip(runs, rows)])
    there = np.isfinite(found)  # a resample of few cells may hold one cell only, which has no order
    return np.asarray(weights @ np.where(there, found, 0.0) / (weights @ there))


def bounded(value: float, draws: np.ndarray) -> dict[str, float]:
    """Returns the number with its percentile interval."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high)}


def main() -> None:
    """Writes agreement of every reading, and its paired difference to the score's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--recipe", choices=list(STAGES), default="label", help="whose trainings")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    path = Path(os.environ["ARCHDUEL_DATA"]) / "nasbench201" / "nasbench201.parquet"
    table = parquet.read_table(path, columns=["cifar10_test"])["cifar10_test"].to_numpy()
    runs = [run_of(folder, table, arguments.recipe) for folder in arguments.folders]
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(run["truth"]), (DRAWS, len(run["truth"]))) for run in runs]
    whole = [np.arange(len(run["truth"]))[None] for run in runs]
    rows = []
    for kind in (*READINGS, *SIZES):
        row: dict[str, Any] = {"reading": kind, "n": sum(len(run["truth"]) for run in runs)}
        for measure in MEASURES:
            own = [(np.array(run["readings"][kind]), np.array(run["truth"])) for run in runs]
            base = [(np.array(run["readings"]["score"]), np.array(run["truth"])) for run in runs]
            values = [averaged(some, measure, whole)[0] for some in (own, base)]
            draws = [averaged(some, measure, drawn) for some in (own, base)]
            row[measure] = bounded(float(values[0]), draws[0])
            row[f"{measure}_to_score"] = bounded(float(values[0] - values[1]), draws[0] - draws[1])
            row[f"{measure}_by_run"] = [float(MEASURES[measure](*pair, all_)[0]) for pair, all_ in zip(own, whole)]
        # sizes of different runs are made unlike, so that only cells of one run are compared
        flat = {name: np.concatenate([run["readings"][name] for run in runs]) for name in (kind, "score")}
        macs = np.concatenate([np.array(run["readings"]["macs"]) * 1e9**i for i, run in enumerate(runs)])
        truth = np.concatenate([run["truth"] for run in runs])
        pairs, like = agreement_of_like_size(flat[kind], truth, macs, within=LIKE, draws=DRAWS)
        _, gain = agreement_of_like_size(flat[kind], truth, macs, against=flat["score"], within=LIKE, draws=DRAWS)
        row["of_like_size"] = {"pairs": pairs, "kendall": like.record(), "kendall_to_score": gain.record()}
        rows.append(row)
    record = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "draws": DRAWS,
        "truth": "NATS-Bench topology space, CIFAR-10 test accuracy after 200 epochs, mean of all trials", "rows": rows, "runs": runs,
    }  # fmt: skip
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    lines = [
        [r["reading"], r["n"], bounded_text(r["kendall"]), bounded_text(r["kendall_to_score"]), bounded_text(r["spearman"]),
         r["of_like_size"]["pairs"], bounded_text(r["of_like_size"]["kendall"]), bounded_text(r["of_like_size"]["kendall_to_score"])]
        for r in rows
    ]  # fmt: skip
    headers = ["reading", "n", "Kendall", "to score", "Spearman", "pairs", "of one size", "to score"]
    print(text_table(headers, lines))


if __name__ == "__main__":
    main()
