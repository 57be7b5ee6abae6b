"""Charts over two axes, as SVG text: lines and scatter. Pure functions; tooltips by ``<title>``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from archduel.reporting.axes import Frame, axis, limits
from archduel.reporting.marks import SLOTS, axes, dashes, marker, path, svg

__all__ = ["Line", "Spot", "line_chart", "pareto", "scatter_chart"]

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
            for x, y in line.dots
            if math.isfinite(y)
        ]
    for slot, line in sorted(enumerate(lines), key=lambda pair: not pair[1].faint):  # the crowd first, below the others
        body += _stroke(frame, line, slot)
    return svg(width, height, body, f"{y_label} over {x_label}: {', '.join(line.name for line in lines)}")


def _band(frame: Frame, line: Line, slot: int) -> list[str]:
    if not (len(line.low) == len(line.high) == len(line.x)) or not line.x:
        return []
    known = [(x, a, b) for x, a, b in zip(line.x, line.low, line.high) if math.isfinite(a) and math.isfinite(b)]
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
    body = [f'<path d="{path(piece, step=line.step)}" {look}>{tip}</path>' for piece in pieces if len(piece) > 1]
    last = next((piece[-1] for piece in reversed(pieces) if piece), None)
    if last is not None and not line.faint:
        at = len(line.y) - 1 - next(i for i, y in enumerate(reversed(line.y)) if math.isfinite(y))
        title = f"{line.name}: {frame.x.text(line.x[at])}, {frame.y.text(line.y[at])}"
        body.append(marker(*last, slot, size=4.5, title=title))
    return body


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
    for spot in sorted(spots, key=lambda s: s.large):
        size, kind = (6.5, "mark ringed") if spot.large else (3.6, "mark soft")
        body.append(marker(frame.x(spot.x), frame.y(spot.y), spot.group, size=size, kind=kind, title=spot.title))
    return svg(width, height, body, f"{y_label} against {x_label}, {len(spots)} architectures")
