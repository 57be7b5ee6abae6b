"""Cheap trainings of a search, one by one and together: labels a core second, in processor time of one process with one thread.

    python benchmarks/search_fused.py --out benchmarks/records/search_fused.json

Each row is a data set and the size of the cheap recipe; both ways train the same random NAS-Bench-201 cells, with the seeds that a
search would give them, through the judge and the executor that ``archduel search`` uses. ``together`` has groups of the size that the
search's own measurement chooses; what that measurement costs is a column of its own and counted in ``gain_with_measuring``. CIFAR-10
is a sample of ``ARCHDUEL_DATA/cifar10/train_a.npz``. The two ways take turns, and each row is the sum of ``--repeats`` turns.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from archduel import environment
from archduel.core import Query, evaluation_seed, sample
from archduel.data import Dataset, load
from archduel.estimators.judges import Groups, Judge
from archduel.execution import Sequential
from archduel.recipes import base_recipe
from archduel.spaces import NASBench201
from archduel.training import Pixels

ROWS = [  # data, channels, depth, epochs, labels
    ("digits", 4, 1, 4, 32),
    ("digits", 8, 1, 4, 32),
    ("digits", 16, 2, 4, 16),
    ("cifar10", 4, 1, 2, 16),
    ("cifar10", 8, 1, 2, 16),
]
IMAGES = 1200


def data_of(name: str) -> Dataset:
    """Returns the digits, or a sample of CIFAR-10."""
    if name == "digits":
        return load("digits")
    with np.load(Path(os.environ["ARCHDUEL_DATA"]) / "cifar10" / "train_a.npz") as file:  # JPEG or PNG bytes, one after the other
        data, ends, labels = file["data"], file["offsets"], file["labels"][:IMAGES].astype(np.int64)
    images = [Image.open(io.BytesIO(data[ends[i] : ends[i + 1]].tobytes())).convert("RGB") for i in range(IMAGES)]
    return load((np.stack([np.asarray(image) for image in images]), labels), image_size=32)


def judge_of(data: Dataset, channels: int, depth: int, epochs: float) -> Judge:
    """Returns the judge of a search with such a cheap recipe."""
    mean, std = data.preprocessing.mean, data.preprocessing.std
    train, validation = (Pixels(part.images, part.labels, mean, std) for part in (data.train, data.validation))
    recipe = base_recipe(len(data.train), data.image_size, data.flip, "nasbench201")
    recipe = recipe.with_(channels=channels, depth=depth, epochs=epochs)
    return Judge(train, {"validation": validation}, {"label": recipe}, data.n_classes, 0, by_likelihood=True)


def seconds_of(judge: Judge, queries: list[Query], groups: Groups) -> tuple[float, list[float], int]:
    """Returns processor seconds, scores, and how many were trained in a group."""
    began = time.process_time()
    estimates = list(Sequential(judge(), run_seed=0, at_once=groups).run(queries, range(len(queries))))
    seconds = time.process_time() - began
    assert not any(estimate.failed for estimate in estimates), estimates[0].reason
    return seconds, [estimate.score for estimate in estimates], sum("fused" in estimate.values for estimate in estimates)


def row(name: str, channels: int, depth: int, epochs: float, n: int, repeats: int) -> dict[str, Any]:
    """Returns what one size of network gives."""
    data, space, rng = data_of(name), NASBench201(), np.random.default_rng(evaluation_seed(0, 0))
    judge = judge_of(data, channels, depth, epochs)
    queries = [Query(sample(space, rng), "label") for _ in range(n)]
    began = time.process_time()
    plan = judge.plan([query.arch for query in queries[:8]], "label", n)
    measuring = time.process_time() - began
    alone = together = 0.0
    for _ in range(repeats):
        one, scores, _ = seconds_of(judge, queries, Groups("off", judge))
        several, others, grouped = seconds_of(judge, queries, Groups(plan.k, judge))
        alone, together = alone + one, together + several
    labels = n * repeats
    return {
        "data": name, "train_images": len(data.train), "channels": channels, "depth": depth, "epochs": epochs, "labels": n,
        "repeats": repeats, "at_once": plan.k, "grouped": grouped, "measuring_s": round(measuring, 2),
        "alone_labels_per_core_s": round(labels / alone, 3), "together_labels_per_core_s": round(labels / together, 3),
        "gain": round(alone / together, 2), "gain_with_measuring": round(alone / (together + measuring), 2),
        "largest_difference_of_scores": round(float(np.max(np.abs(np.array(scores) - np.array(others)))), 6),
    }  # fmt: skip


def main() -> None:
    """Measures all rows and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rows", default=",".join(map(str, range(len(ROWS)))), help="numbers of rows")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for number in map(int, arguments.rows.split(",")):
        rows.append(row(*ROWS[number], arguments.repeats))
        print(json.dumps(rows[-1]), flush=True)
    record = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(), "threads": 1, "clock": "time.process_time, other processes running beside it", "rows": rows,
    }  # fmt: skip
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
