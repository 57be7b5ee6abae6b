"""Under 64 KiB of RAM and 128 KiB of flash: this tool against ten hand-made networks that fit, each trained as long as the whole search takes.

    python benchmarks/small_networks.py --rows cifar5k,pets --seeds 3 --out benchmarks/records/small_networks.jsonl

The hand-made ones are the families of MLPerf Tiny (Banbury et al., 2021) at widths and depths that fit in int8: ResNet-8, DS-CNN and MobileNetV1,
here for 32 px. ``plain`` trains each of them with ``plain_script.py`` for the whole time; the one that is best on validation is the opponent,
so that the opponent has ten times the time. ``tiny+stages`` is a race from scratch in these two spaces.

``pets`` is whether an image of CIFAR-10 is a cat or a dog; 5,000 training images in both rows. Each side is a process with one thread, and
its time is processor time with start and reading. Test images are read after the choice, once a network.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from against_plain import done, measure, normalised, source, spent
from plain_script import Block, accuracy, train
from torch import nn

RAM, FLASH, SECONDS = 64 * 1024, 128 * 1024, 180


def layers(*made: nn.Module, n_classes: int, channels: int) -> nn.Sequential:
    """Returns the layers with the usual end."""
    return nn.Sequential(*made, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes))


def conv(c_in: int, c_out: int, stride: int = 1, *, kernel: int = 3, groups: int = 1) -> list[nn.Module]:
    """Returns a convolution with norm and ReLU."""
    return [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]


def separable(c_in: int, c_out: int, stride: int = 1) -> list[nn.Module]:
    """Returns MobileNetV1's block."""
    return [*conv(c_in, c_in, stride, groups=c_in), *conv(c_in, c_out, kernel=1)]


def resnet(n_classes: int, width: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """Returns a residual network of three stages; one block of 16 channels is ResNet-8."""
    made, c_in = conv(3, width, stride), width
    for stage in range(3):
        for block in range(blocks):
            made.append(Block(c_in, width << stage, 2 if stage and not block else 1))
            c_in = width << stage
    return layers(*made, n_classes=n_classes, channels=c_in)


def ds_cnn(n_classes: int, width: int, blocks: int = 4) -> nn.Sequential:
    """Returns a DS-CNN: a strided convolution and separable blocks of one width."""
    made = conv(3, width, 2) + [layer for _ in range(blocks) for layer in separable(width, width)]
    return layers(*made, n_classes=n_classes, channels=width)


def mobilenet_v1(n_classes: int, alpha: float, last: int = 13) -> nn.Sequential:
    """Returns MobileNetV1 for 32 px: strides of 224 px's first layer and fourth block left out; its first ``last`` blocks."""
    widths = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024][:last]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    c_in = max(8, round(32 * alpha))
    made = conv(3, c_in)
    for width, stride in zip(widths, strides):
        made += separable(c_in, max(8, round(width * alpha)), stride)
        c_in = max(8, round(width * alpha))
    return layers(*made, n_classes=n_classes, channels=c_in)


HAND_MADE = {
    "ResNet-8 (16)": lambda n: resnet(n, 16, 1), "ResNet-8 (19), half the side": lambda n: resnet(n, 19, 1, 2), "ResNet-14 (12)": lambda n: resnet(n, 12, 2),
    "ResNet-20 (9)": lambda n: resnet(n, 9, 3), "DS-CNN (64)": lambda n: ds_cnn(n, 64), "DS-CNN (96)": lambda n: ds_cnn(n, 96),
    "DS-CNN (110), 6 blocks": lambda n: ds_cnn(n, 110, 6), "MobileNetV1 0.25, 7 blocks": lambda n: mobilenet_v1(n, 0.25, 7),
    "MobileNetV1 0.25, 9 blocks": lambda n: mobilenet_v1(n, 0.25, 9), "MobileNetV1 0.1875, 11 blocks": lambda n: mobilenet_v1(n, 0.1875, 11),
}  # fmt: skip


def images(row: str) -> Any:
    """Returns the data set of a row."""
    from archduel.data import load

    whole = source("cifar5k")
    if row == "pets":
        labels = np.isin(np.asarray(whole.labels), (3, 5)).astype(np.int64)
        whole = replace(whole, labels=labels, classes=("other", "cat or dog")) if hasattr(whole, "classes") else replace(whole, labels=labels)
    return load(whole, seconds=SECONDS)


