"""What came out of a run, as plain values: result.json, and the sentences that say it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from archduel.assemble import accepted_partners
from archduel.commands.search.final import SCORES, FinalNetwork, FinalStage, network_folder, text_of
from archduel.commands.search.plan import Plan
from archduel.commands.search.settings import Settings
from archduel.commands.search.stages import Selection
from archduel.commands.search.words import (
    SHARED,
    guessing_sentence,
    images_read,
    latency_words,
    ranking_sentence,
)
from archduel.core import Arch, Estimate, Space, Strategy, win_matrix
from archduel.data import Dataset
from archduel.errors import StateError
from archduel.estimators.judges import recipe_of, scale_of
from archduel.reporting.statistics import gain_interval, gain_sentence, kendall_tau, share_interval

__all__ = ["gain", "result_of"]



def result_of(
    selection: Selection,
    final: FinalStage,
    *,
    settings: Settings,
    plan: Plan,
    space: Space,
    dataset: Dataset,
    strategy: Strategy,
    clock: float,
) -> dict[str, Any]:
    """Returns the content of result.json: what was chosen, how good it is, what it cost, how sure that is.

    Args:
        selection: what search and random search came to.
        final: the trained networks and their tests.
        settings: of the run.
        plan: of the run.
        space: in which architectures are written.
        dataset: the images.
        strategy: the search's, whose comparator is asked about the finalists.
        clock: seconds of the run.
    """
    recipe = recipe_of(final.fidelity, {"final": plan.final})
    networks = {
        network.role: _network(space, network, final.trainings, [t for t in final.tests if t["role"] == network.role])
        for network in final.networks
    }
    return {
        "metric": settings.metric,
        "networks": networks,
        "gain": _gains(networks, settings.metric, len(dataset.test)),
        "agreement": _agreement(selection, networks, settings.metric),
        "search": [[str(arch), _number(score)] for arch, score in selection.search],
        "random": [[str(arch), _number(score)] for arch, score in selection.random],
        "reevaluated": {str(arch): _number(score) for arch, score in selection.reevaluated.items()},
        "shortlists": [[str(arch) for arch in shortlist] for shortlist in selection.shortlists],
        "steps": list(selection.steps),
        "comparator": _win_matrix(strategy, settings.strategy, list(selection.reevaluated)[:MATRIX]),
        "core_seconds": {stage: round(seconds, 3) for stage, seconds in {**selection.seconds, "final": final.seconds}.items()},
        "clock": round(clock, 2),
        "scale": scale_fields(scale_of(recipe, dataset)),
        "fidelity": final.fidelity,
        "plan": plan.to_json(),
        "data": data_fields(dataset),
    }


def _number(score: float) -> float | None:
    return None if math.isnan(score) else float(score)


def scale_fields(scale: Any) -> dict[str, int]:
    """Returns a scale as JSON values."""
    return {name: getattr(scale, name) for name in ("channels", "depth", "image_size", "in_channels", "n_classes")}


def data_fields(dataset: Any) -> dict[str, Any]:
    """Returns what the report and the export say about the images."""
    preprocessing = dataset.preprocessing
    return {
        "name": dataset.name,
        "classes": list(dataset.classes),
        "splits": {split: len(getattr(dataset, split)) for split in ("train", "validation", "test")},
        "fingerprint": dataset.fingerprint,
        "flip": dataset.flip,
        "preprocessing": {
            "size": preprocessing.size,
            "mode": preprocessing.mode,
            "rule": preprocessing.rule,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "value_range": preprocessing.value_range,
        },
        "warnings": list(dataset.warnings),
        "skipped": dict(dataset.skipped),
        "facts": dict(dataset.facts),
    }


def _network(
    space: Space, network: FinalNetwork, trainings: Mapping[tuple[str, int], Estimate], tests: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    arch, values = network.arch, [trainings[str(network.arch), seed].values for seed in network.seeds]
    return {
        "arch": str(arch),
        "text": text_of(space, arch),
        "params": values[0]["params"],
        "macs": values[0]["macs"],
        "seeds": list(network.seeds),
        "test": {
            name: [float(test[name]) for test in tests] for name in SCORES
        },
        "confusion": tests[0]["confusion"],
        "folders": [network_folder(network, seed) for seed in network.seeds],
        "history": [value["history"] for value in values],
    }


OTHERS = {"random": "random search at equal cost", "standard": "the standard small ResNet"}


def _gains(networks: Mapping[str, Mapping[str, Any]], metric: str, n_test: int) -> dict[str, Any]:
    """Returns the paired differences of the search's network against the others, with their sentences."""
    gains = {}
    for role, name in OTHERS.items():
        if role not in networks:
            continue
        ours, theirs = networks["search"]["test"][metric], networks[role]["test"][metric]
        differences = [a - b for a, b in zip(ours, theirs)]
        if networks["search"]["arch"] == networks[role]["arch"]:
            sentence = f"The search and {name} chose the same network; there is nothing to compare."
        else:
            first = role == "random"  # what the interval covers is said once
            sentence = gain_sentence(differences, 1, len(differences), other=name, n_test=n_test, coverage=first)
            sentence += _size_sentence(networks["search"]["macs"], networks[role]["macs"])
        interval = gain_interval(differences, 1, len(differences), n_test=n_test)
        gains[role] = {"differences": differences, "interval": interval.record(), "sentence": sentence}
    return gains


