"""Trains the small networks whose weights come with the zoo, and writes them with their record to archduel/weights/.

    python benchmarks/zoo_weights.py relativenas.digits --work runs/zoo

One thread of a CPU; the same call continues a killed training. CIFAR-10 is read from the folder named by ARCHDUEL_DATA
(`cifar10/train_a.npz`, `train_b.npz`, `test.npz`: packed lossless WebP).
"""

from __future__ import annotations

import argparse
import io
import os
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from archduel.apps.evaluation import evaluate_network
from archduel.apps.folder import environment
from archduel.apps.train import train_network
from archduel.apps.trained import load_trained, save_trained
from archduel.data import Dataset, load


class Plan(NamedTuple):
    """How one network of the zoo is trained."""

    arch: str
    data: str
    recipe: str
    changes: dict[str, Any]
    max_images: int | None = None


DIGITS = {"epochs": 40, "channels": 8, "depth": 5, "auxiliary_weight": 0.4, "drop_path": 0.1}
SMALL = {
    "epochs": 14, "batch_size": 96, "channels": 8, "depth": 6, "image_size": 16, "crop_pad": 2, "cutout": 0, "drop_path": 0.0,
    "auxiliary_weight": 0.4, "precision": "fp32", "ema": 0.0, "warmup_epochs": 1, "lr": 0.1, "label_smoothing": 0.0,
}  # fmt: skip
PLANS = {
    "relativenas.digits": Plan("relativenas", "digits", "digits", DIGITS),
    "ctnas_darts.digits": Plan("ctnas_darts", "digits", "digits", DIGITS),
    "cnas.cifar10_16px": Plan("cnas", "cifar10", "fast_cells", SMALL, 30_000),
}


def cifar10(size: int, max_images: int | None, work: Path) -> Dataset:
    """Returns CIFAR-10 at ``size`` px with its own test set; about ``max_images`` training and test pictures in all."""
    kept = work / "cifar10.npz"
    if not kept.is_file():
        parts = [_unpacked(Path(os.environ["ARCHDUEL_DATA"]) / "cifar10" / f"{name}.npz") for name in ("train_a", "train_b", "test")]
        (a, ya), (b, yb), (x, y) = parts
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, x_train=np.concatenate([a, b]), y_train=np.concatenate([ya, yb]), x_test=x, y_test=y)
    data = load(kept, image_size=size, mode="RGB", max_images=max_images, flip=True)
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return replace(data, name="cifar10", classes=names)


def _unpacked(path: Path) -> tuple[np.ndarray, np.ndarray]:
    packed = np.load(path)
    offsets, data = packed["offsets"].tolist(), packed["data"]
    pictures = [Image.open(io.BytesIO(data[a:b].tobytes())).convert("RGB") for a, b in pairwise(offsets)]
    return np.stack([np.asarray(picture) for picture in pictures]), packed["labels"].astype(np.int64)


def make(name: str, work: Path) -> None:
    """Trains one network (or continues) and writes its weights and record."""
    plan = PLANS[name]
    data: Any = plan.data if plan.data == "digits" else cifar10(plan.changes["image_size"], plan.max_images, work)
    folder = work / name
    result = train_network(
        plan.arch, data, folder, recipe=plan.recipe, changes=plan.changes, command=f"python benchmarks/zoo_weights.py {name}"
    )
    model, facts = load_trained(folder)
    to = Path(str(files("archduel"))) / "weights" / name
    record = {
        "command": f"python benchmarks/zoo_weights.py {name}", "threads": torch.get_num_threads(), "seconds": round(result["seconds"]),
        "training_pictures": result["pictures"]["train"], "test_pictures": result["pictures"]["test"],
        "float32_test_accuracy": result["test"]["accuracy"], **environment(),
    }  # fmt: skip
    save_trained(to, model, {**facts, "record": record}, half=True)
    half = evaluate_network(to, "digits") if plan.data == "digits" else evaluate_network(to, _test_of(work))
    (to / "evaluation.json").unlink(missing_ok=True)
    record |= {key: half[key] for key in ("top1", "top5", "loss", "ece")} | {"evaluated_on": half["data"]["pictures"]}
    save_trained(to, model, {**facts, "record": record}, half=True)
    print(name, {key: record[key] for key in ("float32_test_accuracy", "top1", "evaluated_on", "seconds")}, (to / "model.safetensors").stat().st_size)


def _test_of(work: Path) -> str:
    return str(work / "cifar10.npz")


def main() -> None:
    """Trains the networks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*PLANS, []], default=[])
    parser.add_argument("--work", type=Path, default=Path("runs/zoo"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names or PLANS:
        make(name, arguments.work)


if __name__ == "__main__":
    main()