def plain(data: Any, name: str, seed: int) -> dict[str, Any]:
    """Trains a hand-made network with the plain script."""
    from archduel.spaces.memory import network_footprint

    torch.manual_seed(seed)
    model = HAND_MADE[name](data.n_classes)
    need = network_footprint(model, (3, data.image_size, data.image_size), int8=True)
    facts = {"params": sum(p.numel() for p in model.parameters()), "ram": need.ram, "flash": need.flash}
    if need.ram > RAM or need.flash > FLASH:
        return {**facts, "excluded": "does not fit"}
    sets = normalised(data)
    epochs = train(model, *sets["train"], SECONDS, flip=True)
    return {**facts, "epochs": round(epochs, 1), "processor_seconds": round(spent(), 1), **{part: accuracy(model, *sets[part]) for part in ("validation", "test")}}


def searched(name: str, data: Any, seed: int) -> tuple[Any, Any, Any]:
    """Returns a space, which of its networks fit at some size, and a strategy."""
    from archduel import registry
    from archduel.assemble import assemble
    from archduel.core import Scale
    from archduel.race.sizes import depths, widths
    from archduel.spaces.limits import DeviceLimit, Limits, constraint_for

    space = registry.make("space", name)
    smallest = Scale(widths(space)[0], depths(space)[0], data.image_size // 2, data.in_channels, data.n_classes)
    limits = Limits(smallest, device=DeviceLimit(RAM, FLASH, int8=True), resized=True)
    constraint = constraint_for(space, limits, np.random.default_rng([seed, 3]), advice="")
    return space, constraint, assemble("evolution", space, seed=seed, constraint=constraint)


def ours(data: Any, seed: int, spaces: str) -> dict[str, Any]:
    """Lets the tool race within the limits, in one space or in two side by side."""
    from archduel.race import Processor, run_race
    from archduel.race.newcomers import Asker
    from archduel.race.sides import Side
    from archduel.spaces.limits import DeviceLimit
    from archduel.spaces.memory import network_footprint
    from archduel.training.images import Pixels
    from archduel.training.metrics import evaluate

    (space, constraint, strategy), *others = (searched(name, data, seed) for name in spaces.split("+"))
    beside = [Side(Asker(other, home, limit)) for home, limit, other in others]
    with tempfile.TemporaryDirectory() as folder:
        result = run_race(
            data, space, strategy, seconds=SECONDS, gone=spent(), clock=Processor(), reserve=1.0,
            allowed=DeviceLimit(RAM, FLASH, int8=True), constraint=constraint, seed=seed, folder=Path(folder), smaller_sides=(data.image_size // 2,),
            known=beside, say=lambda text: print(text, file=sys.stderr),
        )  # fmt: skip
        trained = spent()
    winner = result.winner
    side = winner.entry.scale.image_size
    need = network_footprint(result.network, (3, side, side), int8=True)
    test = Pixels(data.test.images, data.test.labels, data.preprocessing.mean, data.preprocessing.std)
    return {
        "params": winner.params, "ram": need.ram, "flash": need.flash, "network": winner.name, "role": winner.role, "epochs": round(winner.epochs, 1),
        "validation": winner.accuracy, "test": evaluate(result.network, test.resized(side)).accuracy, "processor_seconds": round(trained, 1),
        "candidates": [candidate.record() for candidate in result.candidates],
    }  # fmt: skip


def child(row: str, side: str, seed: int) -> None:
    """Runs one side and prints its record."""
    torch.set_num_threads(1)
    data = images(row)
    print(json.dumps(ours(data, seed, side) if side not in HAND_MADE else plain(data, side, seed)))


def work(jobs: list[dict[str, Any]], path: Path) -> None:
    """Runs the jobs that have no record yet, one process each."""
    have = {(r["row"], r["side"], r["seed"]) for r in done(path)}
    for job in jobs:
        if (job["row"], job["side"], job["seed"]) not in have:
            measure({**job, "seconds": SECONDS}, [__file__, "--child", job["row"], job["side"], str(job["seed"])], path)


def main() -> None:
    """Parses the command line and works."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="cifar5k,pets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sides", default=";".join(["tiny+stages", *HAND_MADE]), help="with semicolons")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/small_networks.jsonl"))
    parser.add_argument("--child", nargs=3, metavar=("ROW", "SIDE", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], options.child[1], int(options.child[2]))
        return
    sides = options.sides.split(";")
    work([{"row": row, "side": side, "seed": seed} for row in options.rows.split(",") for seed in range(options.seeds) for side in sides], options.out)


if __name__ == "__main__":
    main()
