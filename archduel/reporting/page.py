"""The bricks of a report page: sections, charts for two widths, tables, notices. Everything given is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files

__all__ = ["chart", "details", "document", "facts", "notice", "section", "table"]


def section(name: str, title: str, how: str, *parts: str) -> str:
    """Returns a section with a heading and a sentence on how to read it; nothing if all ``parts`` are empty.

    Title and sentence are escaped, ``parts`` are HTML.
    """
    body = "".join(parts)
    if not body:
        return ""
    reading = f'<p class="how">{escape(how)}</p>' if how else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{reading}{body}</section>'


def chart(draw: Callable[[int], str], *, widths: tuple[int, int, int] = (350, 600, 920), legend: str = "") -> str:
    """Returns a chart drawn once for each kind of screen, so that its type is never scaled to nothing."""
    drawn = "".join(f'<div class="{kind}">{draw(width)}</div>' for kind, width in zip(("narrow", "middle", "wide"), widths))
    return f'<figure class="chart">{legend}{drawn}</figure>'


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = (), strong: bool = False) -> str:
    """Returns a table of texts, escaped; ``numeric`` columns are right-aligned, ``strong`` marks the first row."""
    kinds = dict.fromkeys(numeric, ' class="num"')
    head = "".join(f"<th{kinds.get(i, '')}>{escape(text)}</th>" for i, text in enumerate(headers))
    lines = []
    for number, row in enumerate(rows):
        cells = "".join(f"<td{kinds.get(i, '')}>{escape(text)}</td>" for i, text in enumerate(row))
        lines.append(f'<tr{" class=first" if strong and not number else ""}>{cells}</tr>')
    broad = ' class="broad"' if len(headers) > 4 else ""
    return f'<div class="scroll"><table{broad}><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


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
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return f'<div class="scroll"><table class="facts"><tbody>{lines}</tbody></table></div>' if lines else ""


@cache
def _asset(name: str) -> str:
    return files("archduel.reporting").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Returns a content policy: nothing is loaded, and only our own script runs, whatever a file name contains."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def document(title: str, body: str) -> str:
    """Returns a page that needs nothing but itself.

    Args:
        title: of the window, escaped here.
        body: HTML of header and main part; a button with the id ``theme`` switches between light and dark.
    """
    style, script = _asset("report.css"), _asset("report.js")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}"
        "<footer><p>Written by archduel. Accuracies are shares of pictures, MACs are multiply-adds for one picture.</p></footer>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )
