"""Images a processor second of a race's training step against the plain script's, the same network and the same batches' size.

    python benchmarks/race_step.py --out benchmarks/records/race_step.json

The network is the script's own (``plain_script.resnet``), built twice from one seed; the script trains with its own loop, the race
with :class:`archduel.race.training.Anytime` and its usual recipe (bfloat16 where the processor multiplies it in hardware, channels
last, flip, shifted crop, cutout, Nesterov, average of the weights). One thread. Both take turns of ``--turn`` processor seconds, so
that other load meets them alike; ``ratio`` is of the same turn. ``augmentation`` is the share of a race's step that makes the batch.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from plain_script import resnet, train
from recording import write_record

from archduel.core.storage import environment
from archduel.race import race_recipe
from archduel.race.training import Anytime
from archduel.training.images import Pixels

CASES = {"8 px, one block": (8, 1, 1), "16 px, one block": (16, 3, 1), "32 px, one block": (32, 3, 1), "32 px, three blocks": (32, 3, 3), "64 px, one block": (64, 3, 1)}
"""Name -> pixels of a side, channels of the images, blocks a stage."""
N = 2048


def script_speed(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, seconds: float) -> float:
    """Returns images a processor second of the script."""
    began = time.process_time()
    epochs = train(model, images, labels, began + seconds, flip=True)
    return epochs * len(labels) / (time.process_time() - began)


def race_speed(trainer: Anytime, seconds: float) -> float:
    """Returns images a processor second of a race's training."""
    began, images = time.process_time(), trainer.images
    trainer.run(lambda: 0.01 if time.process_time() < began + seconds else None)
    return (trainer.images - images) / (time.process_time() - began)


def batch_share(trainer: Anytime, speed: float, batches: int = 10) -> float:
    """Returns the share of a step that makes the batch: order, crop, mirror, cutout, normalisation, layout."""
    began = time.process_time()
    made = sum(len(next(trainer.cursor)[1]) for _ in range(batches))
    return (time.process_time() - began) / made * speed


def measured(side: int, channels: int, blocks: int, turns: int, turn: float) -> dict[str, Any]:
    """Returns the speeds of both at one size."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (N, channels, side, side), dtype=np.uint8), rng.integers(0, 10, N)
    look = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    data: Any = SimpleNamespace(train=SimpleNamespace(images=images, labels=labels), flip=True, image_size=side)
    torch.manual_seed(0)
    plain, x = resnet(channels, 10, blocks), torch.tensor(images).float() / 255
    recipes = {"race": race_recipe(data), "race in float32": race_recipe(data, precision="fp32")}
    trainers = {}
    for name, recipe in recipes.items():
        torch.manual_seed(0)
        trainers[name] = Anytime(resnet(channels, 10, blocks), Pixels(images, labels, **look), recipe, seed=0)
    speeds: dict[str, list[float]] = {"script": [], **{name: [] for name in trainers}}
    for number in range(turns + 1):
        found = {"script": script_speed(plain, (x - 0.5) / 0.25, torch.tensor(labels), turn)}
        found |= {name: race_speed(trainer, turn) for name, trainer in trainers.items()}
        for name, value in found.items() if number else ():  # the first turn warms up
            speeds[name].append(value)
    ratios = {name: [a / b for a, b in zip(speeds[name], speeds["script"])] for name in trainers}
    usual = statistics.median(speeds["race"])
    return {
        "images_a_second": {name: {"median": round(statistics.median(v)), "min": round(min(v)), "max": round(max(v)), "n": turns} for name, v in speeds.items()},
        "ratio": {name: {"median": round(statistics.median(v), 2), "min": round(min(v), 2), "max": round(max(v), 2)} for name, v in ratios.items()},
        "augmentation": round(batch_share(trainers["race"], usual), 3), "precision": recipes["race"].precision, "batch_size": recipes["race"].batch_size,
    }  # fmt: skip


def main() -> None:
    """Parses the command line, measures and writes the record after each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--turn", type=float, default=1.5, help="processor seconds")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name, case in CASES.items():
        found[name] = measured(*case, arguments.turns, arguments.turn)
        print(name, found[name], flush=True)
        write_record(arguments.out, {"sizes": found, "threads": 1, "command": shlex.join(["python", *sys.argv]), **environment()})


if __name__ == "__main__":
    main()
