"""Searches of a person's own space on 5,000 CIFAR-10 images, paired: `best` and `ctnas` against random search and the module as written.

    python benchmarks/own_space.py --searches 5 --evaluations 16 --out benchmarks/records/own_space.json
    python benchmarks/own_space.py --searches 5 --evaluations 16 --recipe benchmarks/records/own_space.json --out benchmarks/records/own_space_recipe.json

Every search evaluates equally many networks, each trained for ``--epochs`` on 4,000 images and scored on 1,000 validation images by the
likelihood of the right classes. What it chose is trained anew for ``--final-epochs`` on all 5,000, and the 10,000 test images are read
once. A pair is a seed: of splits, searches and trainings. The module as written is the architecture of all first options, trained
likewise; it costs no search. Multiply-adds are limited as they are foretold for rankers, which in this space is coarse: the record has the
counted ones. With ``--recipe`` `best` searches architecture and recipe together, and is compared with `best` on the architecture alone in an
earlier record of the same seeds and settings. Images are read from the folder in ``ARCHDUEL_DATA``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from against_plain import decoded
from recording import write_record
from torch import nn

import archduel
from archduel import choose, environment, repeat, switch
from archduel.reporting import mean_interval
from archduel.spaces.own.network import count_own, predicted_costs
from archduel.training import Pixels, Recipe, evaluate, train

MOST_MACS = 1.25
"""Networks may make so many times the multiply-adds of the module as written, so that a search is not one for size."""


class Block(nn.Module):
    """A bottleneck with a depthwise convolution, with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        kernel, expand = choose("kernel", [3, 5]), choose("expand", [2, 1, 3])
        hidden = width * expand
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), switch("act", {"relu": nn.ReLU, "silu": nn.SiLU}),
            nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden if choose("depthwise", [True, False]) else 1, bias=False),
            nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns maps of the same shape."""
        return x + self.layers(x)


class Mine(nn.Module):
    """Three stages whose widths follow from the first and a growth."""

    def __init__(self, in_channels: int, n_classes: int) -> None:
        super().__init__()
        width, growth = choose("width", [12, 8, 16]), choose("growth", [1.5, 1.25, 2.0])
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, choose("stem_stride", [2, 1]), 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        for stage in range(3):
            layers.append(repeat(f"stage{stage}", lambda i, width=width: Block(width), [2, 1, 3]))
            after = int(width * growth)
            down = switch(f"down{stage}", {
                "conv": lambda w=width, a=after: nn.Conv2d(w, a, 3, 2, 1, bias=False),
                "pool": lambda w=width, a=after: nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(w, a, 1, bias=False)),
            })  # fmt: skip
            layers += [down, nn.BatchNorm2d(after), nn.ReLU()]
            width = after
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, classes)."""
        return self.head(self.body(x).mean((2, 3)))  # type: ignore[no-any-return]


BASE = Recipe(lr=0.1, batch_size=64, flip=True, crop_pad=4, label_smoothing=0.0, weight_decay=5e-4)
JOINT = {
    "lr": [0.1, 0.05, 0.2], "weight_decay": [5e-4, 2e-3], "batch_size": [64, 32], "label_smoothing": [0.0, 0.1],
    "augment": {"crop": {"crop_pad": 4}, "none": {"crop_pad": 0}, "shift": {"crop_pad": 2}},
}  # fmt: skip


