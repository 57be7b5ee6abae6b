"""Final networks: all are fixed first and trained with one recipe and several seeds; then test is read once for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archduel import registry
from archduel.commands.search.settings import Settings
from archduel.commands.search.stages import ORDINALS, Context, Selection, trainings
from archduel.core import Arch, Estimate, Query, Scale, Space, evaluation_seed, parse
from archduel.core.job import Job
from archduel.core.space import TextSpace
from archduel.core.storage import if_whole, load_state
from archduel.data import Dataset
from archduel.errors import InfeasibleError, RunError
from archduel.estimators.judges import final_weights, recipe_of, scale_of
from archduel.networks.trained import is_whole, load_trained, read_facts, save_trained, take_weights
from archduel.spaces.limits import Limits, sizes
from archduel.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from archduel.training.images import Pixels
    from archduel.training.recipe import Recipe

__all__ = [
    "SCORES", "FinalNetwork", "FinalStage", "final_fidelity", "final_networks", "images_facts", "mistakes_of", "network_folder",
    "remove_checkpoints", "survivors", "test_networks", "text_of", "train_networks",
]  # fmt: skip


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


@dataclass(frozen=True)
class FinalStage:
    """What the final trainings and the test came to.

    Attributes:
        networks: those that are compared, with the seeds of which all trainings ended well.
        fidelity: ``final@epochs``.
        trainings: (architecture, seed) -> how its training went.
        tests: a record a network and seed.
        seconds: core seconds of the trainings.
    """

    networks: Sequence[FinalNetwork]
    fidelity: str
    trainings: Mapping[tuple[str, int], Estimate]
    tests: Sequence[Mapping[str, Any]]
    seconds: float


def final_networks(
    selection: Selection, settings: Settings, space: Space, scale: Scale, say: Callable[[str], None]
) -> list[FinalNetwork]:
    """Returns the networks that are compared, all fixed before any test image is read."""
    from archduel.spaces.resnet.space import standard_network

    seeds = tuple(evaluation_seed(settings.seed, ORDINALS["final"] + i) for i in range(settings.final_seeds))
    networks = [FinalNetwork("search", selection.winner, seeds)]
    if settings.baselines:
        if selection.random_winner is not None:
            networks.append(FinalNetwork("random", selection.random_winner, seeds))
        # without a limit, what the largest cells of this size need: a standard network of any size would prove nothing
        largest = max(counts.macs for _, counts in sizes(space, Limits(scale), np.random.default_rng(6), 300))
        try:
            macs = min(settings.max_macs or largest, largest)
            arch, _ = standard_network(scale, max_params=settings.max_params, max_macs=macs)
            networks.append(FinalNetwork("standard", arch, seeds))
        except InfeasibleError as error:
            say(f"no standard network in this comparison: {error}")
    return networks


def final_fidelity(
    context: Context, networks: Sequence[FinalNetwork], seconds_per_image: Callable[[Recipe, Arch], float]
) -> str:
    """Returns ``final@epochs``: as many epochs as the time that is left allows, decided once and written down.

    Args:
        context: of the search.
        networks: to be trained.
        seconds_per_image: measures a few training steps, where a network was not re-evaluated.
    """
    data, plan = context.dataset, context.plan
    images = len(data.train) + len(data.validation)
    # Re-evaluations also look at the validation images after every epoch: a third of a training step each.
    each_epoch = len(data.train) + len(data.validation) / 3
    known: dict[Arch, float] = {}
    for (arch, fidelity), estimate in trainings(context.job).items():
        if fidelity and fidelity.startswith("reevaluate") and not estimate.failed:
            epochs = recipe_of(fidelity, {"reevaluate": plan.reevaluate}).epochs
            known.setdefault(arch, estimate.cost.seconds / epochs * images / each_epoch)

    def epoch_seconds(arch: Arch) -> float:
        """Returns the expected seconds of one final epoch."""
        return known[arch] if arch in known else seconds_per_image(plan.final, arch) * images

    record = {network.role: str(network.arch) for network in networks}
    return context.pace.final(record, lambda: [epoch_seconds(network.arch) for network in networks for _ in network.seeds])


def train_networks(context: Context, networks: Sequence[FinalNetwork], fidelity: str) -> dict[tuple[str, int], Estimate]:
    """Trains every network with every seed and returns (arch, seed) -> estimate; weights are on disk.

    A continued run tries those again that failed, and those whose weights are gone or damaged.
    """
    progress, n_seeds = context.progress, len(networks[0].seeds)
    # seed by seed, so that an early stop leaves all networks with the same seeds
    jobs = list(dict.fromkeys((n.arch, i, n.seeds[i]) for i in range(n_seeds) for n in networks))
    queries = [Query(arch, fidelity) for arch, _, _ in jobs]
    ordinals = [ORDINALS["final"] + i for _, i, _ in jobs]
    seeds = [{"seed": seed} for _, _, seed in jobs]
    done: dict[tuple[str, int], Estimate] = {}

    def again(record: Mapping[str, Any]) -> bool:
        """Whether a training has to be made again."""
        arch, seed = record["arch"], record.get("seed")
        if record["reason"] or seed is None:
            return bool(record["reason"])
        folders = [context.job.path / network_folder(n, seed) for n in networks if str(n.arch) == arch]
        if folders and all(_saved_scores(folder, parse(arch), fidelity) is not None for folder in folders):
            return False
        return if_whole(final_weights(context.job.path, parse(arch), fidelity, seed), load_state, progress.say) is None

    progress.stage("final", len(jobs))
    estimates = context.job.paid(context.executor.run, queries, ordinals, stage="final", values=seeds, retry=again)
    for n, ((arch, _, seed), estimate) in enumerate(zip(jobs, estimates), 1):
        done[str(arch), seed] = estimate
        progress.advance(n, context.time_left().removeprefix(", "))
    return done


def survivors(
    networks: Sequence[FinalNetwork], done: Mapping[tuple[str, int], Estimate], say: Callable[[str], None]
) -> list[FinalNetwork]:
    """Returns the networks with the seeds of which the search's training ended well, so that all stay paired.

    A network that failed with one of these is left out; the journal and the report name the reason.

    Raises:
        RunError: if every training of the search's network failed.
    """
    first = networks[0]
    seeds = tuple(seed for seed in first.seeds if not done[str(first.arch), seed].failed)
    if not seeds:
        reason = done[str(first.arch), first.seeds[0]].reason
        raise RunError(f"every final training of {first.arch} failed: {reason}; the same command tries again")
    left = []
    for network in networks:
        failed = [done[str(network.arch), seed].reason for seed in network.seeds if done[str(network.arch), seed].failed]
        if failed:
            say(f"warning: {len(failed)} of {len(network.seeds)} final trainings of {network.role} failed: {failed[0]}")
        if not any(done[str(network.arch), seed].failed for seed in seeds):
            left.append(replace(network, seeds=seeds))
    return left


def network_folder(network: FinalNetwork, seed: int) -> str:
    """Returns where in the run folder a final network is kept, in the form of every trained network."""
    return f"networks/{network.role}-{seed}"


def test_networks(context: Context, networks: Sequence[FinalNetwork], fidelity: str) -> list[dict[str, Any]]:
    """Reads the test split once for each final network, keeps it, and returns a record a network and seed."""
    from archduel.training.images import Pixels

    data, job, settings = context.dataset, context.job, context.settings
    mean, std = data.preprocessing.mean, data.preprocessing.std
    pixels = Pixels(data.test.images, data.test.labels, mean, std, device=settings.device)
    recipe = recipe_of(fidelity, {"final": context.plan.final})
    scale = scale_of(recipe, data)
    records: list[dict[str, Any]] = []
    for network in networks:
        for seed in network.seeds:
            folder = job.path / network_folder(network, seed)
            record = job.noted("test", role=network.role, seed=seed)
            saved = _saved_scores(folder, network.arch, fidelity)
            if record is None or saved != {name: record[name] for name in SCORES}:
                weights = final_weights(job.path, network.arch, fidelity, seed)
                model = _trained(network.arch, scale, weights, folder if saved is not None else None, settings.device)
                record = record or _test(job, network, seed, model, pixels, data if not records else None)
                facts = _facts(settings, data, context.space, network.arch, scale, recipe, record)
                source = {"role": network.role, "training_seed": seed, "fidelity": fidelity, "strategy": settings.strategy, "archduel": __version__}
                save_trained(folder, model, {**facts, "search": source})
            records.append(record)
    return records


def _saved_scores(folder: Path, arch: Arch, fidelity: str) -> dict[str, float] | None:
    """Returns the test scores of the network as it lies in its folder, None if it is not there, damaged, or another one is."""
    if not is_whole(folder):
        return None
    facts = read_facts(folder)
    # A journal that lost its end may have led to another network, or to other epochs, the first time.
    same = facts["arch"] == str(arch) and facts.get("search", {}).get("fidelity") == fidelity
    return dict(facts["test"]) if same else None


def _trained(arch: Arch, scale: Scale, weights: Path, folder: Path | None, device: str) -> nn.Module:
    """Returns a network with the weights of its final training; those in ``folder`` if the worker's copy is gone."""
    from archduel.spaces.family import build

    # the run was finished once, which deletes the worker's copy
    if folder is not None and not weights.is_file():
        return load_trained(folder, device=device)[0]
    model = build(arch, scale)
    take_weights(model, load_state(weights)["weights"], str(weights))
    return model.to(device)


