"""Axes of the charts: from values to pixels, and where the ticks go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["Axis", "Frame", "axis", "limits"]


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
