"""How far cheap recipes can be trusted on CIFAR-10: random NAS-Bench-201 cells against their published 200-epoch accuracy.

    python benchmarks/cifar_agreement.py train --recipes bpe1_small,quick_half,quick --trials trials.jsonl --seconds 480
    python benchmarks/cifar_agreement.py report --trials trials.jsonl --out benchmarks/records/cifar_agreement.json

Images and table are found by ``ARCHDUEL_DATA`` (``cifar10/train_a.npz``, ``nasbench201/nasbench201.parquet``). ``train`` goes on
where it was stopped; answers of all recipes may stand in one file. One process, one thread.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from archduel import environment
from archduel.commands.proxy.check import bounded_text
from archduel.commands.spaces.describe import sampled
from archduel.core import Arch, Estimate, Journal, Query, Scale, evaluation_seed
from archduel.core.storage import estimate_record, read_journal, record_estimate
from archduel.estimators import TrainingEstimator
from archduel.proxies import agreement_difference, agreement_of_like_size, rank_agreement
from archduel.proxies.agreement import READINGS, SIZES, readings
from archduel.recipes import read
from archduel.reporting import text_table
from archduel.spaces import NASBench201
from archduel.spaces import family as nets
from archduel.training import Pixels, Recipe

N_TRAIN, N_VALIDATION = 2_500, 2_500
LIKE = 0.01  # cells whose multiply-adds differ by less than this share are of one size
FEWEST = 20  # recipes with fewer cells so far are left out of a report
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
QUICK = Recipe(
    epochs=10, batch_size=64, lr=0.2, weight_decay=5e-4, warmup_epochs=1, crop_pad=2, channels=8, depth=1, image_size=16
)
TRIED = {
    # 6 layers are 5 cells here: one a stage and two reductions
    "bpe1_small": read("bpe1").with_(depth=1),
    "quick_half": QUICK.with_(epochs=5),
    "quick": QUICK,
    # 30 epochs and 16 layers do not fit the time of this benchmark: 5 epochs, 8 cells
    "bpe2_small": read("bpe2").with_(depth=2, epochs=5),
}


def pixels(root: Path) -> tuple[Pixels, Pixels]:
    """Returns training and validation images, the first of the file, whose order is random, at 16 px."""
    with np.load(root / "cifar10" / "train_a.npz") as file:
        data, offsets, labels = file["data"], file["offsets"], file["labels"]
    n = N_TRAIN + N_VALIDATION
    raw = [Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())) for i in range(n)]
    images = np.stack([np.asarray(picture.convert("RGB")).transpose(2, 0, 1) for picture in raw])
    whole = Pixels(images, labels[:n].astype(np.int64), MEAN, STD).resized(16)
    return whole.subset(range(N_TRAIN)), whole.subset(range(N_TRAIN, n))


def cells(n: int) -> list[Arch]:
    """Returns ``n`` random cells that compute different functions; a larger number begins with the same ones."""
    return sampled(NASBench201(), n, 0, distinct=True)


def train(arguments: argparse.Namespace) -> None:
    """Trains cell after cell with every recipe until all are done or the time is over."""
    torch.set_num_threads(1)
    learn, check = pixels(Path(os.environ["ARCHDUEL_DATA"]))
    wanted = {name: TRIED[name] for name in arguments.recipes.split(",")}
    estimator = TrainingEstimator(learn, check, wanted, n_classes=10, run_seed=0, default=next(iter(wanted)))
    journal = Journal(arguments.trials)
    done = {record["ordinal"] for record in journal.records}
    began = time.perf_counter()
    numbered = list(enumerate(cells(arguments.cells)))
    for number, arch in reversed(numbered) if arguments.backwards else numbered:
        for name in wanted:
            ordinal = 1_000 * list(TRIED).index(name) + number
            if ordinal in done:
                continue
            if time.perf_counter() - began > arguments.seconds:
                return
            before = time.process_time()
            estimate = estimator.judge(Query(arch, name), evaluation_seed(0, ordinal))
            cpu = time.process_time() - before
            journal.append({**estimate_record(ordinal, Query(arch, name), estimate), "cpu_seconds": cpu})
            print(name, number, arch, f"{estimate.score:.4f} {cpu:.1f} CPU s", flush=True)


def published(root: Path, archs: list[Arch], column: str) -> np.ndarray:
    """Returns the published 200-epoch accuracies of ``archs`` as fractions."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(root / "nasbench201" / "nasbench201.parquet", columns=[column])[column].to_numpy()
    return np.array([table[NASBench201().index(arch)] / 100 for arch in archs])


