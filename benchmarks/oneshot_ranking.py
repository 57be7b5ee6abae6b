"""How well the shared weights of a NAS-Bench-201 supernet rank cells on CIFAR-10, at a size that a CPU core can train.

    ARCHDUEL_DATA=... python benchmarks/oneshot_ranking.py --table cifar10.table --work /tmp/oneshot --out benchmarks/records/oneshot_ranking.json

Supernets are trained on a sample of CIFAR-10 at 16 x 16 pixels, 8 channels and one cell a stage; the truth is the table's mean
test accuracy after 200 epochs of the published networks. Sampling, curriculum and recalibration each vary alone; the main
variant has two seeds. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from cifar10_folder import stored

PARTS: tuple[dict[str, Any], ...] = (
    {"sampling": ("fair",), "curriculum": (0.0,)},
    {"sampling": ("uniform",), "curriculum": (0.0,)},
    {"sampling": ("fair",), "curriculum": (0.5,)},
    {"sampling": ("strict",), "curriculum": (0.0,)},
    {"sampling": ("fair",), "curriculum": (0.0,), "first": 1},
)


def pictures(root: Path, n: int) -> tuple[Any, Any]:
    """Returns the first ``n`` training pictures (n, 32, 32, 3) and labels; their stored order is random."""
    images, labels = [], []
    for image, label in stored(root / "cifar10", ["train_a", "train_b"]):
        images.append(np.asarray(image.convert("RGB")))
        labels.append(label)
        if len(images) == n:
            break
    return np.stack(images), np.unique(labels, return_inverse=True)[1]


def main() -> None:
    """Trains, scores, and writes the record of what is finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--passes", default="10,20")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if "ARCHDUEL_DATA" not in os.environ:
        parser.error("set ARCHDUEL_DATA to the folder that holds cifar10/train_a.npz and train_b.npz")
    import torch

    from archduel.apps.bench_oneshot import bench_oneshot

    torch.set_num_threads(1)
    data = pictures(Path(os.environ["ARCHDUEL_DATA"]), arguments.images)
    began, found = time.perf_counter(), []
    for part in PARTS:
        name = "-".join(str(part[key][0]) for key in ("sampling", "curriculum")) + f"-{part.get('first', 0)}"
        lock = taken(arguments.work / f"{name}.lock")
        if lock is None:  # another process is at it
            continue
        bench = bench_oneshot(
            data,
            arguments.table,
            trials=arguments.work / f"{name}.trials.jsonl",
            on_batch=Told(name),
            cells=arguments.cells,
            passes=tuple(float(n) for n in arguments.passes.split(",")),
            sampling=part["sampling"],
            curriculum=part["curriculum"],
            recalibration=(0, 8),
            score_share=1.0,
            seed=0,
            first=part.get("first", 0),
            recipe={
                "channels": arguments.channels,
                "depth": 1,
                "batch_size": arguments.batch_size,
                "lr": arguments.lr,
                "weight_decay": 3e-4,
            },
            load={"image_size": arguments.image_size, "validation": 0.05, "test": 0.02},
        )
        found.append(bench)
        write(arguments.out, found, len(PARTS))
        for record in bench.records:
            print(name, record["passes"], record["recalibration"], record["kendall_tau"], flush=True)
    print(f"{time.perf_counter() - began:.0f} s in this run")


def taken(path: Path) -> Any:
    """Returns a file that is locked until the process ends, or None if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "w")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    LOCKS.append(file)
    return file


LOCKS: list[Any] = []


def write(out: Path, found: list[Any], parts: int) -> None:
    """Writes the record of the finished variants, with the effect of each option."""
    from archduel.apps.bench_oneshot import effects_of

    facts = found[0].facts
    records = [record for bench in found for record in bench.records]
    truth = np.asarray(facts["truth"])
    whole = {
        "command": shlex.join(["python", *sys.argv]),
        "finished_variants": f"{len(found)} of {parts}",
        "threads": 1,
        "processes": 1,
        "data": f"CIFAR-10, {facts['n_train']} training and {facts['n_validation']} validation images of the training set",
        "facts": {k: v for k, v in facts.items() if k not in ("sampling", "curriculum", "data", "first")},
        "effects": effects_of(records, truth, seed=0),
        "records": records,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(whole, indent=1) + "\n")


class Told:
    """Prints a line every half minute."""

    def __init__(self, name: str) -> None:
        self.name, self.last = name, 0.0

    def __call__(self, line: str) -> None:
        if time.monotonic() - self.last > 30:
            self.last = time.monotonic()
            print(self.name, line, flush=True)


if __name__ == "__main__":
    main()
