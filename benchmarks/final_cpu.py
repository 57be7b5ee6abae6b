"""Recipes end to end on one CPU core: cells of the papers on the embedded digits and on a part of CIFAR-10 at 16 x 16 pixels.

    ARCHDUEL_DATA=... python benchmarks/final_cpu.py --out benchmarks/records/final_cpu.json

CIFAR-10: 600 training pictures a class and 200 test pictures a class, in the order of the stored files. The test pictures are
read once, at the end of each training. ``cpu_seconds`` is processor time, which other load on the machine does not change.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from cifar10_folder import stored, write
from recording import write_record

from archduel import environment, train

SMALL = {
    "channels": 8, "depth": 5, "image_size": 16, "epochs": 10, "batch_size": 64, "lr": 0.1, "warmup_epochs": 1, "crop_pad": 2,
    "cutout": 4, "drop_path": 0.0, "ema": 0.99, "precision": "fp32",
}  # fmt: skip


def run(arch: str, data: Any, recipe: str, changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the record of a training."""
    began = time.process_time()
    result = train(arch, data, folder / f"{arch}-{recipe}", recipe=recipe, changes=changes)
    return {
        "arch": arch, "recipe": recipe, "changes": changes, "seed": 0, "cpu_seconds": round(time.process_time() - began, 1),
        "weights_bytes": (folder / f"{arch}-{recipe}" / "model.safetensors").stat().st_size, **result,
    }  # fmt: skip


def main() -> None:
    """Trains and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, help="other than usual, to try the script")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    less = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    before, trainings = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        trainings.append(run("cnas", "digits", "digits", less, folder))
        if "ARCHDUEL_DATA" in os.environ:
            root = Path(os.environ["ARCHDUEL_DATA"]) / "cifar10"
            write(stored(root, ["train_a", "train_b"]), folder / "cifar" / "train", 600)
            write(stored(root, ["test"]), folder / "cifar" / "test", 200)
            trainings.append(run("relativenas", str(folder / "cifar"), "fast_cells", {**SMALL, **less}, folder))
    record = {
        "command": shlex.join(["python", *sys.argv]), "threads": 1, "processes": 1, "trainings": trainings,
        "load_average": {"before": before, "after": os.getloadavg()[0]}, **environment(),
    }  # fmt: skip
    write_record(arguments.out, record)


if __name__ == "__main__":
    main()
