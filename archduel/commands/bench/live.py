"""A comparison while it works: from the trials so far to what a page shows of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from archduel.reporting.run_report import best_so_far

__all__ = ["trials_live"]

Records = Sequence[Mapping[str, Any]]
TITLES = ("title", "ranker", "sampling")
"""Fields that say what a trial is of: a strategy, a ranker, a way to sample."""
QUALITY = "kendall_tau"
POINTS = 200  # of a curve: more cannot be seen


def trials_live(records: Records) -> dict[str, Any]:
    """Returns curves and rows of a comparison's trials, one a contestant.

    Args:
        records: of the comparison's journal.
    """
    trials = [r for r in records if r.get("event") == "trial"]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        groups.setdefault(_title(trial), []).append(trial)
    ranked = any("quality" in trial for trial in trials)
    curves = [curve for title, group in groups.items() for curve in (_by_labels(title, group) if ranked else _by_queries(title, group))]
    rows = [_row(title, group) for title, group in groups.items()]
    return {
        "curves": curves, "candidates": rows, "metric": "mean Kendall tau" if ranked else "mean of the best scores (accuracy)",
        "done": len(trials), "unit": "trials", "now": f"{len(trials)} trials of {len(groups)} contestants.",
    }  # fmt: skip


def _title(trial: Mapping[str, Any]) -> str:
    return str(next((trial[name] for name in TITLES if name in trial), "trial"))


def _finite(values: Any) -> list[float]:
    return [float(v) for v in values if isinstance(v, (int, float)) and math.isfinite(v)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _by_labels(title: str, group: Records) -> list[dict[str, Any]]:
    """Returns the mean quality of a ranker by its number of labels."""
    labels = sorted({trial["labels"] for trial in group})
    means = [_mean(_finite(trial["quality"].get(QUALITY) for trial in group if trial["labels"] == n)) for n in labels]
    return [{"name": title, "measure": "Kendall tau", "x_label": "labels", "x": labels, "values": means}]


def _by_queries(title: str, group: Records) -> list[dict[str, Any]]:
    """Returns the mean over trials of the best score so far, by evaluations."""
    lines = [best_so_far([score if score is None or math.isfinite(score) else None for score in trial.get("scores", ())]) for trial in group]
    length = min(map(len, lines), default=0)
    if not length:
        return []
    places = range(0, length, max(1, length // POINTS))
    means = [_mean(_finite(line[i] for line in lines)) for i in places]
    return [{"name": title, "measure": "best accuracy so far, mean of trials", "x_label": "evaluations", "x": [i + 1 for i in places], "values": means}]


def _row(title: str, group: Records) -> dict[str, Any]:
    if "quality" in group[0]:
        scores = _finite(trial["quality"].get(QUALITY) for trial in group)
        seconds = _finite(trial.get("fit_cpu_seconds") for trial in group)
    else:
        scores = [max(line) for trial in group if (line := _finite(trial.get("scores", ())))]
        seconds = _finite(trial.get("cpu_seconds", trial.get("train_seconds")) for trial in group)
    return {"name": title, "kind": "contestant", "score": _mean(scores), "seconds": _mean(seconds), "at": f"{len(group)} trials"}