def images(seed: int) -> dict[str, Pixels]:
    """Returns 4,000 training and 1,000 validation images, drawn by ``seed``, both together, and all test images."""
    root = Path(os.environ["ARCHDUEL_DATA"]) / "cifar10"
    rows = range(0, 25_000, 5)
    x, y = decoded(root / "train_a.npz", rows)
    x_test, y_test = decoded(root / "test.npz")
    order = np.random.default_rng(seed).permutation(len(y))
    mean, std = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)

    def pixels(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Pixels:
        return Pixels(np.ascontiguousarray(a.transpose(0, 3, 1, 2)), b, mean, std)

    parts = {"train": order[:4000], "validation": order[4000:], "both": order}
    return {**{name: pixels(x[rows], y[rows]) for name, rows in parts.items()}, "test": pixels(x_test, y_test)}


def evaluator(data: dict[str, Pixels], epochs: float) -> Callable[..., dict[str, Any]]:
    """Returns what a study evaluates with."""

    def judge(model: nn.Module, context: Any) -> dict[str, Any]:
        changes = CHANGES(context.arch)
        trained = train(model, data["train"], BASE.with_(epochs=epochs, **changes), seed=context.seed)
        found = evaluate(model, data["validation"])
        return {"score": found.likelihood() if not trained.reason else float("nan"), "accuracy": found.accuracy}

    return judge


def CHANGES(arch: archduel.Arch) -> dict[str, Any]:
    """Returns what an architecture says of its training."""
    return SPACES[arch.space].recipe_changes(arch)


SPACES: dict[str, Any] = {}


def final(space: Any, arch: archduel.Arch, data: dict[str, Pixels], epochs: float, seed: int) -> dict[str, Any]:
    """Trains an architecture on all images and reads the test images once."""
    torch.manual_seed(seed)
    model = space.build(arch)
    train(model, data["both"], BASE.with_(epochs=epochs, **space.recipe_changes(arch)), seed=seed)
    counts = count_own(space, arch, space.scale)
    return {"arch": str(arch), "text": space.write(arch), "test": evaluate(model, data["test"]).accuracy, **counts._asdict()}


def one(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the searches of a seed and trains what they chose."""
    plain = archduel.space_of(Mine, check=False)
    joint = plain + archduel.recipe_space(**JOINT)
    SPACES.update({space.name: space for space in (plain, joint)})
    data = images(seed)
    most = MOST_MACS * count_own(plain, plain.start(), plain.scale).macs
    sides = {"joint": ("best", joint)} if arguments.recipe else {
        "best": ("best", plain), "ctnas": ("ctnas", plain), "random": ("random", plain)}  # fmt: skip
    chosen: dict[str, Any] = {} if arguments.recipe else {"as written": (plain, plain.start(), {})}
    for title, (strategy, space) in sides.items():
        began = time.process_time()
        study = archduel.search_space(
            space, evaluator(data, arguments.epochs), strategy=strategy, evaluations=arguments.evaluations, seed=seed, quiet=True,
            constraint=lambda arch, space=space: predicted_costs(space, [arch], space.scale)[0, 1] <= most,
        )  # fmt: skip
        facts = {"search_seconds": round(time.process_time() - began, 1), "score": study.best.score, "accuracy": study.best.measures["accuracy"]}
        chosen[title] = (space, study.best.arch, facts)
    found = {title: {**facts, **final(space, arch, data, arguments.final_epochs, seed)} for title, (space, arch, facts) in chosen.items()}
    known = json.loads(arguments.recipe.read_text())["rows"][seed] if arguments.recipe else {}
    return {"seed": seed, **{title: known[title] for title in ("as written", "best") if known}, **found}


def differences(rows: list[dict[str, Any]], first: str, others: list[str]) -> dict[str, Any]:
    """Returns the mean difference in test accuracy of ``first`` and each other side, with its 95 % interval over the pairs."""
    out = {}
    for other in others:
        gaps = [row[first]["test"] - row[other]["test"] for row in rows]
        mean = mean_interval(gaps)
        out[f"{first} - {other}"] = {"mean": mean.value, "low": mean.low if mean.known else None, "high": mean.high if mean.known else None, "n": len(gaps)}
    return out


def main() -> None:
    """Runs all searches and writes the record after each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=16)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--final-epochs", type=float, default=8)
    parser.add_argument("--recipe", type=Path, help="the record of searches with the fixed recipe")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.searches):
        rows.append(one(seed, arguments))
        sides = ["best", "joint"] if arguments.recipe else ["best", "ctnas", "random"]
        compared: dict[str, Any] = {}
        for title in sides:
            compared |= differences(rows, title, [other for other in ("random", "best", "as written") if other != title and other in rows[0] and not (title == "random" and other == "best")])
        space = SPACES["Mine"]
        write_record(arguments.out, {
            "command": shlex.join(sys.argv), **environment(), "architectures": space.size, "exact": space.exact, "images": 5000,
            "evaluations": arguments.evaluations, "epochs": arguments.epochs, "final_epochs": arguments.final_epochs,
            "mean_test": {title: float(np.mean([row[title]["test"] for row in rows])) for title in ["as written", *sides]},
            "differences": compared, "rows": rows,
        })  # fmt: skip
        print(seed, {title: rows[-1][title]["test"] for title in ["as written", *sides]}, flush=True)


if __name__ == "__main__":
    main()
