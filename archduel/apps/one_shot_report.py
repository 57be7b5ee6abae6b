"""What a report shows of a one-shot stage: how policy or population changed, its cells over time, and its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["cells_over_time", "one_shot_cost", "one_shot_curves"]

MEASURES = {
    "entropy": "entropy of the policy (nats)",
    "diversity": "diversity of the population",
    "skips": "share of edges led by skip",
    "reward": "reward: accuracy on validation batches",
    "score": "best score with shared weights (accuracy)",
    "loss": "loss with shared weights",
    "gap": "difference of losses in a pair",
}
"""Metric of a step -> axis of its chart."""
POINTS = 200  # of a curve: more cannot be seen
DRAWN = 4
Records = Sequence[Mapping[str, Any]]


def _steps(records: Records) -> list[Mapping[str, Any]]:
    return [record for record in records if record["event"] == "one-shot step"]


def one_shot_cost(records: Records) -> list[dict[str, Any]]:
    """Returns the row of the one-shot stage in the table of costs, none for other runs."""
    steps = _steps(records)
    if not steps:
        return []
    seconds, images = (sum(step[name] for step in steps) for name in ("seconds", "images"))
    return [{"stage": "one-shot", "seconds": seconds, "images": images}]


def one_shot_curves(records: Records) -> list[dict[str, Any]]:
    """Returns a curve for each metric that the steps have, thinned to what can be seen."""
    curves = []
    for name, measure in MEASURES.items():
        known = [(s["number"], s["metrics"][name]) for s in _steps(records) if math.isfinite(s["metrics"].get(name, math.nan))]
        known = known[:: max(1, len(known) // POINTS)]
        if len(known) > 1:
            x, values = zip(*known)
            curves.append({"name": name, "measure": measure, "x_label": "step", "x": list(x), "values": list(values)})
    return curves


def cells_over_time(records: Records) -> list[dict[str, str]]:
    """Returns drawings of the cells that led during the search, evenly spread over its steps, repetitions left out."""
    from archduel.apps.spaces import open_space
    from archduel.core import parse
    from archduel.spaces.drawing import draw

    steps = _steps(records)
    drawn: dict[str, dict[str, str]] = {}
    for part in range(DRAWN if steps else 0):
        step = steps[round(part * (len(steps) - 1) / (DRAWN - 1))]
        arch = parse(step["leader"])
        if step["leader"] not in drawn:
            title = f"Leading after step {step['number']} of {len(steps)}"
            drawn[step["leader"]] = {"title": title, "svg": draw(open_space(arch.space), arch), "text": step["leader"]}
    return list(drawn.values())
