"""Final networks: all are fixed first and trained with one recipe and several seeds; then test is read once for each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archduel.commands.search.stages import ORDINALS, Pipeline
from archduel.core import Arch, Estimate, Query, evaluation_seed
from archduel.core.storage import load_state
from archduel.errors import InfeasibleError, RunError
from archduel.estimators.judges import final_weights, recipe_of, scale_of
from archduel.networks.trained import plain
from archduel.spaces.limits import Limits, sizes

__all__ = ["FinalNetwork", "final_fidelity", "networks", "survivors", "test_networks", "train_networks"]

FINAL_SHARE_LEFT = 0.95
"""Share of the time that is left when the final stage begins that it may use; the rest is test, export and report."""


@dataclass(frozen=True)
class FinalNetwork:
    """One network of the comparison.

    Attributes:
        role: ``search``, ``random`` or ``standard``.
        arch: the architecture.
        seeds: seeds of its trainings, the same for every role.
    """

    role: str
    arch: Arch
    seeds: tuple[int, ...]


def networks(pipeline: Pipeline) -> list[FinalNetwork]:
    """Returns the networks that are compared, all fixed before any test image is read."""
    from archduel.spaces.resnet.cost import standard_network

    settings, arms = pipeline.settings, pipeline.arms
    seeds = tuple(evaluation_seed(settings.seed, ORDINALS["final"] + i) for i in range(settings.final_seeds))
    assert arms.winner is not None
    found = [FinalNetwork("search", arms.winner, seeds)]
    if settings.baselines:
        if arms.random_winner is not None:
            found.append(FinalNetwork("random", arms.random_winner, seeds))
        scale = scale_of(pipeline.plan.final, pipeline.dataset)
        try:
            arch, _ = standard_network(scale, max_params=settings.max_params, max_macs=_macs_limit(pipeline))
            found.append(FinalNetwork("standard", arch, seeds))
        except InfeasibleError as error:
            pipeline.progress.say(f"no standard network in this comparison: {error}")
    return found


def _macs_limit(pipeline: Pipeline) -> float:
    """Returns the limit of the standard network: the run's, else what the largest cells of this size need."""
    limits = Limits(scale_of(pipeline.plan.final, pipeline.dataset))
    drawn = sizes(pipeline.space, limits, np.random.default_rng(6), 300)
    largest = max(counts.macs for _, counts in drawn)
    return min(pipeline.settings.max_macs or largest, largest)


def final_fidelity(pipeline: Pipeline, found: list[FinalNetwork]) -> str:
    """Returns ``final@epochs``: as many epochs as the time that is left allows, decided once and written down."""
    noted = pipeline.folder.noted("final plan")
    if noted is not None:
        return str(noted["fidelity"])
    settings, plan = pipeline.settings, pipeline.plan
    epochs = plan.final.epochs
    if settings.seconds is not None and "epochs" not in settings.section("final"):
        left = FINAL_SHARE_LEFT * (settings.seconds - pipeline.folder.clock)
        jobs = [_epoch_seconds(pipeline, network.arch) for network in found for _ in network.seeds]
        rounds = _makespan(jobs, settings.workers)
        epochs = max(1, min(3 * plan.final.epochs, math.floor(left / max(rounds, 1e-9))))
    fidelity = f"final@{epochs:g}"
    pipeline.folder.note("final plan", fidelity=fidelity, networks={n.role: str(n.arch) for n in found})
    return fidelity


def _epoch_seconds(pipeline: Pipeline, arch: Arch) -> float:
    """Returns the expected seconds of one final epoch, from the network's re-evaluation or a few measured steps."""
    data, plan = pipeline.dataset, pipeline.plan
    images = len(data.train) + len(data.validation)
    for (checked, fidelity), estimate in pipeline.paid.items():
        if checked == arch and fidelity and fidelity.startswith("reevaluate") and not estimate.failed:
            epochs = recipe_of(fidelity, {"reevaluate": plan.reevaluate}).epochs
            # Re-evaluations also look at the validation images after every epoch: a third of a training step each.
            return estimate.cost.seconds / epochs * images / (len(data.train) + len(data.validation) / 3)
    return pipeline.stopwatch.seconds_per_image(plan.final, arch) * images


def _makespan(jobs: list[float], workers: int) -> float:
    """Returns the time ``workers`` need for ``jobs`` started in order."""
    ends = [0.0] * workers
    for job in jobs:
        i = ends.index(min(ends))
        ends[i] += job
    return max(ends)


