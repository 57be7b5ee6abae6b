"""Which cheap label orders parts of a published network as fine-tuning them for a while does.

    python benchmarks/cheap_labels.py --images cifar10 --members 40 --seconds 40 --out benchmarks/records/cheap_labels.jsonl
    python benchmarks/cheap_labels.py --summary --out benchmarks/records/cheap_labels.jsonl

Members of space ``pretrained`` (EfficientNet-Lite0) are drawn at random within limits; each is opened as a race opens it (its head from frozen features,
norms measured where it is thinned) and fine-tuned with the race's recipe for so many processor seconds of one thread: a rate that rises over a tenth of
the time, is constant, and falls over the last 0.4. Labels: a ridge probe of the frozen features of its own trunk, of 512 and of 2,000 images (``probe``), the network as it was opened (0 s), its averaged
weights on the way, parameters and multiply-adds; and ridge regressions on some of these, with whether only the head is trained, that were told of all other members.
Truth: accuracy and loss of the last weights. All are of images that no other measurement uses (those of ``distillation.py``). ``--summary`` prints, as JSON,
Kendall's tau-b of each label with the truth and its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from against_plain import done
from distillation import MEAN, STD, images

from archduel.core import Scale, parse, sample
from archduel.core.storage import environment
from archduel.pretrained.features import own_features
from archduel.pretrained.known import Known
from archduel.pretrained.probes import ridge_probe
from archduel.race import race_recipe
from archduel.race.training import Anytime
from archduel.reporting.statistics import kendall_tau
from archduel.spaces.pretrained.space import Pretrained, count, plan_of
from archduel.training.metrics import evaluate
from archduel.training.recipe import Recipe

MARKS = (0.0, 0.05, 0.15)
"""Shares of the time after which a label is taken."""
WARMUP, FALL = 0.1, 0.4
JUDGED = 1_500
PROBED = (512, 2_000)
"""Training images that a probe is told the classes of."""
SPACE = Pretrained(backbones=["efficientnet_lite0"], resolutions=[64, 96, 128])


def usual(train: Any) -> Recipe:
    """Returns the recipe of a race with these images."""
    return race_recipe(SimpleNamespace(train=SimpleNamespace(labels=train.labels), flip=True, image_size=32))


def knowing(space: Pretrained, train: Any, held: Any, scale: Scale, seconds: float) -> Known:
    """Returns the source of members of a race of so many seconds, without limits, after its look at the images."""
    known = Known(space, scale, MEAN, STD, lambda arch, scale, counts: True, precision=usual(train).precision, alone=False, smaller=True)
    known.prepare(train, held, seconds, now=time.process_time)
    return known


def members(n: int, scale: Scale, most: int) -> list[Any]:
    """Returns so many random architectures of at most ``most`` multiply-adds."""
    rng, drawn = np.random.default_rng(29), []
    while len(drawn) < n:
        arch = sample(SPACE, rng)
        if count(arch, scale).macs <= most and arch not in drawn:
            drawn.append(arch)
    return drawn


def probed(model: Any, train: Any, held: Any, classes: int) -> list[dict[str, Any]]:
    """Returns what linear probes of the features of an opened network's own trunk come to, and their seconds."""
    judged, answers, found = own_features(model, held), held.labels.cpu().numpy(), []
    for n in PROBED:
        began, told = time.process_time(), train.fraction(n / len(train), 1)
        probe = ridge_probe(own_features(model, told), told.labels.cpu().numpy(), judged, answers, classes)
        numbers = {"accuracy": probe.accuracy, "score": probe.score, "evidence": probe.evidence}
        found.append({"images": len(told), **numbers, "seconds": round(time.process_time() - began, 2)})
    return found


def trained(known: Known, arch: Any, train: Any, held: Any, recipe: Any, seconds: float) -> dict[str, Any]:
    """Fine-tunes a member and returns its labels on the way and at the end."""
    within = known.sized(arch)
    assert within is not None
    scale, counts = within
    began = time.process_time()
    model = known.open(arch, scale, train, 0, fresh=True)
    opened, own = time.process_time() - began, known.recipe(arch, recipe)
    shown, judged = train.resized(own.image_size), held.resized(own.image_size)
    probes = probed(model, shown, judged, scale.n_classes)
    model.tune()
    trainer = Anytime(model, shown, own, seed=0)
    spent, labels = 0.0, []
    for goal in (*(mark * seconds for mark in MARKS), seconds):
        began, base = time.process_time(), spent

        def rate() -> float | None:
            now = base + time.process_time() - began  # noqa: B023 - used within this turn
            risen, left = now / (WARMUP * seconds), (seconds - now) / (FALL * seconds)
            return None if now >= goal else own.lr * min(1.0, risen, left)  # noqa: B023

        if goal:
            trainer.run(rate)
            spent = base + time.process_time() - began
        if goal < seconds:
            with trainer.averaged() as network:
                found = evaluate(network, judged, precision=own.precision, channels_last=own.channels_last)
        else:
            found = evaluate(trainer.model, judged, precision=own.precision, channels_last=own.channels_last)
        labels.append({"seconds": round(spent, 2), "passes": round(trainer.passes, 2), "accuracy": found.accuracy, "loss": found.loss})
    return {"name": known.named(arch), "params": counts.params, "macs": counts.macs, "opening": round(opened, 2), "probes": probes, "labels": labels}


