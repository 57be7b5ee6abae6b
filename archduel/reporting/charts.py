"""Charts over two axes, as SVG text: lines and scatter. Pure functions; tooltips by ``<title>``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TypeVar

__all__ = ["SLOTS", "Axis", "Frame", "Line", "Spot", "axes", "axis", "dashes", "drawn", "grid", "legend_key", "limits", "line_chart", "marker", "pareto", "path", "scatter_chart", "shorten", "svg", "text", "thinned"]

# -- Axes of the charts: from values to pixels, and where the ticks go --------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """A straight map from values to pixels.

    Attributes:
        low: value at ``start``.
        high: value at ``end``.
        start: pixel of the low end.
        end: pixel of the high end (below ``start`` for a vertical axis).
        log: whether the axis is logarithmic.
        label: what is measured, with unit.
        text: value -> tick label.
    """

    low: float
    high: float
    start: float
    end: float
    label: str
    text: Callable[[float], str]
    log: bool = False

    def __call__(self, value: float) -> float:
        """Returns the pixel of ``value``."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        at = math.log10(value) if self.log else value
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def ticks(self) -> list[float]:
        """Returns values at round numbers, about one every 75 pixels across, every 45 upwards."""
        room = 75 if self.end > self.start else 45
        wanted = max(2, int(abs(self.end - self.start) / room))
        return _log_ticks(self.low, self.high, wanted) if self.log else _ticks(self.low, self.high, wanted)


@dataclass(frozen=True)
class Frame:
    """The rectangle of a chart in pixels, with its two axes."""

    width: int
    height: int
    x: Axis
    y: Axis


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, wanted: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(found) <= wanted + 1:
            break
    return found if len(found) > 1 else [low, high]


def limits(values: Iterable[float], *, pad: float = 0.05, floor: float | None = None) -> tuple[float, float]:
    """Returns a range around the finite values, widened by ``pad``; (0, 1) if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    margin = (high - low) * pad or abs(high) * pad or 0.5
    low = low - margin if floor is None else max(floor, low - margin)
    return low, high + margin


def axis(
    low: float, high: float, pixels: tuple[float, float], label: str, text: Callable[[float], str], *, log: bool = False
) -> Axis:
    """Returns an axis; a range of no width is widened."""
    if not high > low:
        low, high = (low * 0.9, low * 1.1) if log else (low - 0.5, low + 0.5)
    return Axis(low, high, pixels[0], pixels[1], label, text, log)


# -- The pieces charts are drawn from: SVG text, axes, markers, legends. Colours come from the page's style (c0..c5) ----


SLOTS = 6
"""How many colours there are; a colour is always accompanied by a marker of its own."""


def shorten(label: str, pixels: float) -> str:
    """Returns ``label`` cut in the middle so that it fits into about ``pixels`` (12 px type)."""
    room = max(4, int(pixels / 6.8))
    if len(label) <= room:
        return label
    head = (room - 1) * 2 // 3
    return label[:head] + "…" + label[len(label) - (room - 1 - head) :]


def text(x: float, y: float, label: str, *, anchor: str = "middle", kind: str = "tick", extra: str = "") -> str:
    """Returns a text element, escaped."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}" {extra}>{escape(label)}</text>'


