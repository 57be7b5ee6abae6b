"""What came out of a run, as plain values: result.json, and the sentences that say it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from archduel.assemble import accepted_partners
from archduel.commands.search.final import SCORES, FinalNetwork, network_folder, text_of
from archduel.commands.search.stages import Pipeline
from archduel.core import Arch, win_matrix
from archduel.errors import StateError
from archduel.estimators.judges import recipe_of, scale_of
from archduel.reporting.statistics import gain_interval, gain_sentence, kendall_tau

__all__ = ["SHARED", "gain", "ranking_sentence", "result_of"]

SHARED = "shared weights"


def result_of(
    pipeline: Pipeline,
    found: Sequence[FinalNetwork],
    fidelity: str,
    values: Mapping[tuple[str, int], Mapping[str, Any]],
    tests: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Returns the content of result.json: what was chosen, how good it is, what it cost, how sure that is."""
    settings, dataset, plan = pipeline.settings, pipeline.dataset, pipeline.plan
    recipe = recipe_of(fidelity, {"final": plan.final})
    networks = {
        network.role: _network(pipeline, network, values, [t for t in tests if t["role"] == network.role])
        for network in found
    }
    return {
        "metric": settings.metric,
        "networks": networks,
        "gain": _gains(networks, settings.metric, len(dataset.test)),
        "agreement": _agreement(pipeline, networks, settings.metric),
        "search": [[str(arch), _number(score)] for arch, score in pipeline.arms.search],
        "random": [[str(arch), _number(score)] for arch, score in pipeline.arms.random],
        "reevaluated": {str(arch): _number(score) for arch, score in pipeline.arms.reevaluated.items()},
        "shortlists": pipeline.arms.notes.get("shortlists", []),
        "steps": pipeline.arms.notes.get("steps", []),
        "comparator": _win_matrix(pipeline),
        "core_seconds": {stage: round(seconds, 3) for stage, seconds in pipeline.arms.seconds.items()},
        "clock": round(pipeline.folder.clock, 2),
        "scale": scale_fields(scale_of(recipe, dataset)),
        "fidelity": fidelity,
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
        },
        "warnings": list(dataset.warnings),
        "skipped": dict(dataset.skipped),
        "facts": dict(dataset.facts),
    }


def _network(
    pipeline: Pipeline,
    network: FinalNetwork,
    values: Mapping[tuple[str, int], Mapping[str, Any]],
    tests: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    arch, first = network.arch, values[str(network.arch), network.seeds[0]]
    return {
        "arch": str(arch),
        "text": text_of(pipeline.space, arch),
        "params": first["params"],
        "macs": first["macs"],
        "seeds": list(network.seeds),
        "test": {
            name: [float(test[name]) for test in tests] for name in SCORES
        },
        "confusion": tests[0]["confusion"],
        "folders": [network_folder(network, seed) for seed in network.seeds],
        "history": [values[str(arch), seed]["history"] for seed in network.seeds],
    }


OTHERS = {"random": "random search at equal cost", "standard": "the standard small ResNet"}


def _gains(networks: Mapping[str, Mapping[str, Any]], metric: str, n_test: int) -> dict[str, Any]:
    """Returns the paired differences of the search's network against the others, with their sentences."""
    found = {}
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
        found[role] = {"differences": differences, "interval": interval.record(), "sentence": sentence}
    return found


ALIKE = 0.05
"""Networks whose multiply-adds differ by a smaller share are of one size."""


def _size_sentence(ours: int, theirs: int) -> str:
    """Returns how much more or less the search's network computes, because a gain may be size; empty if they are alike."""
    if abs(ours / theirs - 1) < ALIKE:
        return ""
    return f" The search's network makes {ours / theirs:.2g} times its multiply-adds ({ours / 1e6:.3g} M against {theirs / 1e6:.3g} M)."


def _agreement(pipeline: Pipeline, networks: Mapping[str, Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Returns how each stage's order agrees with the next one's on this data: Kendall tau with an interval."""
    inherited: Mapping[Arch, float] = pipeline.arms.notes.get("inherited", {})
    scored = [*([] if inherited else pipeline.arms.search), *pipeline.arms.random]
    cheap = {arch: score for arch, score in scored if not math.isnan(score)}
    checked = {arch: s for arch, s in pipeline.arms.reevaluated.items() if not math.isnan(s)}
    rows = []
    if inherited:  # what the shared weights say, against trainings of random cells alone, and of the finalists
        for stage, alone in (("label", cheap), ("re-evaluation", checked)):
            both = [arch for arch in alone if arch in inherited]
            rows.append(_tau(SHARED, stage, [inherited[a] for a in both], [alone[a] for a in both]))
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


def _win_matrix(pipeline: Pipeline) -> dict[str, Any] | None:
    """Returns the comparator's win probabilities among the finalists, where the strategy has a ranker."""
    archs = list(pipeline.arms.reevaluated)[:12]
    if "ranker" not in accepted_partners(pipeline.settings.strategy) or len(archs) < 2:
        return None
    strategy: Any = pipeline.strategy  # which keeps its collaborators by their names
    ranker = getattr(strategy, "ranker", None)
    if ranker is None:
        return None
    try:
        probabilities = win_matrix(ranker, archs)
    except StateError:  # all labels were equal: there was no order to learn
        return None
    return {"archs": [str(arch) for arch in archs], "probabilities": probabilities.round(4).tolist()}


def gain(result: Mapping[str, Any]) -> list[str]:
    """Returns the sentences that say what came out."""
    winner = result["networks"]["search"]
    scores = winner["test"][result["metric"]]
    mean = sum(scores) / len(scores)
    lines = [
        f"winner  {winner['text']}",
        f"        test {result['metric'].replace('_', ' ')} {mean:.2%} (mean of {len(scores)} trainings), "
        f"{winner['params']:,} parameters, {winner['macs']:,} multiply-adds",
    ]
    ranked = ranking_sentence(result)
    return lines + [part["sentence"] for part in result["gain"].values()] + ([ranked] if ranked else [])


def ranking_sentence(result: Mapping[str, Any]) -> str:
    """Returns what the scores of shared weights were worth on random cells, empty for runs without shared weights."""
    row = next((r for r in result["agreement"] if (r["first"], r["second"]) == (SHARED, "label")), None)
    if row is None:
        return ""
    if row["tau"] is None:
        return f"How well the shared weights rank is not known: {row['n']} random cells were trained alone, or all scores are equal."
    known = row["low"] is not None and row["high"] is not None
    ends = f", 95 % interval {row['low']:.2f} to {row['high']:.2f}" if known else ""
    said = f"Kendall tau {row['tau']:.2f}{ends}, n = {row['n']} random cells trained alone with the cheap recipe"
    if not known or row["low"] <= 0:
        return f"The shared weights may rank cells at random: {said}. Trust the re-evaluation, not the one-shot scores."
    return f"The shared weights rank cells better than chance: {said}."


