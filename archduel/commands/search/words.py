"""Sentences about a search, pure functions of what it wrote: a page that follows a search needs neither its networks nor PyTorch for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archduel.data.findings import OTHER_METRIC
from archduel.reporting.text import drawn

__all__ = ["SHARED", "all_tests", "compared_rung", "guessing_sentence", "images_read", "latency_words", "look_words", "ranking_sentence", "start_sentences", "warnings_of"]

SHARED = "shared weights"


def latency_words(network: Mapping[str, Any]) -> str:
    """Returns the latency of a network for the end of a sentence, empty where it is not known."""
    here = f", {network['latency_ms']:.2g} ms an image" if "latency_ms" in network else ""
    if "latency_limit_ms" in network:
        here += f" (within {network['latency_limit_ms']:g} ms when it entered, slower when measured again)"
    there = network.get("device_latency")
    if there is None:
        return here
    return f"{here} here, about {there['ms']:.3g} ms on {there['device']} ({there['low']:.3g} to {there['high']:.3g})"


def images_read(data: Mapping[str, Any]) -> str:
    """Returns how many test images a run read, and of how many where it had no time for all: ``2,000 drawn from 10,000``."""
    return drawn(data["splits"]["test"], all_tests(data))


def all_tests(data: Mapping[str, Any]) -> int | None:
    """Returns how many test images there are, None where a run read them all."""
    return data["facts"].get("test_of") if "facts" in data else None


def look_words(rule: str) -> str:
    """Returns how images became square, for a list of their properties."""
    return {"none": "as they are", "crop": "cropped", "letterbox": "with borders"}.get(rule, rule)


def warnings_of(warnings: Sequence[str], metric: str) -> list[str]:
    """Returns what was found in images, without the advice to take another metric than accuracy where that was done."""
    return [warning if metric == "accuracy" else warning.removesuffix(OTHER_METRIC) for warning in warnings]


def guessing_sentence(result: Mapping[str, Any]) -> str:
    """Returns that a network does no better than who always says the most frequent class, as far as the test images tell; empty where it does.

    Runs for another metric than accuracy weigh classes otherwise, and are not asked.
    """
    from archduel.reporting.statistics import share_interval  # SciPy

    confusion = result["networks"]["search"]["confusion"]
    totals = [sum(line) for line in confusion]
    n, most = sum(totals), max(totals)
    if result["metric"] != "accuracy" or share_interval(sum(line[i] for i, line in enumerate(confusion)), n).low > most / n:
        return ""
    name = result["data"]["classes"][totals.index(most)]
    return (
        f"who always says {name!r} is right on {100 * most / n:.1f} % of these test images, and this network is not known to do better; "
        "it needs more time, more images or looser limits"
    )


def start_sentences(result: Mapping[str, Any]) -> list[str]:
    """Returns what a finished race says of its two starts, from ``result.json``; none for runs that had no choice."""
    start = result.get("start") or {}
    if not start.get("sentence"):
        return []
    sentence = str(start["sentence"])
    told = [f"{sentence[0].upper()}{sentence[1:]}."]
    probes = start["probes"]
    if probes:
        best = max(probes, key=lambda probe: probe["score"])
        told.append(
            f"Without any training, a linear probe of {best['backbone']} at {best['resolution']} px, cut after block {best['blocks']}, was right "
            f"on {100 * best['accuracy']:.1f} % of the validation images; {len(probes)} cuts within the limits were looked at."
        )
    curves: dict[bool, list[list[dict[str, float]]]] = {True: [], False: []} if start.get("known") else {}
    for candidate in result["race"]["candidates"] if curves else ():
        curves[candidate["arch"].partition(":")[0] in start["known"]].append(candidate["curve"])
    rung = min((max((len(curve) for curve in part), default=0) for part in curves.values()), default=0) - 1
    if rung >= 0:
        known, scratch = (max((curve[rung] for curve in curves[side] if len(curve) > rung), key=lambda p: p["score"]) for side in (True, False))
        if (metric := result.get("metric", "accuracy")) == "accuracy":
            said = "was right on {:.1f} % of the validation images, the best from scratch on {:.1f} %"
        else:  # that is what the curves are of
            said = f"came to a {metric.replace('_', ' ')} of {{:.1f}} % on the validation images, the best from scratch to {{:.1f}} %"
        told.append(f"At equal training the best pretrained network {said.format(100 * known['accuracy'], 100 * scratch['accuracy'])}.")
    lesson = result["race"].get("lesson")
    if lesson:
        told.append(
            f"The network that is handed over learned from what {lesson['name']} says of the training images, which is above the limits "
            f"and was trained for {lesson['seconds']:.0f} s."
        )
    return told


def compared_rung(standings: Sequence[Mapping[str, Any]]) -> int | None:
    """Returns the rung of a race at which most kinds of networks can be compared, the highest of these; None if nowhere two stood."""
    there: dict[int, set[int]] = {}
    kinds: dict[int, set[str]] = {}
    for row in standings:
        there.setdefault(row["rung"], set()).add(row["number"])
        kinds.setdefault(row["rung"], set()).add("search" if row["role"] == "start" else row["role"])
    return max((rung for rung, numbers in there.items() if len(numbers) > 1), key=lambda rung: (len(kinds[rung]), rung), default=None)


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
