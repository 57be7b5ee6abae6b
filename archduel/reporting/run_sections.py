"""The sections about the network, the data and the run: cell, curves, mistakes, classes, failures, cost, command."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape

from archduel.errors import SettingError
from archduel.reporting.charts import Line, line_chart
from archduel.reporting.marks import legend
from archduel.reporting.parts import chart, details, facts, notice, section, table
from archduel.reporting.schema import Confusion, Curve, Mistake, ReportData
from archduel.reporting.tiles import bar_chart, heat_map
from archduel.reporting.units import UNKNOWN, count, duration, number, percent

__all__ = ["cells", "classes", "confusion", "costs", "curves", "failures", "mistakes", "reproduction"]

MOST_ROWS = 40
MOST_FILES = 200


def cells(data: ReportData) -> str:
    """Returns the winner's drawing and its text."""
    drawings = []
    for cell in data.get("cells", ()):
        svg = cell.get("svg", "")
        own = "currentColor" in svg  # such drawings follow the theme; others get paper to stand on
        parts = [f"<h3>{escape(cell['title'])}</h3>" if cell.get("title") else ""]
        parts.append(f'<div class="drawing{"" if own else " paper"}">{svg}</div>' if svg.lstrip().startswith("<svg") else "")
        parts.append(f"<pre>{escape(cell['text'])}</pre>" if cell.get("text") else "")
        drawings.append(f"<div>{''.join(parts)}</div>")
    body = f'<div class="drawings">{"".join(drawings)}</div>' if drawings else ""
    return section("cell", "The network that was found", "", body)


def curves(data: ReportData) -> str:
    """Returns the learning curves, one chart a measure."""
    groups: dict[str, list[Curve]] = {}
    for curve in data.get("curves", ()):
        groups.setdefault(curve.get("measure", "validation accuracy"), []).append(curve)
    charts = [_curve_chart(measure, members) for measure, members in groups.items()]
    body = f'<div class="pair">{"".join(charts)}</div>' if charts else ""
    return section("curves", "Learning curves", "Bands, where there are any, span the training seeds.", body)


def _curve_chart(measure: str, members: Sequence[Curve]) -> str:
    lines = [
        Line(
            curve.get("name", ""), list(curve.get("x", range(1, len(curve["values"]) + 1))), _floats(curve["values"]),
            _floats(curve.get("low", ())), _floats(curve.get("high", ())),
        )
        for curve in members
    ]  # fmt: skip
    share = "accuracy" in measure or "f1" in measure
    lines, rest = _foremost(lines, best=max if share else min)
    drawing = chart(
        lambda width: line_chart(
            lines, x_label=members[0].get("x_label", "epoch"), y_label=measure, x_text=lambda v: f"{v:g}",
            y_text=(lambda v: percent(v, 0)) if share else number, width=width, height=300,
        ),
        widths=(350, 600, 450), legend=legend([line.name for line in lines if not line.faint], lines=True) + rest,
    )  # fmt: skip
    return f"<div>{drawing}</div>"


def _foremost(lines: list[Line], best: Callable[..., float]) -> tuple[list[Line], str]:
    """Returns the lines, of more than six all but the five best at the end made faint, and a note that says so."""
    if len(lines) <= 6:
        return lines, ""
    ends = [next((y for y in reversed(line.y) if math.isfinite(y)), math.nan) for line in lines]
    sign = 1 if best is max else -1
    order = sorted(range(len(lines)), key=lambda i: -sign * ends[i] if math.isfinite(ends[i]) else math.inf)
    front, back = [lines[i] for i in order[:5]], [replace(lines[i], faint=True) for i in order[5:]]
    return [*front, *back], f'<p class="note">The five best at the end; {len(back)} others in grey.</p>'


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def confusion(data: ReportData) -> str:
    """Returns the confusion matrix, tinted by the share of the true class, and the most frequent confusions."""
    matrix = data.get("confusion", {})
    names, counts = list(matrix.get("classes", ())), matrix.get("counts", ())
    if not names:
        return ""
    totals = [max(sum(line), 1) for line in counts]
    shares: list[list[float | None]] = [[c / total for c in line] for line, total in zip(counts, totals)]
    cells_ = [[str(c) if c else "" for c in line] for line in counts]

    def title(i: int, j: int) -> str:
        return f"{names[i]} taken for {names[j]}: {counts[i][j]} of {sum(counts[i])} ({percent(shares[i][j])})"

    drawing = chart(
        lambda width: heat_map(
            names, names, shares, cells_, titles=title, x_label="the network said", y_label="it was", width=min(width, 700)
        )
    )
    n = sum(map(sum, counts))
    how = f"{matrix.get('network', 'The winner')} on {count(n)} {matrix.get('split', 'test')} pictures; tints are shares of the row."
    return section("confusion", "Confusions", how, drawing, _confused(matrix))


