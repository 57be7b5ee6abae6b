"""A small trained network on generated images, for the tests of what is done with trained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from archduel.core import Scale
from archduel.networks.trained import network_of, save_trained

PREPROCESSING = {"size": 8, "mode": "RGB", "rule": "crop", "mean": [0.5] * 3, "std": [0.25] * 3}
CLASSES = ("blue", "green", "red")
ARCH = "nasbench201:3.2.3.1.3.4"


def facts_of(arch: str = ARCH, **more: Any) -> dict[str, Any]:
    """Returns the facts of a network for 8 px images of three classes."""
    scale = Scale(4, 3 if arch.startswith("darts") else 1, 8, 3, 3)
    return {"arch": arch, "text": None, "scale": scale, "classes": list(CLASSES), "preprocessing": PREPROCESSING, **more}


def save_network(folder: Path, seed: int = 0, arch: str = ARCH, **more: Any) -> Path:
    """Writes an untrained network with a seed and returns its folder."""
    from archduel.training.runtime import seeded_build

    facts = facts_of(arch, **more)
    save_trained(folder, seeded_build(lambda: network_of(facts), seed), facts)
    return folder


def write_images(folder: Path, n: int = 6, seed: int = 0, flat: bool = False) -> Path:
    """Writes ``n`` noisy images of each colour, in class folders or flat with ``labels.txt`` beside the folder."""
    rng = np.random.default_rng(seed)
    lines = []
    for number, name in enumerate(CLASSES):
        for i in range(n):
            pixels = rng.integers(0, 120, (8, 8, 3))
            pixels[..., 2 - number] += 130
            path = folder / (f"{name[0]}{i}.png" if flat else f"{name}/{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            lines.append(f"{path.stem} {name} 1 2 3 4")
    if flat:
        (folder.parent / "labels.txt").write_text("\n".join(lines))
    return folder


def teach(folder: Path, images: Path, steps: int = 30) -> None:
    """Trains the network in ``folder`` on the class folders ``images`` for a few steps."""
    from archduel.networks.trained import load_trained

    model, facts = load_trained(folder)
    files = sorted(images.glob("*/*.png"))
    x = torch.stack([torch.from_numpy(np.asarray(Image.open(f)).transpose(2, 0, 1).copy()) for f in files])
    labels = torch.tensor([CLASSES.index(f.parent.name) for f in files])
    parameters = list(model.train().parameters())
    for _ in range(steps):  # plain gradient descent: torch.optim would import the compiler, which takes seconds
        loss = torch.nn.functional.cross_entropy(model((x / 255 - 0.5) / 0.25), labels)
        for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters)):
            parameter.data.sub_(0.1 * slope)
    save_trained(folder, model.eval(), facts)
