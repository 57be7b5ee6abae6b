"""Final networks: all are fixed first and trained with one recipe and several seeds; then test is read once for each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archduel import registry
from archduel.commands.search.stages import ORDINALS, Pipeline
from archduel.core import Arch, Estimate, Query, Space, evaluation_seed
from archduel.core.space import TextSpace
from archduel.core.storage import load_state
from archduel.errors import InfeasibleError, RunError
from archduel.estimators.judges import final_weights, recipe_of, scale_of
from archduel.networks.trained import FACTS, load_trained, read_facts, save_trained, take_weights
from archduel.spaces.limits import Limits, sizes
from archduel.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from archduel.training.images import Pixels

__all__ = ["SCORES", "FinalNetwork", "final_fidelity", "mistakes_of", "network_folder", "networks", "remove_checkpoints", "survivors", "test_networks", "text_of", "train_networks"]

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


def network_folder(network: FinalNetwork, seed: int) -> str:
    """Returns where in the run folder a final network is kept, in the form of every trained network."""
    return f"networks/{network.role}-{seed}"


def test_networks(pipeline: Pipeline, found: list[FinalNetwork], fidelity: str) -> list[dict[str, Any]]:
    """Reads the test split once for each final network, keeps it, and returns a record a network and seed."""
    from archduel.training.images import Pixels

    data, folder = pipeline.dataset, pipeline.folder
    mean, std = data.preprocessing.mean, data.preprocessing.std
    pixels = Pixels(data.test.images, data.test.labels, mean, std, device=pipeline.settings.device)
    records: list[dict[str, Any]] = []
    for network in found:
        for seed in network.seeds:
            record = folder.noted("test", role=network.role, seed=seed)
            saved = _saved_scores(pipeline, network, fidelity, seed)
            if record is None or saved != {name: record[name] for name in SCORES}:
                model = _trained(pipeline, network, fidelity, seed, saved=saved is not None)
                record = record or _test(pipeline, network, seed, model, pixels, mistakes=not records)
                facts = _facts(pipeline, network, fidelity, seed, record)
                save_trained(folder.path / network_folder(network, seed), model, facts)
            records.append(record)
    return records


def _saved_scores(pipeline: Pipeline, network: FinalNetwork, fidelity: str, seed: int) -> dict[str, float] | None:
    """Returns the test scores of the network as it lies in its folder, None if it is not there or another one is."""
    home = pipeline.folder.path / network_folder(network, seed)
    if not (home / FACTS).is_file():
        return None
    facts = read_facts(home)
    # A journal that lost its end may have led to another network, or to other epochs, the first time.
    same = facts["arch"] == str(network.arch) and facts.get("search", {}).get("fidelity") == fidelity
    return dict(facts["test"]) if same else None


def _trained(pipeline: Pipeline, network: FinalNetwork, fidelity: str, seed: int, *, saved: bool) -> nn.Module:
    """Returns a network with the weights of its final training, on the run's device."""
    from archduel.spaces.family import build

    arch, path = network.arch, final_weights(pipeline.folder.path, network.arch, fidelity, seed)
    if saved and not path.is_file():  # the run was finished once, which deletes the worker's copy
        return load_trained(pipeline.folder.path / network_folder(network, seed), device=pipeline.settings.device)[0]
    model = build(arch, scale_of(recipe_of(fidelity, {"final": pipeline.plan.final}), pipeline.dataset))
    take_weights(model, load_state(path)["weights"], str(path))
    return model.to(pipeline.settings.device)


def _test(
    pipeline: Pipeline, network: FinalNetwork, seed: int, model: nn.Module, pixels: Pixels, *, mistakes: bool
) -> dict[str, Any]:
    """Reads the test split with one network and returns the journal's record."""
    from archduel.training.metrics import calibration_error, evaluate

    result = evaluate(model, pixels, device=pipeline.settings.device)
    if mistakes:
        pipeline.folder.write("mistakes.json", mistakes_of(result, pipeline.dataset))
    return pipeline.folder.note(
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


SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
"""What is measured of a final network on the test split, besides its confusions."""


def _facts(
    pipeline: Pipeline, network: FinalNetwork, fidelity: str, seed: int, tested: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what ``model.json`` says of a final network; ``seed`` there is that of the splits, as after a training."""
    from archduel.spaces.family import count

    settings, data = pipeline.settings, pipeline.dataset
    recipe = recipe_of(fidelity, {"final": pipeline.plan.final})
    scale = scale_of(recipe, data)
    splits = {split: len(getattr(data, split)) for split in ("train", "validation", "test")}
    return {
        "arch": str(network.arch), "text": text_of(pipeline.space, network.arch), "scale": scale, "options": {},
        "classes": list(data.classes), "preprocessing": data.preprocessing,
        "data": {"name": settings.data, "max_images": settings.max_images, **splits},
        **count(network.arch, scale)._asdict(), "recipe": {"name": "final", **asdict(recipe)}, "seed": settings.seed,
        "test": {name: tested[name] for name in SCORES},
        "search": {"role": network.role, "training_seed": seed, "fidelity": fidelity, "strategy": settings.strategy, "archduel": __version__},
    }  # fmt: skip


def text_of(space: Space, arch: Arch) -> str:
    """Returns an architecture in the words of ``space`` or, where it belongs to another one, of that."""
    home = space if arch.space == space.name else registry.make("space", arch.space)
    return home.write(arch) if isinstance(home, TextSpace) else str(arch)


def remove_checkpoints(folder: Path) -> None:
    """Deletes the workers' copies of the final weights, once the networks are kept and the result is written."""
    for path in (folder / "checkpoints").glob("final-*.safetensors"):
        path.unlink(missing_ok=True)


def mistakes_of(evaluation: Any, dataset: Any, n: int = 12) -> list[dict[str, Any]]:
    """Returns the worst mistakes on test as images (PNG data URIs), for the report."""
    import base64
    import io

    from PIL import Image

    from archduel.training.metrics import worst_mistakes

    found = []
    for mistake in worst_mistakes(evaluation.probabilities, evaluation.labels, n):
        pixels = np.asarray(dataset.test.images[mistake.row])
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        found.append(
            {
                "image": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
                "file": dataset.test.names[mistake.row] if dataset.test.names else f"test image {mistake.row}",
                "truth": dataset.classes[mistake.label],
                "guess": dataset.classes[mistake.predicted],
                "probability": mistake.confidence,
            }
        )
    return found
