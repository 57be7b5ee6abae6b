"""A found network as the backbone of another task: which shape is at every pixel of a generated image.

    python examples/backbone.py                     # about 15 s on one core
    python examples/backbone.py --weights runs/net  # starts from a training of `archduel train`

`model.features(x)` gives the last map of every stride. A small head brings them to one width, adds them from coarse to
fine and names each pixel: dense prediction in 60 lines. Detection and segmentation pipelines for real data sets are not
part of archduel; this is the joint where they would attach.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from archduel import Scale, build, load_network, parse
from archduel.training import SGD

CLASSES = ("background", "disc", "square", "ring")


def make_images(n: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns n noisy images (n, 3, size, size) in 0..1 with two shapes each, and the class of every pixel (n, size, size)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    images, labels = rng.normal(0.4, 0.1, (n, 3, size, size)), np.zeros((n, size, size), np.int64)
    for i in range(n):
        for _ in range(2):
            kind, radius = int(rng.integers(1, 4)), float(rng.uniform(size / 8, size / 5))
            down, right = rows - rng.uniform(radius, size - radius), columns - rng.uniform(radius, size - radius)
            distance = np.hypot(down, right)
            inside = {
                1: distance < radius,
                2: np.maximum(abs(down), abs(right)) < 0.85 * radius,
                3: (distance < radius) & (distance > 0.55 * radius),
            }[kind]
            images[i][:, inside] += rng.uniform(0.2, 0.5)
            labels[i][inside] = kind
    return torch.from_numpy(images.clip(0, 1)).float(), torch.from_numpy(labels)


class Dense(nn.Module):
    """A backbone with ``features``, and a head that names every pixel."""

    def __init__(self, backbone: nn.Module, size: int, width: int = 16) -> None:
        super().__init__()
        self.backbone = backbone
        with torch.no_grad():
            maps = backbone.features(torch.zeros(1, 3, size, size))
        self.sides = nn.ModuleList(nn.Conv2d(made.shape[1], width, 1) for made in maps.values())
        self.head = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, len(CLASSES), 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, classes, H, W) logits."""
        maps = [side(made) for side, made in zip(self.sides, self.backbone.features(x).values())]
        total = maps[-1]
        for finer in reversed(maps[:-1]):
            total = finer + functional.interpolate(total, finer.shape[2:], mode="nearest")
        return functional.interpolate(self.head(total), x.shape[2:], mode="nearest")


def mean_overlap(said: torch.Tensor, truth: torch.Tensor) -> float:
    """Returns the mean over classes of intersection over union."""
    both = [((said == c) & (truth == c)).sum() / ((said == c) | (truth == c)).sum() for c in range(len(CLASSES))]
    return float(torch.stack(both).mean())


def run(backbone: nn.Module, *, steps: int = 250, size: int = 32, batch: int = 16, lr: float = 0.1, seed: int = 0) -> float:
    """Trains on generated images and returns the mean overlap on others."""
    model = Dense(backbone, size)
    images, labels = make_images(batch * 20, size, seed)
    test_images, test_labels = make_images(64, size, seed + 1)
    mean, std = images.mean(), images.std()
    model.backbone.tail.requires_grad_(False)  # the classifier of images has no part in this
    optimizer = SGD(model, lr=lr, weight_decay=1e-4, grad_clip=5.0)
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rows = torch.randint(len(images), (batch,), generator=order)
        loss = functional.cross_entropy(model.train()((images[rows] - mean) / std), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.step()
    with torch.inference_mode():
        said = model.eval()((test_images - mean) / std).argmax(1)
    return mean_overlap(said, test_labels)


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="nasbench201:3.1.2.3.3.3")
    parser.add_argument("--weights", help="training folder or finished search on colour images; its network takes the place of --arch")
    parser.add_argument("--steps", type=int, default=250)
    arguments = parser.parse_args()
    if arguments.weights:
        trained = load_network(arguments.weights)
        backbone, facts = trained.model, trained.facts
        print(f"{facts.get('name')}, trained on {facts.get('data', {}).get('name')}")
    else:
        backbone = build(parse(arguments.arch), Scale(channels=8, depth=1), generator=torch.Generator().manual_seed(0))
    print(f"mean overlap of {len(CLASSES)} classes on new images: {run(backbone, steps=arguments.steps):.3f}")


if __name__ == "__main__":
    main()
