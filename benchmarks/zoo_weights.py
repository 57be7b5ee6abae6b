"""Trains the small networks whose weights come with the zoo, and writes them with their record to archduel/weights/.

    python benchmarks/zoo_weights.py relativenas.digits --work runs/zoo

One thread of a CPU; the same call continues a killed training. A record's `seconds` are wall-clock seconds of the training.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch

from archduel.apps.evaluation import evaluate_network
from archduel.apps.folder import environment
from archduel.apps.handed import RECORD
from archduel.apps.train import train_network
from archduel.apps.trained import load_trained, save_trained


class Plan(NamedTuple):
    """How one network of the zoo is trained."""

    arch: str
    data: str
    recipe: str
    changes: dict[str, Any]


DIGITS = {"epochs": 40, "channels": 8, "depth": 5, "auxiliary_weight": 0.4, "drop_path": 0.1}
PLANS = {
    "relativenas.digits": Plan("relativenas", "digits", "digits", DIGITS),
    "ctnas_darts.digits": Plan("ctnas_darts", "digits", "digits", {**DIGITS, "epochs": 20}),
}


def make(name: str, work: Path) -> None:
    """Trains one network (or continues) and writes its weights as float16, with their record."""
    plan, folder, to = PLANS[name], work / name, Path(str(files("archduel"))) / "weights" / name
    command = f"python benchmarks/zoo_weights.py {name}"
    result = train_network(plan.arch, plan.data, folder, recipe=plan.recipe, changes=plan.changes, command=command)
    model, facts = load_trained(folder)
    record = {
        "command": command, "threads": torch.get_num_threads(), "seconds": round(result["seconds"]),
        "training_pictures": result["pictures"]["train"], "float32_test_accuracy": result["test"]["accuracy"], **environment(),
    }  # fmt: skip
    save_trained(to, model, {**facts, "record": record}, half=True)
    half = evaluate_network(to, plan.data)  # what is shipped is judged, not what was trained
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
