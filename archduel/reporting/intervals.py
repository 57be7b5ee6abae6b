"""Numbers with their uncertainty: means, paired differences and rank agreement, each with an interval.

Everything is deterministic (closed forms, no resampling), so that a report is a function of its run alone.
An interval that cannot be known (one value) is infinite: it spans everything and says nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from archduel.errors import SettingError

__all__ = ["Interval", "kendall_tau", "mean_interval", "paired_difference"]


class Interval(NamedTuple):
    """An estimate and where the truth may lie.

    Attributes:
        value: the estimate; nan if there is none.
        low: lower end, ``-inf`` if unknown.
        high: upper end, ``inf`` if unknown.
        n: how many observations it rests on.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def half_width(self) -> float:
        """Half the distance between the ends."""
        return (self.high - self.low) / 2

    def spans(self, value: float = 0.0) -> bool:
        """Whether ``value`` cannot be ruled out (ends included; true for an unknown interval)."""
        return not (self.low > value or self.high < value)

    def record(self) -> dict[str, float | int | None]:
        """Returns the JSON form; what is unknown is None."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {**{name: end if math.isfinite(end) else None for name, end in ends.items()}, "n": self.n}


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Returns the mean of ``values`` with Student's t interval; independent observations are assumed.

    Raises:
        SettingError: without values.
    """
    data = np.asarray(values, dtype=np.float64).ravel()
    if not len(data):
        raise SettingError("a mean needs at least one value, got none")
    mean = float(data.mean())
    if len(data) == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    half = float(stats.t.ppf((1 + level) / 2, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data)))
    return Interval(mean, mean - half, mean + half, len(data))


def paired_difference(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> Interval:
    """Returns the mean of ``first - second``, pair by pair, with its t interval.

    Raises:
        SettingError: if the two do not have the same length.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise SettingError(f"pairs need two lists of one length, got {a.shape} and {b.shape}")
    return mean_interval(a - b, level=level)


def kendall_tau(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> Interval:
    """Returns Kendall's tau-b of two lists of scores with an approximate interval.

    The interval is symmetric in ``atanh(tau)`` with variance ``0.437 / (n - 4)``. It needs no random numbers; with
    few points or many ties it is rough. Pairs with a nan are left out. Unknown below five pairs, and where one list is
    constant (then the value is nan).

    Raises:
        SettingError: if the two do not have the same length.

    Source: Fieller, Hartley and Pearson, Tests for rank correlation coefficients I, Biometrika 44 (1957).
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise SettingError(f"rank agreement needs two lists of one length, got shapes {a.shape} and {b.shape}")
    valid = np.isfinite(a) & np.isfinite(b)
    a, b = a[valid], b[valid]
    n = len(a)
    if n < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Interval(math.nan, -math.inf, math.inf, n)
    tau = float(stats.kendalltau(a, b).statistic)
    if n < 5:
        return Interval(tau, -math.inf, math.inf, n)
    largest = 1 - 2 / (n * (n - 1))  # perfect agreement counts as half a pair short of it: it is not certainty
    z = math.atanh(min(max(tau, -largest), largest))
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(0.437 / (n - 4))
    return Interval(tau, min(math.tanh(z - half), tau), max(math.tanh(z + half), tau), n)