def learned(columns: list[Any], truth: np.ndarray) -> np.ndarray:
    """Returns what a ridge regression on some columns, told of all other members, expects of each (N,)."""
    x = np.array(columns, float).T
    x = (x - x.mean(0)) / (x.std(0) + 1e-9)
    found = np.empty(len(truth))
    for i in range(len(truth)):
        others = np.arange(len(truth)) != i
        mean = truth[others].mean(), x[others].mean(0)
        centred = x[others] - mean[1]
        weights = np.linalg.solve(centred.T @ centred + np.eye(x.shape[1]), centred.T @ (truth[others] - mean[0]))
        found[i] = mean[0] + (x[i] - mean[1]) @ weights
    return found


def combined(records: list[dict[str, Any]], truth: np.ndarray) -> dict[str, np.ndarray]:
    """Returns labels that are learned from the other members: what a probe says, what is trained and what it costs."""
    head = [plan_of(parse(r["arch"])).tuned == "head" for r in records]
    costs, probe = np.log([r["macs"] for r in records]), [r["probes"][-1]["accuracy"] for r in records]
    soon = [r["labels"][-2]["accuracy"] for r in records]
    base = [head, costs]
    return {
        "learned: head, macs": learned(base, truth), "learned: probe, head, macs": learned([probe, *base], truth),
        f"learned: accuracy after {MARKS[-1]:g}, head, macs": learned([soon, *base], truth),
        f"learned: probe, accuracy after {MARKS[-1]:g}, head, macs": learned([probe, soon, *base], truth),
    }  # fmt: skip


def taus(path: Path) -> list[dict[str, Any]]:
    """Returns how each label orders the members, by their loss at the end."""
    by: dict[str, list[dict[str, Any]]] = {}
    for record in done(path):
        by.setdefault(record["images"], []).append(record)
    rows = []
    for name, records in by.items():
        truth = np.array([-record["labels"][-1]["loss"] for record in records])
        labels = {"params": [r["params"] for r in records], "macs": [r["macs"] for r in records]}
        for i, n in enumerate(PROBED if all("probes" in r for r in records) else ()):
            for what in ("accuracy", "score", "evidence"):
                labels[f"probe of {n} images, {what}"] = [r["probes"][i][what] for r in records]
        for i, mark in enumerate(MARKS):
            for what, sign in (("accuracy", 1), ("loss", -1)):
                labels[f"{what} after {mark:g}"] = [sign * r["labels"][i][what] for r in records]
        if all("probes" in r for r in records):
            labels |= combined(records, truth)
        for label, values in labels.items():
            tau = kendall_tau(values, truth).record()
            rows.append({"images": name, "n": tau["n"], "label": label, "tau": tau["value"], "low": tau["low"], "high": tau["high"]})
    return rows


def main() -> None:
    """Runs what the file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", choices=("cifar10", "cifar100"), default="cifar10")
    parser.add_argument("--members", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--max-macs", type=int, default=60_000_000)
    parser.add_argument("--summary", action="store_true", help="print the taus and run nothing")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/cheap_labels.jsonl"))
    given = parser.parse_args()
    if given.summary:
        found = {"of": given.out.name, "marks": MARKS, "command": " ".join(["python", *sys.argv]), "rows": taus(given.out), **environment()}
        print(json.dumps(found, indent=1))
        return
    torch.set_num_threads(1)
    train, held, classes = images(given.images)
    held = held.subset(np.arange(JUDGED))
    recipe, scale = usual(train), Scale(1, 1, 32, 3, classes)
    known = knowing(SPACE, train, held, scale, 2_000.0)
    have = {(record["images"], record["arch"]) for record in done(given.out)}
    for arch in members(given.members, scale, given.max_macs):
        if (given.images, str(arch)) not in have:
            found = trained(known, arch, train, held, recipe, given.seconds)
            record = {"images": given.images, "arch": str(arch), "of_seconds": given.seconds, "judged": len(held), **found, "load_average": os.getloadavg()[0]}
            record |= {"command": " ".join(["python", *sys.argv]), **environment()}
            with given.out.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(record["name"], [(each["seconds"], each["accuracy"]) for each in record["labels"]], flush=True)


if __name__ == "__main__":
    main()