def _confused(matrix: Confusion) -> str:
    names, counts = matrix["classes"], matrix["counts"]
    worst = sorted(
        ((c, i, j) for i, line in enumerate(counts) for j, c in enumerate(line) if i != j and c), key=lambda t: -t[0]
    )[:8]
    lines = [(names[i], names[j], count(c), percent(c / sum(counts[i]))) for c, i, j in worst]
    return details("Most frequent confusions", table(("it was", "the network said", "pictures", "share"), lines, numeric=(2, 3))) if lines else ""


def mistakes(data: ReportData) -> str:
    """Returns the pictures that were wrong with the greatest confidence."""
    items = "".join(_mistake(mistake) for mistake in data.get("mistakes", ()))
    body = f'<ul class="mistakes">{items}</ul>' if items else ""
    return section("mistakes", "Worst mistakes", "Test pictures that the winner got wrong with the highest confidence.", body)


def _mistake(mistake: Mistake) -> str:
    image = mistake.get("image", "")
    if image and not image.startswith("data:image/png;base64,"):
        raise SettingError(f"a mistake's image must be a data:image/png;base64 URI, got {image[:40]!r}")
    truth, guess = escape(mistake.get("truth", UNKNOWN)), escape(mistake.get("guess", UNKNOWN))
    picture = f'<img src="{escape(image)}" alt="{truth}, taken for {guess}" loading="lazy">' if image else ""
    sure = percent(mistake.get("probability"), 0).replace(" ", "\u00a0")
    file = mistake.get("file", "")
    name = file.replace("\\", "/").rsplit("/", 1)[-1]
    return f'<li>{picture}<b>{truth}</b>taken for {guess}, {sure}<span title="{escape(file)}">{escape(name)}</span></li>'


def classes(data: ReportData) -> str:
    """Returns the pictures of each class and split, and the files that were skipped."""
    balance, skipped = list(data.get("balance", ())), data.get("skipped", {})
    body = ""
    if balance:
        parts = ("train", "validation", "test")
        rows = [(e.get("name", ""), [e.get("train", 0), e.get("validation", 0), e.get("test", 0)]) for e in balance]
        shown = sorted(rows, key=lambda row: -sum(row[1]))
        if len(shown) > MOST_ROWS:
            shown = shown[: MOST_ROWS // 2] + shown[-MOST_ROWS // 2 :]
            body += f'<p class="note">The {MOST_ROWS // 2} largest and the {MOST_ROWS // 2} smallest of {len(rows)} classes.</p>'
        body += chart(lambda width: bar_chart(shown, parts, text_of=count, width=width), legend=legend(parts))
        lines = [(name, *(count(value) for value in values), count(sum(values))) for name, values in rows]
        body += details("Numbers", table(("class", *parts, "all"), lines, numeric=(1, 2, 3, 4)))
    if skipped:
        rest = f'<p class="note">and {len(skipped) - MOST_FILES:,} more.</p>' if len(skipped) > MOST_FILES else ""
        listed = table(("file", "reason"), list(skipped.items())[:MOST_FILES]) + rest
        body += f"<h3>Skipped files</h3><p>{count(len(skipped))} could not be used.</p>" + details("Show them", listed)
    return section("data", "Data", "", body)


def failures(data: ReportData) -> str:
    """Returns the candidates without a score."""
    lines = [(f.get("arch", UNKNOWN), f.get("stage", UNKNOWN), f.get("reason", UNKNOWN)) for f in data.get("failures", ())]
    body = table(("architecture", "stage", "reason"), lines) if lines else ""
    many = f"{len(lines)} candidates" if len(lines) != 1 else "One candidate"
    return section("failures", "Failed candidates", f"{many} gave no score; the search went on.", body)


def costs(data: ReportData) -> str:
    """Returns the time of each stage."""
    stages = list(data.get("costs", ()))
    if not stages:
        return ""
    rows = [(stage.get("stage", ""), [stage.get("seconds", 0.0)]) for stage in stages]
    total = sum(values[0] for _, values in rows)
    clock, budget = data.get("clock_seconds"), data.get("budget_seconds")
    allowed = f" of the {duration(budget)} allowed ({percent(clock / budget, 0)})" if clock and budget else ""
    said = f"{duration(clock)} by the clock{allowed}; {duration(total)} of work in the stages." if clock else f"{duration(total)} of work in the stages."
    lines = [
        (s.get("stage", ""), duration(s.get("seconds")), count(s.get("evaluations")), count(s.get("images"))) for s in stages
    ]
    numbers = details("Numbers", table(("stage", "time", "evaluations", "training images"), lines, numeric=(1, 2, 3)))
    drawing = chart(lambda width: bar_chart(rows, ("time",), text_of=duration, width=width))
    return section("cost", "Cost", said, drawing, numbers)


def reproduction(data: ReportData) -> str:
    """Returns the exact command, the environment and the resolved settings."""
    command = f"<pre>{escape(data['command'])}</pre>" if data.get("command") else ""
    settings = details("Resolved settings (run.toml)", f"<pre>{escape(data['settings'])}</pre>") if data.get("settings") else ""
    return section("command", "Command and environment", "", command, facts(data.get("environment", {})), settings)


def warnings(data: ReportData) -> str:
    """Returns what a person should know before trusting the numbers."""
    return notice(list(data.get("warnings", ())))