ALIKE = 0.05
"""Networks whose multiply-adds differ by a smaller share are of one size."""


def _size_sentence(ours: int, theirs: int) -> str:
    """Returns how much more or less the search's network computes, because a gain may be size; empty if they are alike."""
    if abs(ours / theirs - 1) < ALIKE:
        return ""
    return f" The search's network makes {ours / theirs:.2g} times its multiply-adds ({ours / 1e6:.3g} M against {theirs / 1e6:.3g} M)."


def _agreement(selection: Selection, networks: Mapping[str, Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Returns how each stage's order agrees with the next one's on this data: Kendall tau with an interval."""
    shared = selection.shared_scores
    # what the search paid for has scores of shared weights then, which are of another kind than cheap ones
    scored = [*([] if shared else selection.search), *selection.random]
    cheap = {arch: score for arch, score in scored if not math.isnan(score)}
    checked = {arch: s for arch, s in selection.reevaluated.items() if not math.isnan(s)}
    rows = []
    if shared:  # what the shared weights say, against trainings of random cells alone, and of the finalists
        for stage, alone in (("label", cheap), ("re-evaluation", checked)):
            both = [arch for arch in alone if arch in shared]
            rows.append(_tau(SHARED, stage, [shared[a] for a in both], [alone[a] for a in both]))
    both = [arch for arch in checked if arch in cheap]
    rows.append(_tau("label", "re-evaluation", [cheap[a] for a in both], [checked[a] for a in both]))
    tested = {_arch(n["arch"]): sum(n["test"][metric]) / len(n["test"][metric]) for n in networks.values()}
    both = [arch for arch in checked if arch in tested]
    rows.append(_tau("re-evaluation", "final test", [checked[a] for a in both], [tested[a] for a in both]))
    return rows


def _arch(text: str) -> Arch:
    """Returns the architecture of a canonical text."""
    from archduel.core import parse

    return parse(text)


def _tau(stage: str, after: str, x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    """Returns Kendall's tau of two stages; None where there are too few architectures to say."""
    interval = kendall_tau(x, y).record() if len(x) > 1 else {"value": None, "low": None, "high": None}
    return {"first": stage, "second": after, "tau": interval["value"], "low": interval["low"], "high": interval["high"], "n": len(x)}


MATRIX = 12
"""Architectures whose pairs are shown: more rows cannot be read on a page."""


def _win_matrix(strategy: Strategy, name: str, archs: Sequence[Arch]) -> dict[str, Any] | None:
    """Returns the comparator's win probabilities among the finalists, where the strategy has a ranker."""
    # collaborators are attributes of the names under which a constructor takes them
    ranker = getattr(strategy, "ranker", None) if "ranker" in accepted_partners(name) else None
    if ranker is None or len(archs) < 2:
        return None
    try:
        probabilities = win_matrix(ranker, archs)
    except StateError:  # all labels were equal: there was no order to learn
        return None
    return {"archs": [str(arch) for arch in archs], "probabilities": probabilities.round(4).tolist()}


WEAKEST = 3


def _weakest(result: Mapping[str, Any]) -> list[str]:
    """Returns a line with the classes that the network gets right least often, none where all are right."""
    lines = zip(result["data"]["classes"], result["networks"]["search"]["confusion"])
    shares = sorted((line[i] / sum(line), name) for i, (name, line) in enumerate(lines) if sum(line))
    worst = [f"{name} {share:.0%}" for share, name in shares[:WEAKEST] if share < 1]
    return [f"        weakest classes: {', '.join(worst)}"] if worst else []


def _footprint_line(winner: Mapping[str, Any], form: str = "{}") -> list[str]:
    """Returns what the network needs on a device, in words; nothing for runs of a version that did not say it."""
    need = winner.get("footprint")
    if not need:
        return []
    numbers = "int8" if need["int8"] else "float32"
    return [form.format(f"on a device, in {numbers}: {need['ram']:,} bytes of RAM for activations, {need['flash']:,} bytes of flash")]


FEW_TESTED = 200
"""Test images below which the interval of an accuracy is said wherever it is: it is wider than 13 points in the middle."""


def _may_be(result: Mapping[str, Any], score: float) -> str:
    """Returns what an accuracy of few test images may be, empty for many images and for other metrics."""
    n = result["data"]["splits"]["test"]
    if n >= FEW_TESTED or result["metric"] != "accuracy":
        return ""
    share = share_interval(round(score * n), n)
    return f"; 95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} %"


def gain(result: Mapping[str, Any]) -> list[str]:
    """Returns the sentences that say what came out."""
    winner = result["networks"]["search"]
    scores = winner["test"][result["metric"]]
    mean = sum(scores) / len(scores)
    number = f"of {images_read(result['data'])} images{_may_be(result, scores[0])}" if len(scores) == 1 else f"mean of {len(scores)} trainings"
    lines = [
        f"winner  {winner['text']}",
        f"        test {result['metric'].replace('_', ' ')} {mean:.2%} ({number}), {winner['params']:,} parameters, "
        f"{winner['macs']:,} multiply-adds{latency_words(winner)}",
        *_footprint_line(winner, "        {}"), *_weakest(result),
        *(f"warning: {text}" for text in filter(None, [guessing_sentence(result)])),
    ]
    ranked = ranking_sentence(result)
    return lines + [part["sentence"] for part in result["gain"].values()] + ([ranked] if ranked else [])


