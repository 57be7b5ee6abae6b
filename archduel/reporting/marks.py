"""The pieces charts are drawn from: SVG text, axes, markers, legends. Colours come from the page's style (c0..c5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from archduel.reporting.axes import Frame

__all__ = ["SLOTS", "axes", "dashes", "grid", "legend", "marker", "path", "shorten", "svg", "text"]

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


def legend(names: Sequence[str], *, lines: bool = False, slots: Sequence[int] | None = None) -> str:
    """Returns an HTML legend that wraps on narrow screens; colours 0, 1, 2 ... unless ``slots`` says others."""
    items = []
    for slot, name in zip(slots if slots is not None else range(len(names)), names):
        stroke = dashes(slot)
        line = f'<line x1="0" x2="24" y1="7" y2="7" class="line c{slot % SLOTS}"{stroke}/>' if lines else ""
        key = f'<svg viewBox="0 0 24 14" width="24" height="14" aria-hidden="true">{line}{marker(12, 7, slot)}</svg>'
        items.append(f"<li>{key}{escape(name)}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>' if len(items) > 1 else ""