def train_networks(pipeline: Pipeline, found: list[FinalNetwork], fidelity: str) -> dict[tuple[str, int], Estimate]:
    """Trains every network with every seed and returns (arch, seed) -> estimate; weights are on disk.

    A continued run tries those that failed again: a full disk or memory may be the reason.
    """
    jobs = list(dict.fromkeys((n.arch, i, seed) for i in range(pipeline.settings.final_seeds) for n in found for seed in n.seeds[i : i + 1]))
    queries = [Query(arch, fidelity) for arch, _, _ in jobs]
    ordinals = [ORDINALS["final"] + i for _, i, _ in jobs]
    seeds = [{"seed": seed} for _, _, seed in jobs]
    done: dict[tuple[str, int], Estimate] = {}
    pipeline.progress.stage("final", len(jobs))
    trained = pipeline.folder.paid(pipeline.executor.run, queries, ordinals, stage="final", values=seeds, retry=True)
    for n, ((arch, _, seed), estimate) in enumerate(zip(jobs, trained), 1):
        done[str(arch), seed] = estimate
        pipeline.progress.advance(n, pipeline.time_left().removeprefix(", "))
    pipeline.arms.seconds["final"] = sum(r["seconds"] for r in pipeline.folder.part("final").records)
    return done


def survivors(pipeline: Pipeline, found: list[FinalNetwork], done: Mapping[tuple[str, int], Estimate]) -> list[FinalNetwork]:
    """Returns the networks with the seeds of which the search's training ended well, so that all stay paired.

    A network that failed with one of these is left out; the journal and the report name the reason.

    Raises:
        RunError: if every training of the search's network failed.
    """
    first = found[0]
    seeds = tuple(seed for seed in first.seeds if not done[str(first.arch), seed].failed)
    if not seeds:
        reason = done[str(first.arch), first.seeds[0]].reason
        raise RunError(f"every final training of {first.arch} failed: {reason}; the same command tries again")
    kept = []
    for network in found:
        failed = [done[str(network.arch), seed].reason for seed in network.seeds if done[str(network.arch), seed].failed]
        if failed:
            pipeline.progress.say(f"warning: {len(failed)} of {len(network.seeds)} final trainings of {network.role} failed: {failed[0]}")
        if not any(done[str(network.arch), seed].failed for seed in seeds):
            kept.append(replace(network, seeds=seeds))
    return kept


def test_networks(pipeline: Pipeline, found: list[FinalNetwork], fidelity: str) -> list[dict[str, Any]]:
    """Reads the test split once for each final network and returns a record a network and seed."""
    from archduel.spaces.family import build
    from archduel.training.images import Pixels
    from archduel.training.metrics import calibration_error, evaluate

    data, folder = pipeline.dataset, pipeline.folder
    mean, std = data.preprocessing.mean, data.preprocessing.std
    pixels = Pixels(data.test.images, data.test.labels, mean, std, device=pipeline.settings.device)
    recipe = recipe_of(fidelity, {"final": pipeline.plan.final})
    records: list[dict[str, Any]] = []
    for network in found:
        for seed in network.seeds:
            noted = folder.noted("test", role=network.role, seed=seed)
            if noted is None:
                model = build(network.arch, scale_of(recipe, data))
                weights = load_state(final_weights(folder.path, network.arch, fidelity, seed))["weights"]
                model.load_state_dict(plain(weights, model), strict=True)
                result = evaluate(model.to(pipeline.settings.device), pixels, device=pipeline.settings.device)
                if not records:
                    folder.write("mistakes.json", _mistakes(result, data))
                noted = folder.note(
                    "test",
                    role=network.role,
                    arch=str(network.arch),
                    seed=seed,
                    accuracy=result.accuracy,
                    balanced_accuracy=result.score("balanced_accuracy"),
                    macro_f1=result.score("macro_f1"),
                    ece=calibration_error(result.probabilities, result.labels),
                    confusion=result.confusion.tolist(),
                )
            records.append(noted)
    return records


def _mistakes(evaluation: Any, dataset: Any, n: int = 12) -> list[dict[str, Any]]:
    """Returns the worst mistakes on test as pictures (PNG data URIs), for the report."""
    import base64
    import io

    from PIL import Image

    from archduel.training.metrics import worst_mistakes

    found = []
    for mistake in worst_mistakes(evaluation.probabilities, evaluation.labels, n):
        pixels = np.asarray(dataset.test.images[mistake.row])
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        found.append(
            {
                "image": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
                "file": dataset.test.names[mistake.row] if dataset.test.names else f"test picture {mistake.row}",
                "truth": dataset.classes[mistake.label],
                "guess": dataset.classes[mistake.predicted],
                "probability": mistake.confidence,
            }
        )
    return found
