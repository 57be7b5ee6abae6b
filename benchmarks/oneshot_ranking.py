"""How well the shared weights of a NAS-Bench-201 supernet rank cells on CIFAR-10, at a size that a CPU core can train.

    ARCHDUEL_DATA=... python benchmarks/oneshot_ranking.py --table cifar10.table --work /tmp/oneshot --out benchmarks/records/oneshot_ranking.json

Supernets are trained on a sample of CIFAR-10 at 16 x 16 pixels, 8 channels and one cell a stage, and scored on 5,000 validation
images; the truth is the table's mean test accuracy after 200 epochs of the published networks. Each variant changes one thing; the
record has its difference to the first one, and what its scores say beyond the number of weights. The same command goes
on where it was stopped; ``--only`` names some variants, ``--minutes`` ends it between two.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from oneshot_cifar10 import parser_of, pictures, root_of

LINEAR = {"affine": False, "residual": False}
SHORT, LONG = "linear blocks", "linear blocks, two cells a stage, long"
VARIANTS: dict[str, dict[str, Any]] = {
    "fair": {"tune": (0, 30)},
    "uniform": {"sampling": ("uniform",)},
    "curriculum": {"curriculum": (0.5,)},
    "second seed": {"first": 1, "recalibration": (0, 8)},
    "strict": {"sampling": ("strict",)},
    "16 channels": {"recipe": {"channels": 16}},
    "two cells a stage": {"recipe": {"depth": 2}},
    SHORT: {"supernet": LINEAR},
    "linear blocks, second seed": {"first": 1, "supernet": LINEAR},
    "linear blocks, third seed": {"first": 2, "supernet": LINEAR},
    LONG: {"passes": (70.0, 100.0), "recipe": {"depth": 2}, "supernet": LINEAR},
    "linear blocks, constant rate": {"passes": (10.0, 20.0), "supernet": LINEAR, "recipe": {"schedule": "constant"}},
    "norms without weights": {"supernet": {"affine": False, "residual": True}},
    "smaller steps": {"recipe": {"lr": 0.05}},
    "batches of 32": {"recipe": {"batch_size": 32}},
}
"""What differs from the settings of :func:`settings`."""
BELIEF = (0.0, 0.5, 1.0, 2.0)
"""Weights of the size beside the score, see :func:`archduel.rankers.size_belief.lifted`."""


def main() -> None:
    """Trains, scores, and writes the record of what is there."""
    parser = parser_of(__doc__, images=40_000)
    parser.add_argument("--table", required=True)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--passes", default="10")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--validation", type=float, default=0.125)
    parser.add_argument("--report", action="store_true", help="train nothing, write the record of what is there")
    arguments = parser.parse_args()
    root = root_of(parser)
    import torch

    from archduel import bench_one_shot

    torch.set_num_threads(1)
    began, data = time.monotonic(), pictures(root, arguments.images)
    for name in arguments.only if not arguments.report else ():
        lock = taken(arguments.work / f"{title(name)}.lock")
        if lock is not None and time.monotonic() - began < 60 * arguments.minutes:  # else another process is at it
            kept = arguments.work / f"{title(name)}.trials.jsonl"
            bench_one_shot(data, arguments.table, trials=kept, on_batch=Told(name), **settings(name, arguments))
    write(arguments, data)


def title(name: str) -> str:
    """Returns what a variant's files are called."""
    return name.replace(",", "").replace(" ", "-")


