"""Images a second of a DARTS-type network on CIFAR-size pictures: archduel's loop against one in the style of the released codes.

    python benchmarks/final_training.py --out benchmarks/records/final_training.json

The plain loop: fp32, channels first, ``torch.optim.SGD``, gradient clipping by ``clip_grad_norm_``, ``loss.item()`` and
accuracies after every step, a ``DataLoader`` whose transforms (crop, flip, to tensor, normalise, cutout) work on one
picture at a time. Both train the same network with the same recipe (cifar_relativenas: auxiliary head, drop path) on the
same random pictures. The loops take turns, so that other load on the machine meets them alike; the first step of each
turn does not count. ``cpu`` is the processor time of the process in a step (steadier than ``wall`` where others compute too); the
speed-up is that of ``cpu`` on a CPU and of ``wall`` elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from recording import write_record
from torch import nn
from torch.utils.data import DataLoader, Dataset

from archduel import environment
from archduel.core import Scale
from archduel.networks import find_architecture, network_of
from archduel.recipes import open_recipe
from archduel.spaces import set_drop_path
from archduel.training import Pixels, seeded_build, train

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


Moment = tuple[float, float]


def now() -> Moment:
    """Returns wall clock and processor time, in seconds."""
    return time.perf_counter(), time.process_time()


class PlainPictures(Dataset):
    """Pictures with the released codes' transforms, one at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = [Image.fromarray(pixels.transpose(1, 2, 0)) for pixels in images]
        self.labels = labels.tolist()
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        padded = Image.new("RGB", (40, 40))
        padded.paste(self.images[index], (4, 4))
        left, top = self.rng.integers(9, size=2).tolist()
        image = padded.crop((left, top, left + 32, top + 32))
        if self.rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image, np.uint8)).permute(2, 0, 1).contiguous().float().div(255)
        tensor = (tensor - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        mask = np.ones((32, 32), np.float32)
        y, x = self.rng.integers(32, size=2).tolist()
        mask[max(0, y - 8) : y + 8, max(0, x - 8) : x + 8] = 0
        return tensor * torch.from_numpy(mask), self.labels[index]


def plain_steps(model: nn.Module, images: np.ndarray, labels: np.ndarray, recipe: Any, n: int, device: str, workers: int) -> list[Moment]:
    """Returns the moments at which steps of the plain loop begin, and that at which the last ends."""
    model = model.to(device).train()
    set_drop_path(model, recipe.drop_path / 2)
    criterion = nn.CrossEntropyLoss().to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    loader = DataLoader(
        PlainPictures(images, labels), batch_size=recipe.batch_size, shuffle=True, num_workers=workers, pin_memory=device != "cpu"
    )
    marks: list[Moment] = []
    losses = accuracies = 0.0
    while len(marks) <= n:
        for batch, target in loader:
            marks.append(now())
            if len(marks) > n:
                break
            x, y = batch.to(device, non_blocking=True), target.to(device, non_blocking=True)
            optimizer.zero_grad()
            logits, extra = model(x)
            loss = criterion(logits, y) + 0.4 * criterion(extra, y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            _, best = logits.topk(5, 1, True, True)
            right = best.t().eq(y.view(1, -1).expand(5, len(y)))
            losses += loss.item()
            accuracies += right[:1].reshape(-1).float().sum().item() + right[:5].reshape(-1).float().sum().item()
    return marks


def our_steps(model: nn.Module, images: np.ndarray, labels: np.ndarray, recipe: Any, n: int, device: str, compiled: bool) -> list[Moment]:
    """Returns the same of archduel's loop."""
    pixels = Pixels(images, labels, MEAN, STD, device)
    marks: list[Moment] = []

    def mark() -> bool:
        if device != "cpu":
            torch.cuda.synchronize()
        marks.append(now())
        return len(marks) > n

    train(
        model, pixels, recipe.with_(epochs=1000), seed=0, device=device, drop_path=lambda m, _: set_drop_path(m, recipe.drop_path / 2), stop=mark, compiled=compiled,
    )  # fmt: skip
    return marks


def spread(values: list[float]) -> dict[str, float | int]:
    """Returns median, extremes and number."""
    return {"median": round(float(np.median(values)), 3), "min": round(min(values), 3), "max": round(max(values), 3), "n": len(values)}


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="relativenas")
    parser.add_argument("--recipe", default="cifar_relativenas")
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--channels", type=int, default=None)
    parser.add_argument("--depth", type=int, default=None)
    parser.add_argument("--steps", type=int, default=3, help="of a turn, that count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="of the plain loop's DataLoader")
    parser.add_argument("--precision", default="fp32", help="of archduel's loop")
    parser.add_argument("--compile", action="store_true", help="archduel's loop through torch.compile")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen, recipe = find_architecture(arguments.arch), open_recipe(arguments.recipe).recipe
    given = {"batch_size": arguments.batch, "channels": arguments.channels, "depth": arguments.depth, "precision": arguments.precision}
    recipe = recipe.with_(**{name: value for name, value in given.items() if value is not None})
    scale = Scale(recipe.channels, recipe.depth, 32, 3, 10)
    rng = np.random.default_rng(0)
    n = recipe.batch_size * (2 if arguments.device == "cpu" else 40)
    images, labels = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, n)
    found: dict[str, list[Moment]] = {"archduel": [], "plain": []}
    before = os.getloadavg()[0]
    for _ in range(arguments.rounds):
        for name in found:
            model = seeded_build(lambda: network_of({**chosen.facts, "scale": scale}, auxiliary=True), 0)
            steps = arguments.steps + 1
            if name == "archduel":
                marks = our_steps(model, images, labels, recipe, steps, arguments.device, arguments.compile)
            else:
                marks = plain_steps(model, images, labels, recipe, steps, arguments.device, arguments.workers)
            found[name] += [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks[1:])]
            print(name, [round(value[1], 3) for value in found[name]], flush=True)
    kinds = {kind: {name: [v[i] for v in values] for name, values in found.items()} for i, kind in enumerate(("wall", "cpu"))}
    deciding = kinds["cpu" if arguments.device == "cpu" else "wall"]
    medians = {name: float(np.median(values)) for name, values in deciding.items()}
    record = {
        "command": shlex.join(["python", *sys.argv]), "architecture": chosen.name, "network": f"C{recipe.channels} L{recipe.depth}",
        "batch_size": recipe.batch_size, "params": chosen.counts(scale).params, "macs": chosen.counts(scale).macs,
        "threads": arguments.threads, "processes": 1, "device": arguments.device, "precision": {"archduel": arguments.precision, "plain": "fp32"},
        "plain_loader_workers": arguments.workers, "compiled": arguments.compile,
        "seconds_a_step": {kind: {name: spread(v) for name, v in values.items()} for kind, values in kinds.items()},
        "images_a_second": {name: round(recipe.batch_size / value, 3) for name, value in medians.items()},
        "speedup": round(medians["plain"] / medians["archduel"], 3), "load_average": {"before": before, "after": os.getloadavg()[0]},
        **environment(),
    }  # fmt: skip
    write_record(arguments.out, record)
    print(json.dumps({key: record[key] for key in ("seconds_a_step", "images_a_second", "speedup")}, indent=1))


if __name__ == "__main__":
    main()
