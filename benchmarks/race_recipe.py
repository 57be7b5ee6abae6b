"""What makes one network better in a given processor time: schedule, precision, augmentation, all images, the network itself.

    python benchmarks/race_recipe.py --row cifar5k-3m --seconds 90 --network stages:conv2-pool-1-1-1-2-2-plain-all-maximum --channels 32 \\
        --schedule fall --out benchmarks/records/race_recipe.jsonl

One training a call, in this process with one thread; time is processor time. ``fall`` is the race's schedule (constant, then
linearly to zero), ``cosine`` one cycle. Accuracies are of the last weights and of the average of the latest ones; a line is
appended to ``--out``. Rows and images are those of ``against_plain.py``, or in any folder.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from against_plain import ROWS, source

from archduel import registry
from archduel.core import Scale
from archduel.core.storage import environment
from archduel.data import load
from archduel.race import race_recipe
from archduel.race.plan import Ending
from archduel.race.training import Anytime
from archduel.spaces.family import build, count
from archduel.training.images import Pixels
from archduel.training.metrics import evaluate


def schedule(name: str, seconds: float, lr: float) -> Callable[[], float | None]:
    """Returns the learning rate of each step, None when the time is used up."""
    began = time.process_time()
    ending = Ending(seconds, 0.0, 0.0)
    steps = 0

    def rate() -> float | None:
        nonlocal steps
        steps += 1
        now = time.process_time() - began
        share = ending.rate(now, now / steps)
        if share is None:
            return None
        if name == "cosine":
            share = (1 + math.cos(math.pi * min(1.0, now / seconds))) / 2
        return lr * share * min(1.0, steps / 100)

    return rate


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains and returns the numbers."""
    data = load(arguments.folder or source(ROWS[arguments.row][0]), seconds=ROWS[arguments.row][1])
    look = data.preprocessing
    images, labels = np.concatenate([data.train.images, data.validation.images]), np.concatenate([data.train.labels, data.validation.labels])
    both = Pixels(images, labels, look.mean, look.std)
    train = both if arguments.joined else both.subset(torch.arange(len(data.train)))
    test = Pixels(data.test.images, data.test.labels, look.mean, look.std)
    changes = {"precision": arguments.precision, "channels_last": not arguments.channels_first, "label_smoothing": arguments.smoothing}
    given = {"cutout": arguments.cutout, "mixup": arguments.mixup, "lr": arguments.lr, "weight_decay": arguments.weight_decay, "one_change": arguments.one_change}
    recipe = race_recipe(data, **{k: v for k, v in {**changes, **given}.items() if v is not None})
    space, _, text = arguments.network.partition(":")
    arch = registry.make("space", space).read(text)
    scale = Scale(arguments.channels, arguments.depth, data.image_size, data.in_channels, data.n_classes)
    model = build(arch, scale, generator=torch.Generator().manual_seed(arguments.seed))
    training = Anytime(model, train, recipe, seed=arguments.seed)
    began = time.process_time()
    training.run(schedule(arguments.schedule, arguments.seconds, recipe.lr))
    seconds = time.process_time() - began
    last = evaluate(training.model, test)
    with training.averaged() as averaged:
        average = evaluate(averaged, test)
    return {
        "params": count(arch, scale).params, "macs": count(arch, scale).macs, "passes": round(training.passes, 2), "processor_seconds": round(seconds, 1),
        "images_a_second": round(training.images / seconds), "train_loss": training.loss,
        "test": {"last": [last.accuracy, last.loss], "average": [average.accuracy, average.loss]},
    }  # fmt: skip


def main() -> None:
    """Parses the command line, measures and appends the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", default="cifar5k-3m", choices=ROWS)
    parser.add_argument("--folder", default="", help="images by class, in place of those of the row")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--network", required=True, help="SPACE:TEXT")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--schedule", choices=("fall", "cosine"), default="fall")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=None)
    parser.add_argument("--channels-first", action="store_true")
    parser.add_argument("--joined", action="store_true", help="validation images are trained on too")
    for name in ("--smoothing", "--mixup", "--lr", "--weight-decay", "--one-change"):
        parser.add_argument(name, type=float, default=None)
    parser.add_argument("--cutout", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {name: value for name, value in vars(arguments).items() if name != "out"} | {"folder": Path(arguments.folder).name}
    record = {**settings, **measure(arguments), "command": shlex.join(["python", *sys.argv]), **environment()}
    with arguments.out.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print({name: record[name] for name in ("network", "schedule", "passes", "images_a_second", "test")})


if __name__ == "__main__":
    main()
