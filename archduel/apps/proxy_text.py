"""What `archduel proxy check` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archduel.reporting.tables import text_table
from archduel.reporting.units import duration

__all__ = ["bounded_text", "check_text"]


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
