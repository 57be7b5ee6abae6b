"""The bricks of a report page: sections, charts for two widths, tables, notices. Whatever is not ``Markup`` is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from archduel.reporting.charts import legend_key

__all__ = ["chart", "details", "document", "facts", "legend", "notice", "part", "section", "table"]

NOTHING = Markup("")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("archduel.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )


def part(name: str, *values: Any) -> Markup:
    """Returns what the macro ``name`` of ``templates/parts.html`` makes of ``values``."""
    macro: Callable[..., Markup] = getattr(_environment().get_template("parts.html").module, name)
    return macro(*values)


def section(name: str, title: str, how: str, *parts: Markup) -> Markup:
    """Returns a section with a heading and a sentence on how to read it; nothing if all ``parts`` are empty."""
    body = NOTHING.join(parts)
    return part("section", name, title, how, body) if body else NOTHING


def chart(
    draw: Callable[[int], str], *, widths: tuple[int, int, int] = (350, 600, 920), legend: Markup = NOTHING
) -> Markup:
    """Returns a chart drawn once for each kind of screen, so that its type is never scaled to nothing.

    Args:
        draw: width in pixels -> SVG, whose texts are escaped already.
        widths: of narrow, middle and wide screens.
        legend: stands above.
    """
    return part("chart", [(kind, Markup(draw(width))) for kind, width in zip(("narrow", "middle", "wide"), widths)], legend)


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


def _policy(script: str) -> str:
    """Returns a content policy: nothing is loaded, and only our own script runs, whatever a file name contains."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def document(template: str, *, title: str, sections: Sequence[Markup], **values: Any) -> str:
    """Returns a page that needs nothing but itself.

    Args:
        template: file in ``templates/`` that extends ``page.html`` by a header; a button with the id ``theme`` in it switches
            between light and dark.
        title: of the window.
        sections: of the main part.
        values: what the header shows.
    """
    style, script = _asset("report.css"), _asset("report.js")
    return _environment().get_template(template).render(
        title=title, sections=sections, style=Markup(style), script=Markup(script), policy=Markup(_policy(script)), **values
    ) + "\n"  # fmt: skip