def svg(width: float, height: float, body: Iterable[str], description: str) -> str:
    """Returns a drawing that scales down with its container; ``description`` is read to those who cannot see it."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(description)}">{"".join(body)}</svg>'
    )


def path(points: Sequence[tuple[float, float]], *, step: bool = False) -> str:
    """Returns path data through the points; ``step`` goes right first, then up."""
    if not points:
        return ""
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for x, y in points[1:]:
        parts.append(f"H{x:.1f}V{y:.1f}" if step else f"L{x:.1f} {y:.1f}")
    return "".join(parts)


def marker(x: float, y: float, slot: int, *, size: float = 4, kind: str = "mark", title: str = "") -> str:
    """Returns a marker in colour and shape ``slot`` with a tooltip."""
    shape = slot % 4
    if shape == 0:
        body = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"'
    elif shape == 1:
        body = f'<rect x="{x - size * 0.9:.1f}" y="{y - size * 0.9:.1f}" width="{1.8 * size:.1f}" height="{1.8 * size:.1f}"'
    else:
        corners = ((0, -1.3), (1.2, 0.9), (-1.2, 0.9)) if shape == 2 else ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0))
        listed = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in corners)
        body = f'<polygon points="{listed}"'
    tip = f"<title>{escape(title)}</title>" if title else ""
    return f'{body} class="{kind} c{slot % SLOTS}">{tip}</{body[1 : body.index(" ")]}>'


def dashes(slot: int) -> str:
    """Returns the dash attribute of a line: every second colour is dashed, so that lines differ without colour too."""
    return ' stroke-dasharray="6 4"' if slot % 2 else ""


def grid(frame: Frame) -> list[str]:
    """Returns grid lines with tick labels and axis labels."""
    x, y = frame.x, frame.y
    parts = []
    for value in y.ticks():
        at = y(value)
        parts.append(f'<line x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
        parts.append(text(x.start - 8, at + 4, y.text(value), anchor="end"))
    for value in x.ticks():
        at = x(value)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y.start:.1f}" y2="{y.start + 5:.1f}" class="axis"/>')
        parts.append(text(at, y.start + 19, x.text(value)))
    return parts


def axes(frame: Frame) -> list[str]:
    """Returns the grid, the base line and the names of both axes."""
    x, y = frame.x, frame.y
    return [
        *grid(frame),
        f'<line x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{y.start:.1f}" y2="{y.start:.1f}" class="axis"/>',
        text((x.start + x.end) / 2, frame.height - 4, x.label, kind="label"),
        text(2, 13, y.label, anchor="start", kind="label"),
    ]


def legend_key(slot: int, *, lines: bool = False) -> str:
    """Returns the sign of colour ``slot`` in a legend: its marker, on a piece of its line if ``lines``."""
    line = f'<line x1="0" x2="24" y1="7" y2="7" class="line c{slot % SLOTS}"{dashes(slot)}/>' if lines else ""
    return f'<svg viewBox="0 0 24 14" width="24" height="14" aria-hidden="true">{line}{marker(12, 7, slot)}</svg>'


# -- Charts: as many marks as can be told apart, whatever a journal holds ------------------------------------------------


MOST_MARKS = 2_000
"""Marks of a line or a scatter; with 10^5 of them a page has 30 MB, and nobody sees more on 600 pixels."""
MOST_LINES = 200
T = TypeVar("T")


def thinned(items: Sequence[T], most: int = MOST_MARKS) -> Sequence[T]:
    """Returns at most so many of the items, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[number * (len(items) - 1) // (most - 1)] for number in range(most)]


def drawn(n: int) -> str:
    """Returns a sentence that says how many of ``n`` marks are drawn, empty where all are."""
    return f" Drawn: {MOST_MARKS:,} of {n:,}, evenly spaced." if n > MOST_MARKS else ""


Text = Callable[[float], str]
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 26, 46


@dataclass(frozen=True)
class Line:
    """A line of a chart; nan breaks it.

    Attributes:
        name: for the legend and tooltips.
        x: (N,) values.
        y: (N,) values.
        low: (N,) lower edge of a band, or empty.
        high: (N,) upper edge, or empty.
        dots: single observations behind the line, (x, y).
        step: horizontal between points (a running best).
        faint: one of a crowd: grey and thin, without a marker.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dots: Sequence[tuple[float, float]] = ()
    step: bool = False
    faint: bool = False


@dataclass(frozen=True)
class Spot:
    """A point of a scatter: where, which group (colour slot), and its tooltip; ``large`` ones stand out."""

    x: float
    y: float
    group: int
    title: str
    large: bool = False


def _frame(
    width: int, height: int, xs: tuple[float, float], ys: tuple[float, float], labels: tuple[str, str],
    texts: tuple[Text, Text], log_x: bool = False,
) -> Frame:  # fmt: skip
    return Frame(
        width,
        height,
        axis(*xs, (LEFT, width - RIGHT), labels[0], texts[0], log=log_x),
        axis(*ys, (height - BOTTOM, TOP), labels[1], texts[1]),
    )


def line_chart(
    lines: Sequence[Line], *, x_label: str, y_label: str, x_text: Text, y_text: Text, width: int = 640, height: int = 320
) -> str:
    """Returns lines with optional bands and dots over a common x axis that starts at 0."""
    xs = [x for line in lines for x in line.x if math.isfinite(x)]
    ys = [y for line in lines for y in (*line.y, *line.low, *line.high, *(dot[1] for dot in line.dots))]
    frame = _frame(
        width, height, (0.0, max(xs, default=1.0)), limits(ys, pad=0.06), (x_label, y_label), (x_text, y_text)
    )
    body = axes(frame)
    for slot, line in enumerate(lines):
        body += _band(frame, line, slot)
        body += [
            marker(frame.x(x), frame.y(y), slot, size=2.6, kind="mark faint", title=f"{line.name}: {x_text(x)}, {y_text(y)}")
            for x, y in thinned(line.dots)
            if math.isfinite(y)
        ]
    crowd = [pair for pair in enumerate(lines) if pair[1].faint]
    for slot, line in [*thinned(crowd, MOST_LINES), *(pair for pair in enumerate(lines) if not pair[1].faint)]:  # the crowd below the others
        body += _stroke(frame, line, slot)
    return svg(width, height, body, f"{y_label} over {x_label}: {', '.join(line.name for line in lines)}")


def _band(frame: Frame, line: Line, slot: int) -> list[str]:
    if not (len(line.low) == len(line.high) == len(line.x)) or not line.x:
        return []
    known = thinned([(x, a, b) for x, a, b in zip(line.x, line.low, line.high) if math.isfinite(a) and math.isfinite(b)])
    there = [(frame.x(x), frame.y(b)) for x, _, b in known]
    back = [(frame.x(x), frame.y(a)) for x, a, _ in reversed(known)]
    return [f'<path d="{path([*there, *back])}Z" class="band c{slot % SLOTS}"/>'] if known else []


def _stroke(frame: Frame, line: Line, slot: int) -> list[str]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y):
        if math.isfinite(x) and math.isfinite(y):
            pieces[-1].append((frame.x(x), frame.y(y)))
        elif pieces[-1]:
            pieces.append([])
    tip = f"<title>{escape(line.name)}</title>"
    look = 'class="line crowd c4"' if line.faint else f'class="line c{slot % SLOTS}"{dashes(slot)}'
    body = [f'<path d="{path(_bends(piece, line.step), step=line.step)}" {look}>{tip}</path>' for piece in pieces if len(piece) > 1]
    last = next((piece[-1] for piece in reversed(pieces) if piece), None)
    if last is not None and not line.faint:
        at = len(line.y) - 1 - next(i for i, y in enumerate(reversed(line.y)) if math.isfinite(y))
        title = f"{line.name}: {frame.x.text(line.x[at])}, {frame.y.text(line.y[at])}"
        body.append(marker(*last, slot, size=4.5, title=title))
    return body


def _bends(points: Sequence[tuple[float, float]], step: bool) -> Sequence[tuple[float, float]]:
    """Returns the points that a line needs: of steps those where it rises, and not more than can be seen."""
    if step and len(points) > MOST_MARKS:
        points = [points[0], *(here for before, here in pairwise(points) if here[1] != before[1]), points[-1]]
    return thinned(points)


def pareto(spots: Sequence[Spot]) -> list[Spot]:
    """Returns the spots that no other beats (smaller x, larger y), by rising x."""
    front: list[Spot] = []
    for spot in sorted(spots, key=lambda s: (s.x, -s.y)):
        if not front or spot.y > front[-1].y:
            front.append(spot)
    return front


def scatter_chart(
    spots: Sequence[Spot], *, x_label: str, y_label: str, x_text: Text, y_text: Text, front: Sequence[Spot] = (),
    log_x: bool = False, width: int = 640, height: int = 360,
) -> str:  # fmt: skip
    """Returns points with the Pareto front as a step line; large points are drawn last."""
    xs = limits((s.x for s in spots), floor=0.0)
    if log_x:
        xs = min(s.x for s in spots) * 0.9, max(s.x for s in spots) * 1.1
    frame = _frame(
        width, height, xs, limits((s.y for s in spots), pad=0.08), (x_label, y_label), (x_text, y_text), log_x
    )
    body = axes(frame)
    if len(front) > 1:
        corners = [(frame.x(s.x), frame.y(s.y)) for s in front]
        body.append(f'<path d="{path(corners, step=True)}" class="front"><title>Pareto front</title></path>')
    soft = [spot for spot in spots if not spot.large]
    for spot in [*thinned(soft), *(s for s in front if len(soft) > MOST_MARKS), *(s for s in spots if s.large)]:
        size, kind = (6.5, "mark ringed") if spot.large else (3.6, "mark soft")
        body.append(marker(frame.x(spot.x), frame.y(spot.y), spot.group, size=size, kind=kind, title=spot.title))
    return svg(width, height, body, f"{y_label} against {x_label}, {len(spots)} architectures")
