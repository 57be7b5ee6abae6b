"""Numbers as people read them: percent, counts, durations. Unknown values are an en dash."""

from __future__ import annotations

import math

__all__ = ["brief", "compact", "count", "duration", "number", "percent"]

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


def duration(seconds: float | None) -> str:
    """Returns a time span: ``0.42 s``, ``48 s``, ``3 min 20 s``, ``1 h 12 min``."""
    if seconds is None or not _known(seconds):
        return UNKNOWN
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
