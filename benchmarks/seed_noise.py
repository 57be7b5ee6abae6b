"""How well two seeds of one recipe agree on the order of random cells: the ceiling of every cheap label.

    python benchmarks/seed_noise.py cifar10_5000/ --cells 30 --epochs 6 --channels 8 --depth 1 --out record.json
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from archduel import environment, registry
from archduel.core import Query, sample
from archduel.data import load
from archduel.estimators.judges import Judge
from archduel.execution import Processes
from archduel.recipes import base_recipe
from archduel.reporting import kendall_tau
from archduel.training import Pixels


def agreement(scores: np.ndarray) -> dict[str, object]:
    """Returns Kendall tau between the seeds over all cells and over the better half, and the two spreads."""
    pairs = [(i, j) for i in range(len(scores)) for j in range(i)]
    top = np.argsort(-scores.mean(0))[: scores.shape[1] // 2]
    return {
        "tau": [kendall_tau(scores[i], scores[j]).record() for i, j in pairs],
        "tau_better_half": [kendall_tau(scores[i][top], scores[j][top]).record() for i, j in pairs],
        "seed_spread": float(scores.std(0, ddof=1).mean()), "cell_spread": float(scores.mean(0).std(ddof=1)),
    }  # fmt: skip


def main() -> None:
    """Trains every cell with every seed and writes Kendall tau between the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--space", default="nasbench201")
    parser.add_argument("--cells", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    dataset = load(arguments.data, **({"image_size": arguments.image_size} if arguments.image_size else {}))
    mean, std = dataset.preprocessing.mean, dataset.preprocessing.std
    train, validation = (Pixels(s.images, s.labels, mean, std) for s in (dataset.train, dataset.validation))
    recipe = base_recipe(len(dataset.train), dataset.image_size, dataset.flip, arguments.space).with_(
        epochs=arguments.epochs, channels=arguments.channels, depth=arguments.depth
    )
    factory = Judge(train, {"validation": validation}, {"label": recipe}, dataset.n_classes, 0, by_likelihood=True)
    space, rng = registry.make("space", arguments.space), np.random.default_rng(0)
    cells: dict[str, object] = {}
    while len(cells) < arguments.cells:
        arch = sample(space, rng)
        cells.setdefault(space.fingerprint(arch), arch)
    queries = [Query(arch) for arch in cells.values()]
    began = time.perf_counter()
    with Processes(factory, workers=arguments.workers, run_seed=0) as executor:
        trained = [
            list(executor.run(queries, [10_000 * seed + i for i in range(len(queries))])) for seed in range(arguments.seeds)
        ]
    readings = {
        "likelihood": [[e.score for e in estimates] for estimates in trained],
        "accuracy": [[e.values["val_accuracy"] for e in estimates] for estimates in trained],
    }
    record = {
        "command": shlex.join(["python", *sys.argv]), **environment(),
        "seconds": time.perf_counter() - began, "recipe": {k: getattr(recipe, k) for k in ("epochs", "channels", "depth", "image_size", "batch_size", "lr")},
        "n_train": len(dataset.train), "n_validation": len(dataset.validation),
        "by": {name: agreement(np.array(scores)) for name, scores in readings.items()},
        "cells": [str(q.arch) for q in queries], "scores": readings,
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1))
    print(json.dumps({k: record[k] for k in ("by", "seconds")}, indent=1))


if __name__ == "__main__":
    main()