def measured(
    trials: dict[str, dict[str, dict[str, object]]], archs: list[Arch], truth: np.ndarray
) -> tuple[list[dict[str, object]], dict[tuple[str, str], np.ndarray]]:
    """Returns a row for every recipe and reading, cheapest recipe first, and the scores (nan = not trained)."""
    rows, scores = [], {}
    for name, done in trials.items():
        recipe = TRIED[name]
        scale = Scale(recipe.channels, recipe.depth, recipe.image_size, 3, 10)
        estimates = [record_estimate(done[str(a)]) if str(a) in done else Estimate(float("nan")) for a in archs]
        there = [arch for arch in archs if str(arch) in done]
        images = float(np.mean([record["images"] for record in done.values()]))
        cost = {
            "images": images,
            "mean_macs": float(np.mean([nets.count(arch, scale).macs for arch in there])),
            "images_x_macs": images * float(np.mean([nets.count(arch, scale).macs for arch in there])),
            "cpu_seconds": float(np.mean([record["cpu_seconds"] for record in done.values()])),
            "cpu_seconds_median": float(np.median([record["cpu_seconds"] for record in done.values()])),
        }
        for kind in READINGS:
            scores[name, kind] = np.array(readings(estimates, kind))
            found = rank_agreement(scores[name, kind], truth)
            rows.append({"recipe": name, "reading": kind, **cost, **found.record()})
    free = {"images": 0.0, "mean_macs": 0.0, "images_x_macs": 0.0, "cpu_seconds": 0.0, "cpu_seconds_median": 0.0}
    for kind in SIZES:
        scores["untrained", kind] = np.array([getattr(nets.count(arch, Scale(16, 5)), kind) for arch in archs], float)
        rows.append({"recipe": "untrained", "reading": kind, **free, **rank_agreement(scores["untrained", kind], truth).record()})
    return rows, scores


def report(arguments: argparse.Namespace) -> None:
    """Writes agreement with intervals and cost of every recipe and reading, and paired comparisons with the small BPE-1."""
    root = Path(os.environ["ARCHDUEL_DATA"])
    records = [record for path in arguments.trials for record in read_journal(path)]
    trials: dict[str, dict[str, dict[str, object]]] = {}
    for record in records:
        trials.setdefault(record["fidelity"], {}).setdefault(record["arch"], record)
    trials = {name: done for name, done in trials.items() if len(done) >= FEWEST}
    archs = [arch for arch in cells(arguments.cells) if any(str(arch) in done for done in trials.values())]
    truth = published(root, archs, "cifar10_test")
    rows, scores = measured(trials, archs, truth)
    base, macs = scores["bpe1_small", "score"], scores["untrained", "macs"]
    for row in rows:
        own = scores[row["recipe"], row["reading"]]
        pairs, like = agreement_of_like_size(own, truth, macs, within=LIKE)
        _, gain = agreement_of_like_size(own, truth, macs, against=base, within=LIKE)
        row["of_like_size"] = {"pairs": pairs, "kendall": like.record(), "kendall_to_bpe1_small": gain.record()}
        both = np.isfinite(own) & np.isfinite(base)
        row["against_bpe1_small"] = {
            "n": int(both.sum()),
            **{m: agreement_difference(own, base, truth, measure=m).record() for m in ("kendall", "spearman")},
        }
    whole = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "threads": 1, "processes": 1,
        "truth": "NATS-Bench topology space, CIFAR-10 test accuracy after 200 epochs, mean of all trials",
        "images": {"train": N_TRAIN, "validation": N_VALIDATION, "side": 16}, "cells": [str(arch) for arch in archs],
        "recipes": {name: asdict(TRIED[name]) for name in trials}, "rows": rows,
        "cpu_seconds_of_all": float(sum(record["cpu_seconds"] for record in records)),
        "published_accuracy": truth.tolist(),
        "scores": {f"{n}/{k}": [None if v != v else round(float(v), 6) for v in values] for (n, k), values in scores.items()},
    }  # fmt: skip
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    lines = [
        [r["recipe"], r["reading"], r["n"], bounded_text(r["kendall"]), bounded_text(r["spearman"]), f"{r['cpu_seconds']:.1f}",
         f"{r['images_x_macs']:.2e}", f"{r['against_bpe1_small']['kendall']['value']:+.3f}", bounded_text(r["of_like_size"]["kendall"]),
         bounded_text(r["of_like_size"]["kendall_to_bpe1_small"])]
        for r in rows
    ]  # fmt: skip
    print(text_table(["recipe", "reading", "n", "Kendall", "Spearman", "CPU s", "images x MACs", "to BPE-1", "like size", "to BPE-1"], lines))


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("--recipes", default=",".join(TRIED))
    training.add_argument("--cells", type=int, default=60)
    training.add_argument("--trials", type=Path, required=True)
    training.add_argument("--seconds", type=float, default=480)
    training.add_argument("--backwards", action="store_true", help="last cell first, for a second process with a file of its own")
    training.set_defaults(run=train)
    reporting = commands.add_parser("report")
    reporting.add_argument("--trials", type=Path, nargs="+", required=True)
    reporting.add_argument("--cells", type=int, default=60)
    reporting.add_argument("--out", type=Path, required=True)
    reporting.set_defaults(run=report)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
