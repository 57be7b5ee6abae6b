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
    """Trains, scores, and writes the record of what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--passes", default="10,20")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--validation", type=float, default=0.05)
    parser.add_argument("--report", action="store_true", help="train nothing, write the record of what is there")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if "ARCHDUEL_DATA" not in os.environ:
        parser.error("set ARCHDUEL_DATA to the folder that holds cifar10/train_a.npz and train_b.npz")
    import torch

    from archduel.apps.bench_oneshot import bench_oneshot

    torch.set_num_threads(1)
    data = pictures(Path(os.environ["ARCHDUEL_DATA"]), arguments.images)
    for part in PARTS if not arguments.report else ():
        lock = taken(arguments.work / f"{title(part)}.lock")
        if lock is not None:  # else another process is at it
            kept = arguments.work / f"{title(part)}.trials.jsonl"
            bench_oneshot(data, arguments.table, trials=kept, on_batch=Told(title(part)), **settings(part, arguments))
            write(arguments, data)
    write(arguments, data)


def title(part: dict[str, Any]) -> str:
    """Returns what a variant's files are called."""
    return f"{part['sampling'][0]}-{part['curriculum'][0]}-{part.get('first', 0)}"


def settings(part: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings of a variant's comparison."""
    return {
        "cells": arguments.cells,
        "passes": tuple(float(n) for n in arguments.passes.split(",")),
        "sampling": part["sampling"],
        "curriculum": part["curriculum"],
        "recalibration": (0, 8),
        "score_share": 1.0,
        "seed": 0,
        "first": part.get("first", 0),
        "recipe": {
            "channels": arguments.channels,
            "depth": arguments.depth,
            "batch_size": arguments.batch_size,
            "lr": arguments.lr,
            "weight_decay": 3e-4,
        },
        "load": {"image_size": arguments.image_size, "validation": arguments.validation, "test": 0.02},
    }


def write(arguments: argparse.Namespace, data: Any) -> None:
    """Writes the record of all finished trials, with the effect of each option."""
    from archduel.apps.bench_oneshot import effects_of, facts_of, record_of
    from archduel.apps.oneshot_protocol import OneshotProtocol
    from archduel.apps.oneshot_trials import Oneshot, TrialFile

    records, facts, wanted = list[dict[str, Any]](), dict[str, Any](), 0
    for part in PARTS:
        protocol = OneshotProtocol(table=arguments.table, data="given images", **settings(part, arguments))
        wanted += len(protocol.passes) * len(protocol.recalibration)
        oneshot = Oneshot(protocol, data)
        facts = facts or {**facts_of(oneshot), "table": oneshot.table.name}
        trials = TrialFile(arguments.work / f"{title(part)}.trials.jsonl", protocol).read()
        records += [record_of(trial, oneshot.truth) for trial in trials]
    sizes = f"{facts['n_train']} training and {facts['n_validation']} validation images"
    whole = {
        "command": shlex.join(["python", *sys.argv]),
        "finished": f"{len(records)} of {wanted} trials",
        "threads": 1,
        "processes": 1,
        "data": f"CIFAR-10, {sizes} of its training set at {arguments.image_size} px",
        "facts": facts,
        "effects": effects_of(records, np.asarray(facts["truth"]), seed=0),
        "records": records,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    for r in records:
        print(r["sampling"], r["curriculum"], r["seed"], r["passes"], r["recalibration"], r["kendall_tau"], flush=True)


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
