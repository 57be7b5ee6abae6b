"""The bricks of a report page: sections, charts for two widths, tables, notices. Everything given is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

__all__ = ["chart", "details", "facts", "notice", "section", "table"]


def section(name: str, title: str, how: str, *parts: str) -> str:
    """Returns a section with a heading and a sentence on how to read it; nothing if all ``parts`` are empty."""
    body = "".join(parts)
    if not body:
        return ""
    reading = f'<p class="how">{how}</p>' if how else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{reading}{body}</section>'


def chart(draw: Callable[[int], str], *, wide: int = 920, narrow: int = 350, legend: str = "") -> str:
    """Returns a chart drawn twice, for wide and for narrow screens, so that its type is never scaled to nothing."""
    return (
        f'<figure class="chart">{legend}<div class="wide">{draw(wide)}</div><div class="narrow">{draw(narrow)}</div></figure>'
    )


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = (), strong: bool = False) -> str:
    """Returns a table of texts, escaped; ``numeric`` columns are right-aligned, ``strong`` marks the first row."""
    kinds = dict.fromkeys(numeric, ' class="num"')
    head = "".join(f"<th{kinds.get(i, '')}>{escape(text)}</th>" for i, text in enumerate(headers))
    lines = []
    for number, row in enumerate(rows):
        cells = "".join(f"<td{kinds.get(i, '')}>{escape(text)}</td>" for i, text in enumerate(row))
        lines.append(f'<tr{" class=first" if strong and not number else ""}>{cells}</tr>')
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def details(summary: str, body: str) -> str:
    """Returns a part that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>" if body else ""


def notice(lines: Sequence[str]) -> str:
    """Returns a highlighted list, escaped."""
    if not lines:
        return ""
    if len(lines) == 1:
        return f'<div class="notice" role="note">{escape(lines[0])}</div>'
    return f'<div class="notice" role="note"><ul>{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul></div>'


def facts(values: Mapping[str, str]) -> str:
    """Returns a two-column table of names and values."""
    return table(("", ""), [(name, str(value)) for name, value in values.items()]) if values else ""
