"""The bricks of a report page: sections, charts for two widths, tables, notices. Whatever is not ``Markup`` is escaped."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from archduel.reporting.charts import Frame, axis, legend_key, limits, marker, shorten, svg, text
from archduel.reporting.text import number

__all__ = ["SCREENS", "Row", "bar_chart", "chart", "details", "document", "drawn_for", "facts", "heat_map", "interval_chart", "legend", "most_confused", "notice", "part", "prose", "section", "share_span", "table"]

# -- Charts of rows and squares, as SVG text: intervals, bars, heat maps. Pure functions; tooltips by ``<title>`` -------


Text = Callable[[float], str]
RIGHT, BOTTOM = 22, 46


@dataclass(frozen=True)
class Row:
    """A row of an interval chart: estimate, interval (may be infinite) and single observations."""

    label: str
    value: float
    low: float = -math.inf
    high: float = math.inf
    dots: Sequence[float] = field(default_factory=tuple)
    note: str = ""
    slot: int = 0


def interval_chart(
    rows: Sequence[Row], *, x_label: str, x_text: Text, span: tuple[float, float] | None = None, zero: bool = False,
    width: int = 640,
) -> str:  # fmt: skip
    """Returns one row an estimate: label, dots of single observations, the interval and its value in figures.

    Args:
        rows: from top to bottom.
        x_label: what is measured.
        x_text: value -> text.
        span: range of the axis; None = what the rows need.
        zero: draw a line at 0.
        width: pixels.
    """
    narrow = width < 500
    widest = min(max((len(row.label) for row in rows), default=0) * 6.8 + 22, 260.0)
    each, top, left = (58, 8, 18.0) if narrow else (42, 8, widest)
    height = top + each * len(rows) + BOTTOM
    ends = _ends(rows)
    right = RIGHT if narrow else max((len(row.note) for row in rows), default=0) * 6.6 + 20
    frame = Frame(
        width,
        height,
        axis(*(span or limits(ends, pad=0.12)), (left, width - right), x_label, x_text),
        axis(0.0, 1.0, (height - BOTTOM, top), "", number),
    )
    body = [
        f'<line x1="{frame.x(t):.1f}" x2="{frame.x(t):.1f}" y1="{top}" y2="{height - BOTTOM + 5}" class="grid"/>'
        + text(frame.x(t), height - BOTTOM + 19, x_text(t))
        for t in frame.x.ticks()
    ]
    body.append(text((left + width - right) / 2, height - 4, x_label, kind="label"))
    if zero and frame.x.low <= 0 <= frame.x.high:
        body.append(f'<line x1="{frame.x(0):.1f}" x2="{frame.x(0):.1f}" y1="{top}" y2="{height - BOTTOM}" class="axis"/>')
    for i, row in enumerate(rows):
        body += _interval_row(frame, row, top + each * i, each, narrow)
    return svg(width, height, body, f"{x_label}: " + "; ".join(f"{r.label} {r.note}" for r in rows))


def _ends(rows: Sequence[Row]) -> list[float]:
    return [v for row in rows for v in (row.value, row.low, row.high, *row.dots) if math.isfinite(v)]


def share_span(rows: Sequence[Row]) -> tuple[float, float]:
    """Returns the range of an axis of shares: what the rows need, and nothing beyond 100 %."""
    low, high = limits(_ends(rows), pad=0.12)
    return low, min(high, 1.0)


def _interval_row(frame: Frame, row: Row, top: float, each: float, narrow: bool) -> list[str]:
    y = top + (each * 0.68 if narrow else each / 2)
    x, title = frame.x, f"{row.label}: {row.note}"
    if narrow:
        body = [
            text(x.start, top + 18, shorten(row.label, 190), anchor="start", kind="label"),
            text(x.end, top + 18, row.note, anchor="end", kind="tick"),
        ]
    else:
        body = [
            text(x.start - 14, y + 4, shorten(row.label, 240), anchor="end", kind="label"),
            text(x.end + 12, y + 4, row.note, anchor="start", kind="tick"),
        ]
    if math.isfinite(row.low) and math.isfinite(row.high):
        a, b = (min(max(x(end), x.start), x.end) for end in (row.low, row.high))
        body.append(f'<path d="M{a:.1f} {y - 5:.1f}v10M{a:.1f} {y:.1f}H{b:.1f}M{b:.1f} {y - 5:.1f}v10" class="line c{row.slot}"/>')
    body += [marker(x(dot), y, row.slot, size=3, kind="mark faint", title=f"{row.label}: {x.text(dot)}") for dot in row.dots]
    if math.isfinite(row.value):
        body.append(marker(x(row.value), y, row.slot, size=5.5, kind="mark ringed", title=title))
    return body


def bar_chart(
    rows: Sequence[tuple[str, Sequence[float]]], parts: Sequence[str], *, text_of: Text, width: int = 640
) -> str:
    """Returns horizontal stacked bars, one row a label, one colour a part, the sum in figures."""
    each = 24
    left = min(max((len(label) for label, _ in rows), default=0) * 6.8 + 16, width * 0.34)
    right = max((len(text_of(sum(values))) for _, values in rows), default=0) * 6.8 + 14
    most = max((sum(values) for _, values in rows), default=1) or 1
    body = []
    for i, (label, values) in enumerate(rows):
        y, x = each * i + 4, left
        body.append(text(left - 10, y + 13, shorten(label, left - 14), anchor="end", kind="label"))
        for slot, value in enumerate(values):
            long = (width - left - right) * value / most
            tip = f"<title>{escape(label)}, {escape(parts[slot])}: {escape(text_of(value))}</title>"
            body.append(f'<rect x="{x:.1f}" y="{y}" width="{max(long - 1, 0):.1f}" height="17" class="bar c{slot}">{tip}</rect>')
            x += long
        body.append(text(x + 7, y + 13, text_of(sum(values)), anchor="start", kind="tick"))
    return svg(width, each * len(rows) + 6, body, f"{', '.join(parts)}: {len(rows)} rows")


def most_confused(counts: Sequence[Sequence[int]], most: int) -> list[int]:
    """Returns the numbers of the classes with the most confusions, those taken for others or others for them, in order; all where there are few."""
    if len(counts) <= most:
        return list(range(len(counts)))
    wrong = [sum(line) + sum(column) - 2 * line[i] for i, (line, column) in enumerate(zip(counts, zip(*counts)))]
    return sorted(sorted(range(len(counts)), key=lambda i: -wrong[i])[:most])


def heat_map(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]],
    cells: Sequence[Sequence[str]], *, titles: Callable[[int, int], str], x_label: str, y_label: str, width: int = 640,
) -> str:  # fmt: skip
    """Returns a matrix of tinted squares.

    Args:
        rows: names from top to bottom.
        columns: names from left to right.
        values: 0..1 tint of each square; None = empty.
        cells: text in each square, left out where squares are small.
        titles: row, column -> tooltip.
        x_label: what the columns are.
        y_label: what the rows are.
        width: pixels.
    """
    named, turned, left, top, side = _layout(rows, columns, width)
    body = [text(left, 13, f"{x_label} →", anchor="start", kind="label")]
    if side < 11:
        ends = f'width="{side * len(columns):.1f}" height="{side * len(rows):.1f}"'
        body.append(f'<rect x="{left:.1f}" y="{top:.1f}" {ends} class="tile" style="--t:0%"/>')
    body.append(text(left - 8, top - 8, f"{y_label} ↓", anchor="end", kind="label"))
    for j, name in enumerate(columns if named else ()):
        x = left + side * (j + 0.5)
        turn = f'transform="rotate(-45 {x:.1f} {top - 6:.1f})"' if turned else ""
        body.append(text(x + (2 if turn else 0), top - 8, shorten(name, 130), anchor="start" if turn else "middle", extra=turn))
    for i, name in enumerate(rows):
        y = top + side * i
        if named:
            body.append(text(left - 8, y + side / 2 + 4, shorten(name, left - 10), anchor="end"))
        for j, value in enumerate(values[i]):
            if not value and side < 11:  # large matrices are mostly empty: one background serves all
                continue
            body.append(_square(left + side * j, y, side, value, cells[i][j], titles(i, j)))
    wide = left + side * len(columns) + (70 if turned else 6)
    return svg(max(wide, 200), top + side * len(rows) + 6, body, f"{y_label} by {x_label}, {len(rows)} by {len(columns)}")


def _layout(rows: Sequence[str], columns: Sequence[str], width: int) -> tuple[bool, bool, float, float, float]:
    """Returns whether squares are large enough for names, whether column names are turned, left and top margin, side."""
    left = min(max(7.0 * max((len(name) for name in rows), default=1) + 16, 96.0), width * 0.3)
    longest = max((len(name) for name in columns), default=1)
    side = min((width - left - 8) / max(len(columns), 1), 56.0)
    turned = 7.0 * longest > side
    if turned:  # names at 45 degrees stand out on the right
        side = min((width - left - 70) / max(len(columns), 1), 56.0)
    named = side >= 11
    turned = turned and named
    top = (min(longest * 5.0, 95.0) if turned else 14.0 if named else 0.0) + 28
    return named, turned, left if named else 96.0, top, side


def _square(x: float, y: float, side: float, value: float | None, label: str, title: str) -> str:
    tint = 0.0 if value is None else min(max(value, 0.0), 1.0)
    gap = 1 if side > 8 else 0
    square = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{side - gap:.1f}" height="{side - gap:.1f}" class="tile" '
        f'style="--t:{100 * tint:.0f}%"><title>{escape(title)}</title></rect>'
    )
    if side < 6.5 * len(label) + 3 or side < 14 or not label:
        return square
    kind = "tick on" if tint > 0.78 else "tick mid" if tint > 0.57 else "tick off"
    return square + text(x + side / 2 - 0.5, y + side / 2 + 4, label, kind=kind)


NOTHING = Markup("")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("archduel.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["prose"] = prose
    return environment


def prose(words: Any) -> Markup:
    """Returns a sentence for a page: `commands` in type of their own, and no line that begins with a percent sign."""
    escaped = str(words) if isinstance(words, Markup) else escape(str(words))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", re.sub(r"(?<=\d) %", "\u00a0%", escaped)))  # escaped one line above


def part(name: str, *values: Any) -> Markup:
    """Returns what the macro ``name`` of ``templates/parts.html`` makes of ``values``."""
    macro: Callable[..., Markup] = getattr(_environment().get_template("parts.html").module, name)
    return macro(*values)


def section(name: str, title: str, how: str, *parts: Markup) -> Markup:
    """Returns a section with a heading and a sentence on how to read it; nothing if all ``parts`` are empty."""
    body = NOTHING.join(parts)
    return part("section", name, title, how, body) if body else NOTHING


SCREENS = ("narrow", "middle", "wide")
"""Kinds of screens; the style sheet shows the drawing for the one that looks at it."""
_only: ContextVar[str] = ContextVar("only", default="")


@contextmanager
def drawn_for(screen: str) -> Iterator[None]:
    """Lets charts be drawn for one kind of screen alone within the context, for all where ``screen`` is empty."""
    before = _only.set(screen)
    try:
        yield
    finally:
        _only.reset(before)


def chart(
    draw: Callable[[int], str], *, widths: tuple[int, int, int] = (350, 600, 920), legend: Markup = NOTHING
) -> Markup:
    """Returns a chart drawn once for each kind of screen, so that its type is never scaled to nothing.

    Args:
        draw: width in pixels -> SVG, whose texts are escaped already.
        widths: of narrow, middle and wide screens.
        legend: stands above.
    """
    return part("chart", [(kind, Markup(draw(width))) for kind, width in zip(SCREENS, widths) if _only.get() in ("", kind)], legend)


def legend(names: Sequence[str], *, lines: bool = False, slots: Sequence[int] | None = None) -> Markup:
    """Returns a legend that wraps on narrow screens; colours 0, 1, 2 ... unless ``slots`` says others. One name needs none."""
    used = slots if slots is not None else range(len(names))
    items = [(Markup(legend_key(slot, lines=lines)), name) for slot, name in zip(used, names)]
    return part("legend", items) if len(items) > 1 else NOTHING


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = (), strong: bool = False
) -> Markup:
    """Returns a table of texts; ``numeric`` columns are right-aligned, ``strong`` marks the first row."""
    return part("table", headers, rows, numeric, strong)


def details(summary: str, body: Markup) -> Markup:
    """Returns a part that opens on a click; nothing without a body."""
    return part("details", summary, body) if body else NOTHING


def notice(lines: Sequence[str]) -> Markup:
    """Returns a highlighted list; nothing without lines."""
    return part("notice", lines) if lines else NOTHING


def facts(values: Mapping[str, str]) -> Markup:
    """Returns a two-column table of names and values; nothing without values."""
    return part("facts", values) if values else NOTHING


@cache
def _asset(name: str) -> str:
    return files("archduel.reporting").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str, live: bool) -> str:
    """Returns a content policy: nothing is loaded, and only our own script runs, whatever a file name contains."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    asks = "connect-src 'self'; " if live else ""
    return f"default-src 'none'; {asks}style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def document(template: str, *, title: str, sections: Sequence[Markup], live: bool = False, **values: Any) -> str:
    """Returns a page that needs nothing but itself.

    Args:
        template: file in ``templates/`` that extends ``page.html`` by a header; a button with the id ``theme`` in it switches
            between light and dark.
        title: of the window.
        sections: of the main part.
        live: whether it asks the server that it is from for what is new.
        values: what the header shows.
    """
    style, script = _asset("report.css"), _asset("report.js") + (_asset("live.js") if live else "")
    return _environment().get_template(template).render(
        title=title, sections=sections, style=Markup(style), script=Markup(script), policy=Markup(_policy(script, live)), **values
    ) + "\n"  # fmt: skip
