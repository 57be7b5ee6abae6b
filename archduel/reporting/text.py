"""Numbers as people read them, and tables of them as plain text, for terminals, logs and Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from unicodedata import combining, east_asian_width

from archduel.errors import SettingError

if TYPE_CHECKING:  # scipy would make every progress line of a command wait for it
    from archduel.reporting.statistics import Comparison, Interval

__all__ = ["brief", "compact", "comparison_rows", "count", "drawn", "duration", "interval_text", "markdown_table", "number", "percent", "text_table"]

# -- Numbers as people read them: percent, counts, durations. Unknown values are an en dash -----------------------------


UNKNOWN = "–"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def percent(fraction: float | None, digits: int = 1) -> str:
    """Returns a fraction of 1 as ``94.3 %``."""
    return f"{100 * fraction:.{digits}f} %" if fraction is not None and _known(fraction) else UNKNOWN


def number(value: float | None, digits: int = 2) -> str:
    """Returns a plain number with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "−") if value is not None and _known(value) else UNKNOWN


def count(value: float | None) -> str:
    """Returns a whole number with thousands separated: ``15,625``."""
    return f"{round(value):,}" if value is not None and _known(value) else UNKNOWN


def compact(value: float | None) -> str:
    """Returns three figures and a letter: ``1.23 M``, ``66.0 M``, ``812``."""
    if value is None or not _known(value):
        return UNKNOWN
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - int(math.log10(max(abs(scaled), 1))))}f} {letter}"
    return f"{value:g}"


def brief(value: float) -> str:
    """Returns ``compact`` without trailing zeros, for ticks: ``5 k``, ``1.5 M``."""
    figures, _, letter = compact(value).partition(" ")
    figures = figures.rstrip("0").rstrip(".") if "." in figures else figures
    return f"{figures} {letter}".strip()


def drawn(read: int, whole: int | None) -> str:
    """Returns how many images were read, and of how many, None = of as many."""
    return f"{read:,} drawn from {whole:,}" if whole else f"{read:,}"


def duration(seconds: float | None) -> str:
    """Returns a time span: ``0.42 s``, ``48 s``, ``3 min 20 s``, ``1 h 12 min``."""
    if seconds is None or not _known(seconds):
        return UNKNOWN
    seconds = max(0.0, seconds)  # a clock that was set back
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def width(text: str) -> int:
    """Returns how many columns of a terminal ``text`` takes."""
    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def text_table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, numeric: Sequence[int] | None = None) -> str:
    """Returns aligned columns under a rule, without trailing blanks.

    Args:
        headers: one a column.
        rows: values; None is an en dash, everything else as ``str`` gives it.
        numeric: columns set flush right; None = those whose cells all begin with a digit, sign or dash.

    Raises:
        SettingError: if a row has more or fewer cells than there are headers.
    """
    cells = _cells(headers, rows)
    right = set(range(len(headers)) if numeric is None else numeric)
    if numeric is None:
        right = {i for i in right if cells and all(row[i][:1] in "0123456789+-−–." for row in cells)}
    widths = [max(map(width, column)) for column in zip(headers, *cells)]

    def line(parts: Sequence[str]) -> str:
        """Returns a line of the table, its cells padded to their columns."""
        padded = [
            " " * (widths[i] - width(part)) + part if i in right else part + " " * (widths[i] - width(part))
            for i, part in enumerate(parts)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers), "  ".join("─" * w for w in widths), *map(line, cells)])


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a table for Markdown.

    Raises:
        SettingError: if a row has more or fewer cells than there are headers.
    """
    lines = [list(headers), ["---"] * len(headers), *_cells(headers, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cells(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[list[str]]:
    for row in rows:
        if len(row) != len(headers):
            raise SettingError(f"a row has {len(row)} cells, expected {len(headers)}: {row!r}")
    return [[UNKNOWN if cell is None else str(cell) for cell in row] for row in rows]


def interval_text(interval: Interval, *, factor: float = 1.0, digits: int = 2) -> str:
    """Returns ``94.31 [94.20, 94.42]``, every number times ``factor`` (100 for percent); only the value if unknown."""
    ends = f" [{number(factor * interval.low, digits)}, {number(factor * interval.high, digits)}]" if interval.known else ""
    return number(factor * interval.value, digits) + ends


def comparison_rows(comparisons: Sequence[Comparison], *, factor: float = 100.0) -> list[Mapping[str, str]]:
    """Returns one mapping a comparison: who, difference with interval (percentage points by default), adjusted p, n."""
    return [
        {
            "first": c.first, "second": c.second, "difference": interval_text(c.difference, factor=factor),
            "p (Holm)": f"{c.p_holm:.3f}" if c.p_holm >= 0.001 else f"{c.p_holm:.1e}", "n": str(c.difference.n),
        }
        for c in comparisons
    ]  # fmt: skip
