"""The section of a report about a front: its members between accuracy and cost, the knee, what each can do, how the front grew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from archduel.reporting.charts import Line, Spot, line_chart, pareto, scatter_chart
from archduel.reporting.page import NOTHING, chart, details, legend, part, section, table
from archduel.reporting.schema import ReportData
from archduel.reporting.text import brief, count, duration, number, percent

__all__ = ["UNITS", "front"]

UNITS = {"params": "parameters", "macs": "multiply-adds", "latency_ms": "latency (ms)", "ram": "RAM (bytes)", "flash": "flash (bytes)"}
"""Objective -> what people call it, with its unit."""
KINDS = ("the knee", "a member of the front", "beaten by another member after the last training")


def front(data: ReportData) -> Markup:
    """Returns the front of a run with several objectives: a drawing a cost, a table of members, hypervolume over time; nothing for others."""
    found = data.get("front")
    if not found or not found.get("members"):
        return NOTHING
    members, metric = found["members"], found.get("metric", "validation accuracy")
    costs = list(members[0]["costs"])
    drawings = [_drawing(members, cost, metric) for cost in costs]
    headers = ["member", "architecture", metric, "test accuracy", "95 % interval of validation", *(UNITS.get(cost, cost) for cost in costs)]
    lines = [_line(member, costs) for member in members]
    wide = table(headers, lines, numeric=(0, 2, 3, *range(5, 5 + len(costs))))
    by = ", by the likelihood of the right classes, which need not follow accuracy" if found.get("rank_by") == "likelihood" else ""
    how = (
        f"Each member was trained to the end and validated on images that it was not trained on; their choice and the knee follow from that{by}. "
        f"Test images were read once for each, afterwards. n = {len(members)}; the dotted line joins what nothing beats in both. "
        + _others(members)
    )
    return section("front", "The front: what can be had for what", how, *drawings, wide, _growth(found.get("hypervolume", ())))


def _others(members: list[Mapping[str, Any]]) -> str:
    """Returns how another member than the knee is had, where there is one."""
    other = next((member["member"] for member in members if not member["knee"]), None)
    return "There is no other member." if other is None else f"`archduel export RUN --member {other}` hands another one over; the knee is the default."


def _drawing(members: list[Mapping[str, Any]], cost: str, metric: str) -> Markup:
    """Returns accuracy over one cost; the knee is drawn large."""
    spots = [_spot(member, cost) for member in members]
    sizes = [spot.x for spot in spots]
    line = pareto(spots)
    return chart(
        lambda width: scatter_chart(
            spots, x_label=UNITS.get(cost, cost), y_label=metric, x_text=brief, y_text=lambda v: percent(v, 1), front=line,
            log_x=max(sizes) > 8 * min(sizes), width=width, height=340 if width > 500 else 280,
        ),
        legend=legend(list(KINDS), slots=list(range(len(KINDS)))),
    )  # fmt: skip


def _spot(member: Mapping[str, Any], cost: str) -> Spot:
    group = 0 if member["knee"] else 1 if member["non_dominated"] else 2
    accuracy = float(member["validation"]["accuracy"])
    title = f"member {member['member']}: {member['name']}\n{percent(accuracy, 2)}, {brief(member['costs'][cost])} {UNITS.get(cost, cost)}"
    return Spot(float(member["costs"][cost]), accuracy, group, title, bool(member["knee"]))


def _line(member: Mapping[str, Any], costs: list[str]) -> tuple[str, ...]:
    said = " (knee)" if member["knee"] else "" if member["non_dominated"] else " (beaten)"
    validation, test = member["validation"], member["test"]["accuracy"][0]
    interval = f"{percent(validation['low'])} to {percent(validation['high'])}"
    values = [number(member["costs"][cost]) if cost == "latency_ms" else count(round(member["costs"][cost])) for cost in costs]
    return (str(member["member"]), member["name"] + said, percent(validation["accuracy"], 2), percent(test, 2), interval, *values)


def _growth(points: Any) -> Markup:
    """Returns the hypervolume over the time of the run."""
    if len(points) < 2:
        return NOTHING
    x, y = [float(p[0]) for p in points], [float(p[1]) for p in points]
    line = Line("hypervolume", x, y, step=True)
    drawing = chart(
        lambda width: line_chart([line], x_label="time", y_label="hypervolume", x_text=duration, y_text=lambda v: f"{v:.2g}", width=width)
    )
    note = part(
        "note", "Hypervolume of all networks as they stood: 1 - score and logarithms of costs in ranges of the best that was reached, up to 1.1."
    )
    lines = [(duration(a), f"{b:.4f}") for a, b in zip(x, y)]
    return Markup("").join([drawing, note, details("Numbers", table(("time", "hypervolume"), lines, numeric=(0, 1)))])