def _test(
    job: Job, network: FinalNetwork, seed: int, model: nn.Module, pixels: Pixels, dataset: Dataset | None
) -> dict[str, Any]:
    """Reads the test split with one network and returns the journal's record; with ``dataset``, its mistakes are kept."""
    from archduel.training.metrics import calibration_error, evaluate

    result = evaluate(model, pixels)
    if dataset is not None:
        job.write("mistakes.json", mistakes_of(result, dataset))
    return job.note(
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
    settings: Settings, data: Dataset, space: Space, arch: Arch, scale: Scale, recipe: Recipe, tested: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what ``model.json`` says of a final network; ``seed`` there is that of the splits, as after a training."""
    from archduel.spaces.family import count

    return {
        "arch": str(arch), "text": text_of(space, arch), "scale": scale, "options": {}, "classes": list(data.classes),
        "preprocessing": data.preprocessing, "data": images_facts(settings, data),
        **count(arch, scale)._asdict(), "recipe": {"name": "final", **asdict(recipe)}, "seed": settings.seed,
        "test": {name: tested[name] for name in SCORES},
    }  # fmt: skip


def images_facts(settings: Settings, data: Dataset) -> dict[str, Any]:
    """Returns what ``model.json`` says of the images, so that they can be split as in the run: also of how many test images those that were read are."""
    splits = {split: len(getattr(data, split)) for split in ("train", "validation", "test")}
    share = {} if settings.validation is None else {"validation_share": settings.validation}
    known = {name: data.facts[name] for name in ("test_of", "listing") if name in data.facts}
    return {"name": settings.data, "max_images": settings.max_images, **share, **splits, **known}


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

    mistakes, of = [], " of those read" if "test_of" in dataset.facts else ""
    for mistake in worst_mistakes(evaluation.probabilities, evaluation.labels, n):
        pixels = np.asarray(dataset.test.images[mistake.row])
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        mistakes.append(
            {
                "image": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
                "file": dataset.test.names[mistake.row] if dataset.test.names else f"test image {mistake.row}{of}",
                "truth": dataset.classes[mistake.label],
                "guess": dataset.classes[mistake.predicted],
                "probability": mistake.confidence,
            }
        )
    return mistakes