def settings(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings of a variant's comparison."""
    recipe = {
        "channels": arguments.channels,
        "depth": arguments.depth,
        "batch_size": arguments.batch_size,
        "lr": arguments.lr,
        "weight_decay": 3e-4,
    }
    usual = {
        "cells": arguments.cells,
        "passes": tuple(float(n) for n in arguments.passes.split(",")),
        "sampling": ("fair",),
        "curriculum": (0.0,),
        "recalibration": (8,),
        "seed": 0,
        "first": 0,
        "supernet": {"affine": True, "residual": True},
        "load": {"image_size": arguments.image_size, "validation": arguments.validation, "test": 0.02},
    }
    changed = VARIANTS[name]
    return {**usual, **changed, "recipe": {**recipe, **changed.get("recipe", {})}}


def write(arguments: argparse.Namespace, data: Any) -> None:
    """Writes the record of all finished trials, with what each variant changes."""
    from archduel.commands.bench.one_shot import facts_of, record_of
    from archduel.commands.bench.one_shot_trials import OneShot, OneShotProtocol, OneShotTrial
    from archduel.commands.bench.trials import read_trials
    from archduel.core.storage import read_journal
    from archduel.spaces import family as nets

    records, facts, counts, macs = list[dict[str, Any]](), dict[str, Any](), np.zeros(0), np.zeros(0)
    for name in VARIANTS:
        protocol = OneShotProtocol(table=arguments.table, data="given images", **settings(name, arguments))
        lines = read_journal(arguments.work / f"{title(name)}.trials.jsonl", skip_damaged=True)
        trials = read_trials(lines, OneShotTrial, protocol).values()
        if not facts:
            one_shot = OneShot(protocol, data)
            facts = {**facts_of(one_shot), "table": one_shot.table.name}
            counts, macs = np.array([nets.count(arch, one_shot.scale) for arch in one_shot.archs], np.float64).T
        truth = np.asarray(facts["truth"])
        for trial in trials:
            records.append({"variant": name, **record_of(trial, truth), **beyond(trial, counts, truth), **with_size(trial, macs, truth)})
    sizes = f"{facts['n_train']} training and {facts['n_validation']} validation images"
    whole = {
        "command": shlex.join(["python", *sys.argv]),
        "threads": 1,
        "processes": 1,
        "data": f"CIFAR-10, {sizes} of its training set at {arguments.image_size} px",
        "variants": {name: settings(name, arguments) for name in VARIANTS},
        "facts": facts,
        "effects": effects(records, np.asarray(facts["truth"])),
        "records": records,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    for r in records:
        taus = [round(r[key]["value"], 3) for key in ("kendall_tau", "kendall_tau_of_loss", "partial_tau_of_loss", "tau_with_count")]
        print(r["variant"], r["passes"], r["recalibration"], r["tune"], *taus, f"{r['train_seconds']:.0f} s", flush=True)
    for e in whole["effects"]:
        print(e["variant"], "instead of", e["against"], e["of"], {k: round(v, 3) for k, v in e["difference"].items()})


def beyond(trial: Any, counts: Any, truth: Any) -> dict[str, Any]:
    """Returns what validation losses say about the true order beyond the number of weights.

    ``partial_tau_of_loss`` is Kendall's partial tau, the number of weights held equal; ``tau_with_count`` is that of the mean of both
    ranks. Intervals are percentiles of a bootstrap over cells.
    """
    from scipy import stats

    scores, rng = -np.asarray(trial.losses), np.random.default_rng(0)

    def tau(a: Any, b: Any) -> float:
        return float(stats.kendalltau(a, b).statistic)

    def partial(rows: Any) -> float:
        s, c, t = scores[rows], counts[rows], truth[rows]
        st, sc, ct = tau(s, t), tau(s, c), tau(c, t)
        rest = float(np.sqrt((1 - sc**2) * (1 - ct**2)))
        return (st - sc * ct) / rest if rest else float("nan")

    def both(rows: Any) -> float:
        return tau(stats.rankdata(scores[rows]) + stats.rankdata(counts[rows]), truth[rows])

    every, found = np.arange(len(truth)), dict[str, Any]()
    drawn = [rng.integers(len(truth), size=len(truth)) for _ in range(1000)]
    for name, value in (("partial_tau_of_loss", partial), ("tau_with_count", both)):
        low, high = np.nanquantile([value(rows) for rows in drawn], [0.025, 0.975])
        found[name] = {"value": value(every), "low": float(low), "high": float(high), "n": len(truth)}
    return {**found, "tau_of_loss_and_count": tau(scores, counts)}


def with_size(trial: Any, macs: Any, truth: Any) -> dict[str, Any]:
    """Returns what scores say together with the belief that cells with more multiply-adds are better, by weight of the belief."""
    from archduel.rankers.size_belief import lifted
    from archduel.reporting import kendall_tau

    better = truth >= np.median(truth)

    def said(mixed: Any) -> dict[str, Any]:
        return {
            "tau": kendall_tau(mixed, truth).record(),
            "better_half": kendall_tau(mixed[better], truth[better]).record(),
            "truth_of_best_five": float(truth[np.argsort(-mixed, kind="stable")[:5]].mean()),
        }

    found = {"macs alone": said(macs)}
    for of, scores in (("accuracy", np.asarray(trial.scores)), ("loss", -np.asarray(trial.losses))):
        found |= {f"{of}, weight {weight:g}": said(lifted(scores, macs, weight)) for weight in BELIEF}
    return {"with_size": found}


def effects(records: list[dict[str, Any]], truth: Any) -> list[dict[str, Any]]:
    """Returns each variant's tau minus the first one's, and what recalibration and learning alone change, with intervals over cells."""
    from archduel.commands.bench.one_shot import tau_difference

    keys = ("passes", "recalibration", "tune")
    known = {(r["variant"], *(r[key] for key in keys)): r for r in records}
    first, pairs = next(iter(VARIANTS)), list[tuple[Any, Any, str, str]]()
    for (name, passes, recalibration, tune), r in known.items():
        pairs.append((r, known.get((first, passes, recalibration, tune)), name, first))
        if name == LONG:
            pairs.append((r, known.get((SHORT, 10.0, recalibration, tune)), name, f"{SHORT}, 10 passes"))
        if recalibration:
            pairs.append((r, known.get((name, passes, 0, tune)), f"{name}, recalibrated", f"{name}, running statistics"))
        if tune:
            pairs.append((r, known.get((name, passes, recalibration, 0)), f"{name}, {tune} batches alone", f"{name}, none alone"))
    found = []
    for record, other, name, against in pairs:
        if other is None or record is other:
            continue
        for of in ("accuracy", "loss"):
            one, two = (r["scores"] if of == "accuracy" else [-loss for loss in r["losses"]] for r in (record, other))
            about = {"variant": name, "against": against, "of": of, **{key: record[key] for key in keys}}
            found.append({**about, "difference": tau_difference(one, two, truth, 0)})
    return found


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
