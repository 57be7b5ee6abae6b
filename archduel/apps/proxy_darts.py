"""BPE's DARTS under a recipe: second-order DARTS whose supernet has the recipe's epochs, batch, learning rate, size and images.

As in BPE's released ``search.py``: Adam with 3e-4 and weight decay 1e-3 for alpha, SGD down to 0.001 for the weights, neither drop
path nor auxiliary head. Different here: alpha descends on the validation images (BPE: half of the training images).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from archduel import registry
from archduel.apps.assemble import assemble, derived_seed
from archduel.apps.proxy_bench import Bench
from archduel.core import Arch, Scale, Space
from archduel.core.checkpoint import load_state, save_state
from archduel.data import Dataset
from archduel.errors import RunError
from archduel.estimators.shared import SharedWeights
from archduel.supernets import supernet
from archduel.training.pixels import Pixels
from archduel.training.recipe import Recipe

__all__ = ["darts_cell", "supernet_recipe"]

LR_MIN = 0.001


def supernet_recipe(recipe: Recipe) -> Recipe:
    """Returns how the supernet is trained under ``recipe``."""
    return recipe.with_(
        drop_path=0.0, auxiliary_weight=0.0, cutout=0, mixup=0.0, ema=0.0, lr_min=min(LR_MIN, recipe.lr), epochs=max(1, round(recipe.epochs))
    )  # fmt: skip


def darts_cell(
    bench: Bench, dataset: Dataset, recipe: Recipe, *, seed: int, device: str = "cpu", order: int = 2
) -> tuple[Arch, dict[str, Any]]:
    """Returns the derived cell and how the search went; continues from the last epoch that was saved.

    Args:
        bench: the folder; the state stands in ``darts.safetensors``, an epoch a record in the journal.
        dataset: the images.
        recipe: of the supernet, see :func:`supernet_recipe`.
        seed: of weights, batches and alphas.
        device: where it is trained.
        order: 2, or 1 for a third of the cost.

    Raises:
        RunError: if the loss stops being finite.
    """
    space: Space = registry.make("space", "darts")
    scale = Scale(recipe.channels, recipe.depth, recipe.image_size, dataset.in_channels, dataset.n_classes)
    network = supernet("darts", scale, generator=torch.Generator().manual_seed(derived_seed(seed, "supernet")))
    look = dataset.preprocessing
    train, validation = (Pixels(s.images, s.labels, look.mean, look.std, device) for s in (dataset.train, dataset.validation))
    shared = SharedWeights(network, train, validation, recipe, n_classes=dataset.n_classes, seed=seed, device=device)
    settings = {"epochs": int(recipe.epochs), "order": order, "candidates": 1}
    strategy: Any = assemble("darts", space, seed=seed, settings=settings, given={"shared": shared}, device=device)
    path = bench.folder / "darts.safetensors"
    done = [record for record in bench.journal.records if record["event"] == "epoch"]
    if path.exists():
        state = load_state(path)
        strategy.load_state_dict(state["strategy"])
        done = done[: int(state["epochs"])]
    else:
        done = []
    bench.progress.stage("darts", int(recipe.epochs))
    while (record := _epoch(strategy)) is not None:
        done.append(record)
        bench.journal.append({"event": "epoch", **record})
        save_state(path, {"strategy": strategy.state_dict(), "epochs": len(done)})
        bench.progress.advance(len(done), f"loss {record['loss']:.3f}, entropy {record['entropy']:.3f}")
    bench.progress.end()
    return strategy.best(), _summary(done)


def _epoch(strategy: Any) -> dict[str, Any] | None:
    began = time.perf_counter()
    report = strategy.step()
    if report is None:
        return None
    if report.metrics["loss"] != report.metrics["loss"]:
        raise RunError("the supernet's loss is not finite; give a smaller learning rate, such as --set lr=0.01")
    return {**report.metrics, "seconds": time.perf_counter() - began, "images": report.cost.images}


def _summary(epochs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "trajectory": [epoch["loss"] for epoch in epochs],
        "entropy": [epoch["entropy"] for epoch in epochs],
        "seconds": sum(epoch["seconds"] for epoch in epochs),
        "images": sum(epoch["images"] for epoch in epochs),
    }
