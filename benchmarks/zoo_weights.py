"""Trains the small networks whose weights come with the zoo, and writes them with their record to archduel/weights/.

    python benchmarks/zoo_weights.py relativenas.digits --work runs/zoo

One thread of a CPU; the same call continues a killed training. A record's `seconds` are wall-clock seconds of the training,
`cpu_seconds` processor time, which other load on the machine changes less (none for a training that was continued).
"""

from __future__ import annotations

import argparse
import time
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch

from archduel import environment, evaluate, train
from archduel.core.job import JOURNAL
from archduel.networks import load_trained, save_trained
from archduel.networks.trained import RECORD


class Plan(NamedTuple):
    """How one network of the zoo is trained.

    ``first``, if there is any, are the settings of a training on small pictures, whose weights the other one starts from.
    """

    arch: str
    data: str
    recipe: str
    changes: dict[str, Any]
    first: dict[str, Any] | None = None


DIGITS = {"epochs": 40, "channels": 8, "depth": 5, "auxiliary_weight": 0.4, "drop_path": 0.1}
PLAIN = {"batch_size": 128, "label_smoothing": 0.0, "cutout": 0, "ema": 0.0}
"""What a network of this size learns from in few epochs."""
PLANS = {
    "relativenas.digits": Plan("relativenas", "digits", "digits", DIGITS),
    "ctnas_darts.digits": Plan("ctnas_darts", "digits", "digits", {**DIGITS, "epochs": 20}),
    "resnet20.cifar10": Plan(
        "resnet20", "cifar10", "fast", {**PLAIN, "epochs": 9, "lr": 0.2, "warmup_epochs": 0.5},
        {**PLAIN, "epochs": 6, "lr": 0.3, "lr_min": 0.15, "warmup_epochs": 1.5, "image_size": 16, "crop_pad": 2},
    ),
}  # fmt: skip


def make(name: str, work: Path) -> None:
    """Trains one network (or continues) and writes its weights as float16, with their record."""
    plan, folder, to = PLANS[name], work / name, Path(str(files("archduel"))) / "weights" / name
    command = f"python benchmarks/zoo_weights.py {name}"
    before = work / f"{name}-first"
    fresh, began = not any((path / JOURNAL).exists() for path in (folder, before)), time.process_time()
    told: dict[str, Any] = {"recipe": plan.recipe, "command": command}
    first = train(plan.arch, plan.data, before, changes=plan.first, **told) if plan.first else None
    result = train(plan.arch, plan.data, folder, changes=plan.changes, start=before if first else None, **told)
    spent: dict[str, Any] = {"cpu_seconds": round(time.process_time() - began)} if fresh else {}
    model, facts = load_trained(folder)
    if first:
        spent |= {"first": {"changes": plan.first, "seconds": round(first["seconds"]), "test_accuracy": first["test"]["accuracy"]}}
    record = {
        "command": command, "threads": torch.get_num_threads(), "seconds": round(result["seconds"]),
        "training_pictures": result["pictures"]["train"], "float32_test_accuracy": result["test"]["accuracy"], **spent,
        **environment(),
    }  # fmt: skip
    save_trained(to, model, {**facts, "record": record}, half=True)
    half = evaluate(to, plan.data)  # what is shipped is judged, not what was trained
    (to / RECORD).unlink()
    record |= {key: half[key] for key in ("top1", "top1_interval", "loss", "ece")} | {"test_pictures": half["data"]["pictures"]}
    save_trained(to, model, {**facts, "record": record}, half=True)
    print(name, f"{record['top1']:.4f} of {record['test_pictures']}", (to / "model.safetensors").stat().st_size, "bytes")


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
