"""The report of a search for cheap recipes: what it recommends, the front, what was pruned and why, all trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from archduel.reporting.charts import Line, Spot, line_chart, scatter_chart
from archduel.reporting.page import (
    NOTHING,
    Row,
    chart,
    document,
    facts,
    interval_chart,
    legend,
    part,
    section,
    table,
)
from archduel.reporting.text import brief, compact, duration, number, percent

__all__ = ["proxy_html"]

KINDS = ("measured", "recommended", "on the front")
SHOWN = 6  # colours there are


def _value(trial: Mapping[str, Any], by: str, end: str = "value") -> float:
    """Returns a number of what was measured; nan if it is unknown."""
    value = trial[by][end]
    return math.nan if value is None else float(value)


def _cost_text(result: Mapping[str, Any]) -> tuple[str, Any]:
    """Returns what the cost axis says and how its values are written."""
    if result["settings"]["cost"] == "seconds":
        return "cost of one architecture, seconds", lambda v: f"{v:.3g}"
    return "cost of one architecture, multiply-adds", brief


def _spots(result: Mapping[str, Any]) -> list[Spot]:
    by, named = result["settings"]["by"], set(result["recommended"].values())
    spots = []
    for trial in result["trials"]:
        value = _value(trial, by)
        if math.isfinite(value):
            group = 1 if trial["name"] in named else 2 if trial["name"] in result["front"] else 0
            title = f"{trial['name']}: {value:.3f}, {duration(trial['seconds'])}"
            spots.append(Spot(trial["cost"], value, group, title, large=group == 1))
    return spots


def _front(result: Mapping[str, Any]) -> Markup:
    spots = _spots(result)
    if not spots:
        return NOTHING
    by_name = {trial["name"]: trial for trial in result["trials"]}
    by = result["settings"]["by"]
    corners = [Spot(by_name[n]["cost"], _value(by_name[n], by), 2, n) for n in result["front"]]
    x_label, x_text = _cost_text(result)

    def draw(width: int) -> str:
        """Returns the drawing, ``width`` pixels wide."""
        return scatter_chart(
            spots, x_label=x_label, y_label=f"{_measure(by)} with the reference", x_text=x_text, y_text=number,
            front=corners, log_x=True, width=width,
        )  # fmt: skip

    how = "Each mark is a recipe under which all architectures were trained. Up and to the left is better; the line is the front."
    return section("front", "Cost against agreement", how, chart(draw, legend=legend(KINDS)))


def _measure(by: str) -> str:
    return "Spearman's rho" if by == "spearman" else "Kendall's tau"


def _recommended(result: Mapping[str, Any]) -> Markup:
    by_name = {trial["name"]: trial for trial in result["trials"]}
    by = result["settings"]["by"]
    rows, drawn = [], []
    for slot, (kind, name) in enumerate(result["recommended"].items()):
        trial = by_name[name]
        value, low, high = (_value(trial, by, end) for end in ("value", "low", "high"))
        rows.append(
            (f"{kind}.json", name, f"{number(value)} [{number(low)}, {number(high)}]", duration(trial["seconds"]),
             percent(trial["share_of_reference"]), f"{trial['images']:,.0f}", compact(trial["macs"]))
        )  # fmt: skip
        drawn.append(Row(kind, value, low, high, note=f"{number(value)} [{number(low)}, {number(high)}]", slot=slot))
    if not rows:
        return NOTHING
    headers = ("file", "recipe", _measure(by), "time each", "of the reference", "images each", "MACs an image")
    how = (
        "trusted is the cheapest recipe on the front within 0.05 of the best agreement; quick is the one on the front, not dearer "
        "than that, that stands highest above the line between the front's ends (cost on a logarithmic axis). Intervals: bootstrap over the "
        "architectures, 95 %. They were chosen among many for their agreement, so fresh architectures will show a little less: "
        "`archduel proxy check` with another --seed says how much."
    )
    figure = chart(lambda width: interval_chart(drawn, x_label=_measure(by), x_text=number, width=width))
    return section("recommended", "Recommended recipes", how, figure, table(headers, rows, numeric=(2, 3, 4, 5, 6)))


def _pruning(result: Mapping[str, Any]) -> Markup:
    rounds: Sequence[Mapping[str, Any]] = result["rounds"]
    if not rounds:
        return NOTHING
    names = list(rounds[0]["importance"])
    ranked = sorted(names, key=lambda name: -max(r["importance"][name] for r in rounds))
    lines = [
        Line(name, [r["measured"] for r in rounds], [r["importance"][name] for r in rounds]) for name in ranked[:SHOWN]
    ]
    rows = [
        (str(i), r["fixed"], r["at"], str(r["measured"]),
         ", ".join(f"{n} {r['importance'][n]:.2f}" for n in sorted(names, key=lambda n: -r["importance"][n])))
        for i, r in enumerate(rounds, 1)
    ]  # fmt: skip
    how = (
        "After each round a random forest learns the agreement from the hyper-parameters; importance is the share of its variance "
        "that one explains alone (functional ANOVA, exact). The least important one is fixed at its cheapest value."
    )
    figure = chart(
        lambda width: line_chart(
            lines, x_label="recipes measured", y_label="importance", x_text=lambda v: f"{v:g}", y_text=number, width=width
        ),
        legend=legend([line.name for line in lines], lines=True),
    )
    return section("pruning", "What matters", how, figure, table(("round", "fixed", "at", "recipes so far", "importance"), rows))


def _readings(result: Mapping[str, Any]) -> Markup:
    by_name = {trial["name"]: trial for trial in result["trials"]}
    by = result["settings"]["by"]
    rows = [
        (f"{kind}.json", *(number(_value(found, by)) for found in by_name[name]["readings"].values()))
        for kind, name in result["recommended"].items()
    ]
    if not rows:
        return NOTHING
    names = list(next(iter(by_name.values()))["readings"])
    how = (
        f"{_measure(by)} of what else can be read from the same trainings: validation score and loss, training loss of the last epoch, "
        f"of the last quarter, of all epochs. The recipes were chosen by {result['settings']['reading']}."
    )
    untrained = ", ".join(f"{number(_value(found, by))} by {kind}" for kind, found in result["sizes"].items())
    below = part("note", f"Without any training: {untrained}. A recipe that ranks no better is not worth its time.")
    return section("readings", "Other readings", how, table(("file", *names), rows, numeric=tuple(range(1, len(names) + 1))), below)


def _trials(result: Mapping[str, Any]) -> Markup:
    rows = [
        (t["name"], number(_value(t, "spearman")), number(_value(t, "kendall")),
         f"[{number(_value(t, 'kendall', 'low'))}, {number(_value(t, 'kendall', 'high'))}]", duration(t["seconds"]),
         f"{t['images']:,.0f}", compact(t["macs"]))
        for t in sorted(result["trials"], key=lambda t: t["cost"])
    ]  # fmt: skip
    headers = ("recipe", "Spearman", "Kendall", "95 %", "time each", "images each", "MACs an image")
    return section("trials", "All recipes", "By rising cost.", table(headers, rows, numeric=(1, 2, 3, 4, 5, 6)))


def _about(result: Mapping[str, Any]) -> Markup:
    settings, recipe = result["settings"], result["reference"]["recipe"]
    named = ("epochs", "batch_size", "lr", "channels", "depth", "image_size", "data_fraction")
    values = {
        "data": f"{result['data']}, {result['images']['train']:,} training and {result['images']['validation']:,} validation images",
        "space": settings["space"],
        "reference": ", ".join(f"{name} {recipe[name]:g}" for name in named),
        "architectures": f"{len(result['archs'])} random ones, trained with the reference in {duration(result['reference']['seconds'])}",
        "time paid": duration(result["seconds"]),
        "sampling": f"{settings['samples']} recipes a round, {settings['sampling']}",
        "ended because": result["ended"],
    }
    return section("about", "What was compared", "", facts({**values, **{k: ", ".join(v) for k, v in result["factors"].items()}}))


def proxy_html(result: Mapping[str, Any]) -> str:
    """Returns the report of ``archduel proxy find`` as one HTML document.

    Args:
        result: the content of ``proxies.json``.
    """
    by = result["settings"]["by"]
    by_name = {trial["name"]: trial for trial in result["trials"]}
    headline = "No recipe kept the order of the reference better than chance."
    if "trusted" in result["recommended"]:
        trial = by_name[result["recommended"]["trusted"]]
        headline = (
            f"{percent(trial['share_of_reference'])} of the reference's cost keeps its order with {_measure(by)} "
            f"{number(_value(trial, by))}."
        )
    return document(
        "proxy_report.html",
        title=f"Cheap recipes for {result['data']} – archduel",
        sections=[build(result) for build in (_recommended, _front, _readings, _pruning, _trials, _about)],
        data=result["data"],
        n_recipes=len(result["trials"]),
        n_architectures=len(result["archs"]),
        space=result["settings"]["space"],
        headline=headline,
    )
