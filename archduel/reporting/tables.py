"""Tables as plain text, for terminals, logs and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from unicodedata import combining, east_asian_width

from archduel.errors import SettingError
from archduel.reporting.statistics import Comparison, Interval
from archduel.reporting.units import UNKNOWN, number

__all__ = ["comparison_rows", "interval_text", "markdown_table", "text_table"]


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
