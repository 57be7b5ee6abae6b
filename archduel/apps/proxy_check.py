"""How far a given recipe can be trusted on one's own images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from archduel import registry
from archduel.apps.progress import Progress
from archduel.apps.proxy_bench import Bench, executor_for
from archduel.apps.proxy_cost import accuracies, mean_cost
from archduel.apps.proxy_find import chosen_reference
from archduel.apps.proxy_recipes import changed, fitted, read_recipe
from archduel.apps.proxy_reference import random_archs
from archduel.apps.settings import parse_seconds
from archduel.core import Arch, Estimate, Space
from archduel.data import load
from archduel.errors import SettingError
from archduel.proxies.agreement import agreement, agreement_of_like_size
from archduel.proxies.readings import READINGS, SIZES, readings, sizes
from archduel.training.recipe import Recipe

__all__ = ["check_proxy"]


def check_proxy(
    data: Any,
    out: str | Path,
    *,
    recipe: str = "bpe1",
    space: str = "nasbench201",
    truth: int = 20,
    reference: str = "auto",
    time: str | float | None = None,
    changes: Mapping[str, Any] | None = None,
    reference_changes: Mapping[str, Any] | None = None,
    again: bool = False,
    seed: int = 0,
    metric: str = "accuracy",
    device: str = "cpu",
    workers: int = 1,
    fused: int | str = "off",
    load_settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Returns how far a recipe can be trusted on these images; the same call continues an interrupted one.

    Args:
        data: what :func:`archduel.data.load` takes.
        out: folder of the job; ``check.json`` has what is returned.
        recipe: a name or a file.
        space: a name on the menu of spaces.
        truth: random architectures.
        reference: the trusted recipe: ``auto``, a name or a file.
        time: for the trusted trainings, which decides ``auto``; None = 20 epochs at a middling size.
        changes: settings of the recipe that differ.
        reference_changes: settings of the reference that differ.
        again: also trains the reference with other seeds: no recipe can be expected to agree better than it does with itself.
        seed: of architectures, splits and trainings.
        metric: what a score is.
        device: where to train.
        workers: trainings at a time.
        fused: how many are trained at once in one process: a number, ``auto`` or ``off``.
        load_settings: of :func:`archduel.data.load`.
        quiet: print nothing.

    Raises:
        RunError: for a folder that cannot be used, or trainings that fail.
    """
    if truth < 5:
        raise SettingError(f"truth must be at least 5 architectures, got {truth}")
    home: Space = registry.make("space", space)
    dataset, progress = load(data, seed=seed, **(load_settings or {})), Progress(quiet=quiet)
    seconds = None if time is None else parse_seconds(time) * workers
    cheap, notes = fitted(changed(read_recipe(recipe, space), changes or {}), dataset)
    settings = {
        "job": "check", "data": dataset.fingerprint, "space": space, "truth": truth, "reference": reference, "time": seconds,
        "changes": dict(reference_changes or {}), "recipe": asdict(cheap), "again": again, "seed": seed, "metric": metric,
    }  # fmt: skip
    executor = executor_for(dataset, Path(out), seed=seed, metric=metric, device=device, workers=workers, fused=fused)
    with Bench(Path(out), settings, executor, progress) as bench:
        noted = bench.note("reference", lambda: chosen_reference(dataset, settings, seconds, device))
        trusted = Recipe(**noted["recipe"])
        for line in [*notes, *noted["notes"]]:
            progress.say(line)
        archs = random_archs(home, truth, seed)
        rows = {"reference": bench.train("reference", trusted, archs), "recipe": bench.train(recipe[-40:], cheap, archs, first=len(archs))}
        if again:
            rows["again"] = bench.train("reference again", trusted, archs, first=2 * len(archs))
        result = _checked(rows, archs, settings, asdict(trusted))
        bench.write_json("check.json", result)
    return result


def _checked(rows: Mapping[str, list[Estimate]], archs: Sequence[Arch], settings: Mapping[str, Any], trusted: dict[str, Any]) -> dict[str, Any]:
    scores: dict[str, list[float]] = {name: accuracies(estimates, name) for name, estimates in rows.items()}
    costs = {name: mean_cost(estimates) for name, estimates in rows.items()}
    return {
        "settings": dict(settings),
        "reference": trusted,
        "agreement": agreement(scores["recipe"], scores["reference"]).record(),
        "readings": {kind: agreement(readings(rows["recipe"], kind), scores["reference"]).record() for kind in READINGS},
        "of_like_size": {kind: _of_like_size(rows, kind, scores["reference"]) for kind in READINGS},
        "sizes": {kind: agreement(sizes(rows["recipe"], kind), scores["reference"]).record() for kind in SIZES},
        "ceiling": agreement(scores["again"], scores["reference"]).record() if "again" in rows else None,
        "seconds": {name: cost.seconds for name, cost in costs.items()},
        "images": {name: cost.images for name, cost in costs.items()},
        "archs": [str(arch) for arch in archs],
        "scores": {name: [s if s == s else None for s in values] for name, values in scores.items()},
    }


def _of_like_size(rows: Mapping[str, list[Estimate]], kind: str, truth: list[float]) -> dict[str, Any]:
    """Returns Kendall's tau among pairs whose multiply-adds differ by a tenth at most."""
    pairs, found = agreement_of_like_size(readings(rows["recipe"], kind), truth, sizes(rows["recipe"], "macs"))
    return {"pairs": pairs, **found.record()}
