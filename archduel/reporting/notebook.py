"""What notebooks show of a run, a study and an architecture: HTML that brings its style at each element and needs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from markupsafe import Markup

from archduel.reporting.page import part
from archduel.reporting.schema import ReportData
from archduel.reporting.text import count, percent

__all__ = ["arch_card", "run_card", "study_card"]

MOST_CLASSES = 20
"""Rows of a table of classes: a cell of a notebook is no page."""
MOST_SENTENCES = 3


def run_card(data: ReportData | Mapping[str, Any], where: str) -> Markup:
    """Returns what a person gets of a run: how good, how large, each class, the cells, what is known of the gain.

    Args:
        data: of the run's report.
        where: its folder.
    """
    known = cast(ReportData, data)
    first = known.get("headline") or known.get("unfinished") or known.get("sentence", "")
    rows = _classes(known)
    more = f"The {MOST_CLASSES} weakest of {len(rows)} classes." if len(rows) > MOST_CLASSES else ""
    drawings = [_drawing(cell.get("svg", ""), cell.get("title", ""), cell.get("text", "")) for cell in list(known.get("cells", ()))[:1]]
    figures = [{"label": "", "value": "", "note": "", **figure} for figure in known.get("key_figures", ())]
    sentences = [sentence for sentence in (first, *list(known.get("known", ()))[:MOST_SENTENCES]) if sentence]
    return part("card", known.get("title", ""), sentences, figures, rows[:MOST_CLASSES], more, drawings, f"in {where}")


def _classes(data: ReportData) -> list[tuple[str, str, str, str]]:
    """Returns name, share that is right, images and the width of a bar for each class, the weakest first."""
    matrix = data.get("confusion", {})
    totals = [(name, line[i], sum(line)) for i, (name, line) in enumerate(zip(matrix.get("classes", ()), matrix.get("counts", ())))]
    shares = sorted((right / total, name, total) for name, right, total in totals if total)
    return [(name, percent(share), count(total), f"{100 * share:.0f}") for share, name, total in shares]


def _drawing(svg: str, title: str, text: str) -> dict[str, Any]:
    return {"svg": Markup(svg) if svg.lstrip().startswith("<svg") else "", "title": title, "text": text}


def arch_card(svg: str, text: str) -> Markup:
    """Returns an architecture: its drawing, and its text below."""
    return part("card", "", [], [], [], "", [_drawing(svg, "", text)], "")


def study_card(title: str, rows: Sequence[Mapping[str, Any]], sentence: str, where: str) -> Markup:
    """Returns a study: what is best, and the answers that were given.

    Args:
        title: of the space.
        rows: of the best evaluation, name -> value.
        sentence: what came out.
        where: its folder.
    """
    figures = [{"label": str(row["name"]), "value": str(row["value"]), "note": ""} for row in rows]
    return part("card", title, [sentence], figures, [], "", [], where)
