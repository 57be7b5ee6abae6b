"""How well parts of a published network are fine-tuned with one recipe or another, in equal processor seconds.

    python benchmarks/fine_tuning.py --blocks 7 --side 64 --seconds 120 --set '{}' '{"optimizer": "sgd", "lr": 0.01}' --out benchmarks/records/fine_tuning_runs.jsonl

The first ``--blocks`` blocks of EfficientNet-Lite0 or another backbone (one more than it has: with the neck, all of it) are opened as a race opens them, with a head from frozen features, and
fine-tuned with the race's recipe for so many processor seconds of one thread: a rate that rises over a tenth of the time and falls over the last 0.4. With ``--teacher``
a part of the time goes to all of the backbone first, which is then asked about each image. Each
``--set`` is a trial: settings that differ from the recipe. Accuracy and loss are of the last weights, on images that no other measurement uses
(those of ``distillation.py``); one JSON line is appended for each trial.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from against_plain import FEW
from cheap_labels import knowing, usual
from distillation import images

from archduel.core import Scale
from archduel.core.storage import environment
from archduel.pretrained.known import Known
from archduel.pretrained.prefixes import prefix
from archduel.race.clock import Processor, Stopwatch
from archduel.race.teaching import asked, learns_from
from archduel.race.training import Anytime
from archduel.spaces.pretrained.backbones import backbone
from archduel.spaces.pretrained.space import Pretrained, arch_of
from archduel.training.metrics import evaluate

FALL = 0.4


def lesson(known: Known, train: Any, seconds: float, side: int) -> torch.Tensor:
    """Returns what all of the backbone says of the images (N, K) after it was fine-tuned on them for so many processor seconds."""
    (name,) = known.space.backbones
    plan = prefix(name, side, sum(backbone(name).depths) + 1)
    assert plan is not None
    within = known.sized(arch_of(plan))
    assert within is not None
    images, watch = train.resized(within[0].image_size), Stopwatch(Processor())
    with tempfile.TemporaryDirectory() as folder:
        return asked(known, arch_of(plan), within[0], images, usual(train), seconds, Path(folder), watch, seed=1, device="cpu", threads=1)


def trial(known: Known, arch: Any, train: Any, held: Any, changes: dict[str, Any], given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Fine-tunes once and returns what came of it."""
    start = time.process_time()
    said = lesson(known, train, given.teacher * given.seconds, given.teacher_side) if given.teacher else None
    recipe = known.recipe(arch, usual(train)).with_(**changes)
    within = known.sized(arch)
    assert within is not None
    model = known.open(arch, within[0], train, seed, fresh=True)
    trainer = learns_from(Anytime(model, train.resized(recipe.image_size), recipe, seed=seed), said)
    began = time.process_time()
    seconds = given.seconds - (began - start if given.teacher else 0.0)

    def rate() -> float | None:
        gone = time.process_time() - began
        return None if gone >= seconds else recipe.lr * min(1.0, gone / (given.warmup * seconds), (seconds - gone) / (FALL * seconds))

    sound = trainer.run(rate)
    found = evaluate(trainer.model, held.resized(recipe.image_size), precision=recipe.precision, channels_last=recipe.channels_last)
    names = ("optimizer", "lr", "layer_decay", "weight_decay", "batch_size", "frozen_norms", "label_smoothing")
    return {
        **{name: getattr(recipe, name) for name in names}, "changes": changes, "passes": round(trainer.passes, 2), "sound": sound,
        "accuracy": found.accuracy, "loss": found.loss, "train_loss": trainer.loss,
    }  # fmt: skip


def main() -> None:
    """Runs the trials, one after the other, for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", choices=("cifar10", "cifar100", *FEW), default="cifar10")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--warmup", type=float, default=0.1, help="share of the time in which the rate rises")
    parser.add_argument("--teacher", type=float, default=0.0, help="share of the time in which all of the backbone is fine-tuned first, to learn from")
    parser.add_argument("--teacher-side", type=int, default=160, help="its resolution")
    parser.add_argument("--set", type=json.loads, nargs="+", default=[{}], metavar="JSON", help="settings of the recipe that are changed, an object a trial")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/fine_tuning_runs.jsonl"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    train, held, classes = images(given.images)
    known = knowing(Pretrained(backbones=[given.backbone]), train, held, Scale(1, 1, 32, 3, classes), 600.0)
    plan = prefix(given.backbone, given.side, given.blocks)
    if plan is None:
        parser.error(f"no member of the space has the first {given.blocks} blocks")
    for seed in range(given.seeds):
        for changes in given.set:
            found = trial(known, arch_of(plan), train, held, changes, given, seed)
            of = {"images": given.images, "backbone": given.backbone, "blocks": given.blocks, "side": given.side, "seconds": given.seconds, "warmup": given.warmup, "teacher": given.teacher, "teacher_side": given.teacher_side, "seed": seed, "judged": len(held)}
            how = {"load_average": os.getloadavg()[0], "command": " ".join(["python", *sys.argv]), **environment()}
            with given.out.open("a") as file:
                file.write(json.dumps({**of, **found, **how}) + "\n")
            print({**of, **found}, flush=True)


if __name__ == "__main__":
    main()
