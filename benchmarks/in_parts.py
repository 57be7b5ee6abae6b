"""How many images should go through a published network at a time on a CPU: training steps and passes without gradients in parts of a batch.

    python benchmarks/in_parts.py --out benchmarks/records/in_parts.json

EfficientNet-Lite0, batches of 64, bf16, channels last, norms frozen, one thread; processor time, the best of three. The gradients of a step in parts are those of
the whole batch. ``chosen`` is what :func:`archduel.training.runtime.in_parts` takes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from recording import command, write_record

from archduel.core import Scale
from archduel.core.storage import environment
from archduel.pretrained.members import member
from archduel.pretrained.prefixes import prefix
from archduel.pretrained.weights import weights_of
from archduel.spaces.pretrained.space import arch_of
from archduel.training.depthwise import quick_depthwise
from archduel.training.loop import forward_loss
from archduel.training.norms import freeze
from archduel.training.recipe import Recipe
from archduel.training.runtime import autocast, in_parts

BACKBONE, BATCH, PARTS = "efficientnet_lite0", 64, (64, 32, 16, 8)
RECIPE = Recipe(batch_size=BATCH, precision="bf16", channels_last=True, frozen_norms=True)


def best_of_three(work: Callable[[], None]) -> float:
    """Returns the least processor time of three turns, in seconds."""
    took = []
    for _ in range(3):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def measured(blocks: int, side: int) -> dict[str, Any]:
    """Returns images a second for parts of each size, in training and without gradients."""
    plan = prefix(BACKBONE, side, blocks)
    assert plan is not None
    model: Any = member(
        arch_of(plan), Scale(1, 1, 32, 3, 10), (0.5,) * 3, (0.25,) * 3, generator=torch.Generator().manual_seed(0), weights=weights_of(BACKBONE)
    )
    model.to(memory_format=torch.channels_last).tune()
    generator = torch.Generator().manual_seed(1)
    x, labels = torch.rand(BATCH, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last), torch.arange(BATCH) % 10

    def train(size: int) -> None:
        for parameter in model.parameters():
            parameter.grad = None
        for images, answers in zip(x.split(size), labels.split(size)):
            loss, _ = forward_loss(model, images, answers, RECIPE)
            (loss * (len(answers) / BATCH)).backward()

    def look(size: int) -> None:
        with torch.inference_mode(), autocast(torch.device("cpu"), "bf16"):
            for images in x.split(size):
                model(images)

    rows: dict[str, Any] = {"blocks": blocks, "side": side, "chosen": in_parts(model, 32, BATCH, "cpu"), "train": {}, "look": {}}
    model.train()
    freeze(model)
    with quick_depthwise(model):
        for size in PARTS:
            rows["train"][str(size)] = round(BATCH / best_of_three(partial(train, size)), 1)
    model.eval()
    for size in PARTS:
        rows["look"][str(size)] = round(BATCH / best_of_three(partial(look, size)), 1)
    print(rows, flush=True)
    return rows


def main() -> None:
    """Measures all resolutions and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/in_parts.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measured(blocks, side) for blocks, side in ((7, 64), (17, 64), (17, 96), (17, 128), (17, 160), (17, 192), (17, 224))]
    facts = {"batch": BATCH, "images_a_second": rows, "load_average": os.getloadavg()[0], "command": command()}
    write_record(given.out, {**facts, **environment()})


if __name__ == "__main__":
    main()
