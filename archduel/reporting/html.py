"""The report: one HTML file that needs no network, in a light and a dark theme, for wide screens and phones."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, cast

from archduel.reporting import run_sections, search_sections
from archduel.reporting.parts import notice
from archduel.reporting.schema import KeyFigure, ReportData

__all__ = ["document", "report_html"]

SECTIONS = (
    ("networks", "Networks", search_sections.finals),
    ("trajectory", "Search", search_sections.trajectory),
    ("agreement", "Agreement", search_sections.agreement),
    ("comparator", "Comparator", search_sections.wins),
    ("size", "Size", search_sections.scatter),
    ("cell", "Cell", run_sections.cells),
    ("curves", "Curves", run_sections.curves),
    ("confusion", "Confusions", run_sections.confusion),
    ("mistakes", "Mistakes", run_sections.mistakes),
    ("data", "Data", run_sections.classes),
    ("failures", "Failures", run_sections.failures),
    ("cost", "Cost", run_sections.costs),
    ("command", "Command", run_sections.reproduction),
)


@cache
def _asset(name: str) -> str:
    return files("archduel.reporting").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Returns a content policy: nothing is loaded, and only our own script runs, whatever a file name contains."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _figure(figure: KeyFigure) -> str:
    note = f"<small>{escape(figure['note'])}</small>" if figure.get("note") else ""
    return f"<div><dt>{escape(figure.get('label', ''))}</dt><dd>{escape(figure.get('value', ''))}{note}</dd></div>"


def _header(data: ReportData, links: str) -> str:
    figures = "".join(map(_figure, data.get("key_figures", ())))
    # the headline is the first sentence; what the interval covers and what else was compared stand below it
    headline, stop, rest = data.get("sentence", "").partition(". ")
    below = " ".join(filter(None, (rest, data.get("sentence_note", ""))))
    unfinished = data.get("unfinished", "")
    subtitle = " · ".join(filter(None, (data.get("subtitle", ""), data.get("created", ""))))
    return (
        f"<header><h1>{escape(data.get('title', 'archduel run'))}</h1>"
        f'<p class="subtitle">{escape(subtitle)}</p><button id="theme" type="button">Dark theme</button>'
        + (notice([unfinished]) if unfinished else "")
        + (f'<p class="sentence">{escape(headline + stop.strip())}</p>' if headline else "")
        + (f'<p class="note">{escape(below)}</p>' if below else "")
        + (f'<dl class="figures">{figures}</dl>' if figures else "")
        + (f'<nav aria-label="Sections">{links}</nav>' if links else "")
        + run_sections.warnings(data)
        + "</header>"
    )


def report_html(data: ReportData | Mapping[str, Any]) -> str:
    """Returns the report of a run as one HTML document.

    Args:
        data: what is known, see :class:`archduel.reporting.schema.ReportData`; every part may be missing.

    Raises:
        SettingError: for a picture that is not a PNG data URI.
    """
    known = cast(ReportData, data)
    built = [(name, label, build(known)) for name, label, build in SECTIONS]
    links = "".join(f'<a href="#{name}">{label}</a>' for name, label, body in built if body)
    body = f"{_header(known, links)}\n<main>\n" + "\n".join(body for _, _, body in built if body) + "\n</main>\n"
    return document(f"{known.get('title', 'run')} – archduel", body)


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
