"""Seconds to 94 and 95 % test accuracy on CIFAR-10, images a second and share of the bf16 peak, on one GPU.

    python benchmarks/final_gpu.py --data cifar10 --minutes 25 --out benchmarks/records/final_gpu.json

Each network gets an equal share of the minutes and as many epochs as fit, measured by a few steps. The test accuracy of each epoch is
noted to time it; nothing is chosen by it, and the last epoch's figure is the result. Seconds count training only: not start-up, compiling,
nor the looks at the test pictures. ``--weights DIR`` keeps the networks for ``archduel eval``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import write_record

from archduel import environment
from archduel.core import Scale
from archduel.data import Dataset, load
from archduel.networks import find_architecture, network_of, save_trained
from archduel.recipes import open_recipe
from archduel.spaces import feed_drop_path, set_drop_path
from archduel.training import Pixels, Recipe, evaluate, seeded_build, train
from archduel.training.images import side_by_side

NETWORKS = {
    "relativenas": ("relativenas", "", "fast_cells", {}),
    "cnas": ("cnas", "", "fast_cells", {}),
    "ctnas_darts": ("ctnas_darts", "", "fast_cells", {"channels": 44, "depth": 18}),
    "resnet18": ("resnet18", "", "fast", {}),
}
"""Name -> architecture, its space, recipe, changes."""
GOALS = (0.94, 0.95)
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0}
"""Dense bf16 peak by the device's name, from the makers' data sheets."""


def images_a_second(build: Any, learned: Pixels, recipe: Recipe, device: str, compiled: bool) -> float:
    """Returns the rate of a few steps, after others that do not count."""
    marks: list[float] = []

    def mark() -> bool:
        torch.cuda.synchronize()
        marks.append(time.perf_counter())
        return len(marks) > 40

    train(build(), learned, recipe, seed=0, device=device, stop=mark, compiled=compiled)
    return 20 * recipe.batch_size / (marks[-1] - marks[-21])


def measure(name: str, data: Dataset, seconds: float, device: str, compiled: bool, weights: Path | None) -> dict[str, Any]:
    """Returns the record of one network."""
    arch, space, recipe_name, changes = NETWORKS[name]
    chosen = find_architecture(arch, space)
    recipe = open_recipe(recipe_name).with_(changes, chosen.space)
    scale = Scale(recipe.channels, recipe.depth, 32, 3, 10)
    facts = {**chosen.facts, "scale": scale}
    mean, std = data.preprocessing.mean, data.preprocessing.std
    images = side_by_side(data.train.images, data.validation.images)
    learned = Pixels(images, np.concatenate([data.train.labels, data.validation.labels]), mean, std, device)
    test = Pixels(data.test.images, data.test.labels, mean, std, device)

    def build() -> torch.nn.Module:
        return seeded_build(lambda: network_of(facts, auxiliary=recipe.auxiliary_weight > 0), 0)

    rate = images_a_second(build, learned, recipe.with_(epochs=50), device, compiled)
    recipe = recipe.with_(epochs=max(2, min(200, int(seconds * rate / len(learned)))))
    model, curve, clock = build(), [], {"began": time.perf_counter(), "spent": 0.0}

    def look(numbers: dict[str, float]) -> None:
        torch.cuda.synchronize()
        clock["spent"] += time.perf_counter() - clock["began"]
        curve.append({"epoch": numbers["epoch"], "seconds": round(clock["spent"], 2), "accuracy": evaluate(model, test).accuracy})
        print(name, curve[-1], flush=True)
        clock["began"] = time.perf_counter()

    trained = train(
        model, learned, recipe, seed=0, device=device, drop_path=feed_drop_path if compiled else set_drop_path, on_epoch=look,
        compiled=compiled, on_note=lambda _: clock.update(began=time.perf_counter()),
    )  # fmt: skip
    final = evaluate(model, test).accuracy
    counts = chosen.counts(scale)
    peak = next((value for key, value in PEAK_TFLOPS.items() if key in torch.cuda.get_device_name(0)), None)
    steady = len(learned) * (len(curve) - 1) / max(curve[-1]["seconds"] - curve[0]["seconds"], 1e-9)
    if weights is not None:
        look_ = replace(data.preprocessing, size=32)
        save_trained(weights / name, model.cpu(), {**facts, "classes": list(data.classes), "preprocessing": asdict(look_), "test": {"accuracy": final}}, half=True)
    return {
        "network": name, "params": counts.params, "macs": counts.macs, "recipe": asdict(recipe), "seed": 0, "n": 1,
        "seconds_to": {f"{goal:.0%}": next((row["seconds"] for row in curve if row["accuracy"] >= goal), None) for goal in GOALS},
        "test_accuracy": final, "seconds": curve[-1]["seconds"], "images_a_second": round(steady), "curve": curve, "reason": trained.reason,
        "compile_seconds": round(trained.compile_seconds, 1), "compile_note": trained.compile_note,
        "share_of_bf16_peak": None if peak is None else round(6 * counts.macs * steady / (peak * 1e12), 4),
    }  # fmt: skip


def main() -> None:
    """Measures and writes the record after every network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--minutes", type=float, default=25.0, help="of all networks together")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--weights", type=Path, help="folder that keeps the trained networks")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: this benchmark needs a CUDA device, and torch sees none here")
    data = load(arguments.data, image_size=32)
    share = 60 * arguments.minutes / len(arguments.networks)
    record: dict[str, Any] = {"command": shlex.join(["python", *sys.argv]), "networks": [], **environment()}
    for name in arguments.networks:
        record["networks"].append(measure(name, data, share, arguments.device, arguments.compile, arguments.weights))
        write_record(arguments.out, record)


if __name__ == "__main__":
    main()
