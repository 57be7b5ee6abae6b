"""The page of a job while it works: what happens now, the race, the candidates, what a report shows already, the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from markupsafe import Markup

from archduel.reporting.charts import Line, drawn, line_chart
from archduel.reporting.page import NOTHING, chart, document, drawn_for, part, section, table
from archduel.reporting.run_report import SECTIONS as OF_REPORTS
from archduel.reporting.run_report import best_so_far, time_unit
from archduel.reporting.schema import LiveData
from archduel.reporting.text import UNKNOWN, compact, count, duration, number, percent

__all__ = ["PARTS", "live_head", "live_html", "live_parts", "live_title"]

WORDS = {"running": "running", "stopped": "nobody works on it: the same command continues it", "finished": "finished"}


def _share(data: LiveData) -> bool:
    """Returns whether scores are shares of 1, such as accuracies."""
    metric = data.get("metric", "")
    return "accuracy" in metric or "f1" in metric


def _score(data: LiveData, value: float | None, digits: int = 1) -> str:
    return percent(value, digits) if _share(data) else number(value, 4)


def race(data: LiveData) -> Markup:
    """Returns the best score so far over the clock, and who leads at each rung of a race."""
    reached = [point for point in data.get("reached", ()) if point.get("score") is not None]
    if not reached:
        return NOTHING
    divisor, unit = time_unit(max(point["clock"] for point in reached))
    dots = [(point["clock"] / divisor, point["score"]) for point in reached]
    line = Line("best so far", [x for x, _ in dots], best_so_far([y for _, y in dots]), dots=dots, step=True)
    metric = data.get("metric", "score")
    drawing = chart(
        lambda width: line_chart(
            [line], x_label=f"clock, {unit}", y_label=metric, x_text=lambda v: f"{v:g}", y_text=lambda v: _score(data, v), width=width,
            height=320 if width > 500 else 270,
        )
    )  # fmt: skip
    rows = [
        (str(rung["rung"]), _score(data, rung["score"]), rung["name"], count(rung["n"]), f"{percent(rung['low'])} to {percent(rung['high'])}",
         duration(rung.get("seconds")))
        for rung in data.get("rungs", ())
    ]  # fmt: skip
    headers = ("rung", metric, "best there", "networks", "95 % interval", "trained")
    how = f"Each mark is a score, the line the best so far. Marks need not be of equal training.{drawn(len(dots))}"
    return section("race", "How it goes", how, drawing, table(headers, rows, numeric=(0, 1, 3, 4, 5)) if rows else NOTHING)


def candidates(data: LiveData) -> Markup:
    """Returns what was tried, best first."""
    rows = [
        (c.get("name", UNKNOWN), _score(data, c.get("score"), 2), c.get("at", ""), c.get("note", ""), c.get("kind", ""), compact(c.get("params")),
         duration(c.get("seconds")))
        for c in data.get("candidates", ())
    ]  # fmt: skip
    if not rows:
        return NOTHING
    headers = ("candidate", data.get("metric", "score"), "where", "", "kind", "parameters", "time")
    rest = data.get("more_candidates", 0)
    how = "Best first" + (f"; {rest:,} more are not listed." if rest else ".")
    return section("candidates", "Candidates", how, table(headers, rows, numeric=(1, 5, 6)))


def log(data: LiveData) -> Markup:
    """Returns the records of the journal in words, newest first."""
    lines = [(duration(line.get("clock")), line.get("event", ""), line.get("text", "")) for line in data.get("log", ())]
    if not lines:
        return NOTHING
    more = data.get("records", 0) - len(lines)
    how = "The journal, newest first" + (f"; {more:,} older records are not listed." if more > 0 else ".")
    return section("log", "Log", how, table(("clock", "event", "what"), lines, numeric=(0,)))


PARTS = (("race", "Race", race), ("candidates", "Candidates", candidates), *OF_REPORTS, ("log", "Log", log))
"""Name, what the navigation calls it, what makes it."""


def live_title(data: LiveData | Mapping[str, Any]) -> str:
    """Returns the title of the window: how far, then what."""
    known = cast(LiveData, data)
    share = _done(known)
    far = percent(share, 0) if share is not None and known.get("state") == "running" else known.get("state", "")
    return f"{far} {known.get('name', 'job')} – archduel"


def _done(data: LiveData) -> float | None:
    """Returns the share of the budget that is spent, None where there is none."""
    allowed = data.get("allowed") or 0.0
    return min(1.0, data.get("done", 0.0) / allowed) if allowed > 0 else None


def _budget(data: LiveData) -> str:
    """Returns what is spent and left, in words."""
    done, allowed, unit = data.get("done", 0.0), data.get("allowed") or 0.0, data.get("unit", "")
    if unit != "seconds":
        return f"{done:,g} of {allowed:,g} {unit}" if allowed else f"{done:,g} {unit}" if unit else ""
    if not allowed:
        return f"{duration(done)} by the clock"
    left = f"{duration(allowed - done)} left" if done <= allowed else f"{duration(done - allowed)} above it"
    return f"{duration(done)} of {duration(allowed)}" + (f", {left}" if data.get("state") != "finished" else "")


def live_head(data: LiveData | Mapping[str, Any], parts: Mapping[str, Markup]) -> Markup:
    """Returns what stands above the sections ``parts``: name, state, what happens, budget and figures."""
    known = cast(LiveData, data)
    state = known.get("state", "stopped")
    word = WORDS[state] + (f" (process {known['process']})" if known.get("process") and state == "running" else "")
    damaged = known.get("damaged", 0)
    warnings = [*([f"{damaged:,} lines of the journal are damaged and left out"] if damaged else []), *known.get("warnings", ())]
    links = [(name, label) for name, label, _ in PARTS if parts.get(name)]
    return part(
        "live_head", known.get("name", "job"), " · ".join(filter(None, (known.get("kind", ""), known.get("title", ""), known.get("subtitle", "")))),
        state, word, known.get("headline") or known.get("now", ""), _done(known), _budget(known),
        [{"label": "", "value": "", "note": "", **figure} for figure in known.get("key_figures", ())], links, warnings,
    )  # fmt: skip


def live_parts(data: LiveData | Mapping[str, Any], screen: str = "") -> dict[str, Markup]:
    """Returns every section by its name, empty ones too, so that a page can put each in its place.

    Args:
        data: what is known.
        screen: the kind of screen (``page.SCREENS``) that charts are drawn for; empty = all kinds.
    """
    known = cast(LiveData, data)
    with drawn_for(screen):
        return {name: build(known) for name, _, build in PARTS}  # type: ignore[arg-type]


def live_html(title: str, head: Markup, parts: Mapping[str, Markup]) -> str:
    """Returns the page that asks the server it is from for what is new."""
    return document("live.html", title=title, sections=[part("live_part", name, body) for name, body in parts.items()], live=True, head=head)
