"""How far a given recipe can be trusted on one's own images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from archduel import registry
from archduel.commands.options import parse_seconds
from archduel.commands.proxy.reference import accuracies, check_truth, mean_cost, trusted_recipe
from archduel.commands.trainings import JobOptions
from archduel.core import Arch, Estimate, Space, sample_distinct
from archduel.proxies.agreement import READINGS, SIZES, agreement, agreement_of_like_size, readings, sizes
from archduel.recipes import Source, fitted, open_recipe, read
from archduel.reporting.text import duration, text_table

__all__ = ["bounded_text", "check_proxy", "check_text"]

# -- What `archduel proxy check` says -----------------------------------------------------------------------------------


def bounded_text(value: Mapping[str, float | None]) -> str:
    """Returns ``0.52 [0.31, 0.68]``; a dash for what is unknown."""
    if value["value"] is None:
        return "–"
    if value["low"] is None or value["high"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def check_text(result: Mapping[str, Any]) -> str:
    """Returns agreement, intervals and cost of a checked recipe as text."""
    seconds, images = result["seconds"], result["images"]
    like = {f"recipe, {kind}": bounded_text(found) for kind, found in result["of_like_size"].items()}
    kinds = [(f"recipe, {kind}", "recipe", found) for kind, found in result["readings"].items()]
    ceiling = [("reference again, score", "again", result["ceiling"])] if result["ceiling"] else []
    rows = [
        [name, bounded_text(found["kendall"]), bounded_text(found["spearman"]), like.get(name, ""), duration(seconds[key]), f"{images[key]:,}",
         f"{seconds[key] / max(seconds['reference'], 1e-9):.1%}"]
        for name, key, found in [*kinds, *ceiling]
    ]  # fmt: skip
    rows += [
        [f"untrained, {kind}", bounded_text(found["kendall"]), bounded_text(found["spearman"]), "", "", "", ""]
        for kind, found in result["sizes"].items()
    ]
    headers = ["reading", "Kendall tau", "Spearman rho", "tau at like size", "time each", "images each", "of the reference"]
    n = result["agreement"]["n"]
    pairs = next(iter(result["of_like_size"].values()))["pairs"]
    about = (
        f"agreement with the reference's score on {n} random architectures of {result['settings']['space']}; 95 % bootstrap "
        f"intervals; at like size: {pairs} pairs whose multiply-adds differ by a tenth at most. Losses cost nothing more than the score: they come from the same trainings. "
        "A recipe that ranks no better than size is not worth its time."
    )
    return f"{text_table(headers, rows)}\n\n{about}"


def check_proxy(
    data: Any,
    out: str | Path,
    *,
    recipe: Source = "bpe1",
    space: str = "nasbench201",
    truth: int = 20,
    reference: str = "auto",
    time: str | float | None = None,
    changes: Mapping[str, Any] | None = None,
    reference_changes: Mapping[str, Any] | None = None,
    again: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Returns how far a recipe can be trusted on these images; the same call continues an interrupted one.

    Args:
        data: what :func:`archduel.data.load` takes.
        out: folder of the job; ``check.json`` has what is returned.
        recipe: what :func:`archduel.recipes.read` takes: a name, a file, a mapping.
        space: a name on the menu of spaces.
        truth: random architectures.
        reference: the trusted recipe: ``auto``, a name or a file.
        time: for the trusted trainings, which decides ``auto``; None = 20 epochs at a middling size.
        changes: settings of the recipe that differ.
        reference_changes: settings of the reference that differ.
        again: also trains the reference with other seeds: no recipe can be expected to agree better than it does with itself.
        **options: fields of :class:`archduel.commands.trainings.JobOptions`: ``seed``, ``device``, ``workers`` ...

    Raises:
        RunError: for a folder that cannot be used, or trainings that fail.
    """
    check_truth(truth)
    job = JobOptions(**options)
    home: Space = registry.make("space", space)
    dataset = job.dataset(data)
    seconds = None if time is None else parse_seconds(time) * job.workers
    cheap, notes = fitted(read(recipe, space, changes), dataset.image_size, dataset.flip)
    settings = {
        "space": space, "truth": truth, "reference": reference, "time": seconds, "changes": dict(reference_changes or {}),
        "recipe": asdict(cheap), "again": again,
    }  # fmt: skip
    with job.bench(dataset, out, "check", settings, built_with=open_recipe(recipe).built_with) as bench:
        trusted = trusted_recipe(bench, dataset, settings, seconds, job.device, notes)
        archs = sample_distinct(home, truth, np.random.default_rng([job.seed, 61]))
        rows = {"reference": bench.train("reference", trusted, archs), "recipe": bench.train(open_recipe(recipe).name, cheap, archs, first=len(archs))}
        if again:
            rows["again"] = bench.train("reference again", trusted, archs, first=2 * len(archs))
        result = _checked(rows, archs, bench.settings, asdict(trusted))
        bench.job.write("check.json", result)
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
