"""The report of a study: the best so far over evaluations, what the best have in common, everything that was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from archduel.reporting.charts import Line, drawn, line_chart
from archduel.reporting.page import NOTHING, chart, document, facts, section, table

__all__ = ["study_html"]

SHOWN = 30
"""Rows of the table of the best."""
MOST_FAILED = 200
MOST_OPTIONS = 50
"""Rows of the table of failures, and answers listed of one decision: a page is read by a person."""
QUARTER = 4
"""The best one in so many are compared with all for what they have in common."""


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _curve(rows: Sequence[Mapping[str, Any]]) -> Markup:
    done = [(row["ordinal"] + 1, row["score"]) for row in rows if not math.isnan(row["score"])]
    if len(done) < 2:
        return NOTHING
    best, line = -math.inf, []
    for _, score in done:
        best = max(best, score)
        line.append(best)
    running = Line("best so far", [x for x, _ in done], line, dots=done, step=True)

    def draw(width: int) -> str:
        """Returns the drawing, ``width`` pixels wide."""
        return line_chart([running], x_label="evaluations", y_label="score", x_text=lambda v: f"{v:g}", y_text=_number, width=width)

    how = f"Each dot is an evaluation, the line the best of those up to there.{drawn(len(done))}"
    return section("curve", "Best so far", how, chart(draw))


def _common(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Returns how often the best quarter took each answer, beside all."""
    done = sorted((row for row in rows if not math.isnan(row["score"])), key=lambda row: -row["score"])
    top = done[: max(1, len(done) // QUARTER)]
    if len(done) < 2 * QUARTER:
        return NOTHING
    lines = []
    for name in dict.fromkeys(key for row in done for key in row["answers"]):
        usual, best = _by_answer(done, name), _by_answer(top, name)
        options = list(usual)
        for option in options[:MOST_OPTIONS]:
            scores = usual[option]
            share, mean = len(best.get(option, ())) / len(top), sum(scores) / len(scores)
            lines.append((name, str(option), f"{len(scores) / len(done):.0%}", f"{share:.0%}", _number(mean), str(len(scores))))
        if len(options) > MOST_OPTIONS:
            lines.append((name, f"and {len(options) - MOST_OPTIONS:,} more", "", "", "", ""))
    how = "How often each answer was taken by all evaluations and by the best quarter, and the mean score with it. Nothing here is a test."
    return section("answers", "Answers", how, table(("decision", "answer", "all", "best quarter", "mean score", "n"), lines, numeric=(2, 3, 4, 5)))


def _by_answer(rows: Sequence[Mapping[str, Any]], name: str) -> dict[Any, list[float]]:
    """Returns the scores of the rows that took each answer to a decision, in one pass over them."""
    scores: dict[Any, list[float]] = {}
    for row in rows:
        if name in row["answers"]:
            scores.setdefault(row["answers"][name], []).append(row["score"])
    return scores


def _best(rows: Sequence[Mapping[str, Any]]) -> Markup:
    done = sorted((row for row in rows if not math.isnan(row["score"])), key=lambda row: -row["score"])[:SHOWN]
    if not done:
        return NOTHING
    measures = list(dict.fromkeys(key for row in done for key, value in row["measures"].items() if isinstance(value, (int, float))))
    listed = [
        (str(row["ordinal"]), _number(row["score"]), *(_number(row["measures"].get(m, "")) for m in measures), f"{row['seconds']:.2f}",
         ", ".join(f"{name}={value}" for name, value in row["answers"].items()))
        for row in done
    ]  # fmt: skip
    headers = ("number", "score", *measures, "seconds", "answers")
    return section("best", "The best", "Best first.", table(headers, listed, numeric=tuple(range(len(headers) - 1)), strong=True))


def _failed(rows: Sequence[Mapping[str, Any]]) -> Markup:
    listed = [(str(row["ordinal"]), row.get("reason", ""), row["arch"]) for row in rows if math.isnan(row["score"])]
    more = f" The first {MOST_FAILED} of {len(listed):,}." if len(listed) > MOST_FAILED else ""
    how = f"Evaluations that ended with an error.{more}"
    return section("failed", "Failed", how, table(("number", "reason", "architecture"), listed[:MOST_FAILED])) if listed else NOTHING


def study_html(space: str, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Returns the report of a study as one HTML document.

    Args:
        space: its name.
        rows: of each evaluation ``ordinal``, ``arch``, ``score`` (nan where it failed), ``seconds``, ``answers``, ``measures`` and perhaps ``reason``.
        settings: how it was asked for.
    """
    done = [row for row in rows if not math.isnan(row["score"])]
    best = max(done, key=lambda row: row["score"]) if done else None
    headline = "No evaluation succeeded." if best is None else (
        f"The best score is {_number(best['score'])}, evaluation {best['ordinal']}: "
        + ", ".join(f"{name}={value}" for name, value in best["answers"].items()) + "."
    )  # fmt: skip
    about = facts({name: str(value) for name, value in settings.items() if value not in ("", {}, False)})
    how = section("about", "How it was asked for", "", about)
    return document(
        "study_report.html", title=f"Study of {space} – archduel", sections=[_curve(rows), _common(rows), _best(rows), _failed(rows), how],
        space=space, n=len(rows), failed=len(rows) - len(done), headline=headline,
    )  # fmt: skip
