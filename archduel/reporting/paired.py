"""Two networks on the same pictures: shares with their intervals, and whether a difference is more than chance."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from archduel.errors import SettingError
from archduel.reporting.statistics import Interval

__all__ = ["McNemar", "mcnemar", "share_interval"]


def share_interval(right: int, n: int, *, level: float = 0.95) -> Interval:
    """Returns ``right / n`` with Wilson's interval.

    Raises:
        SettingError: unless 0 <= right <= n and n > 0.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if not 0 <= right <= n or n < 1:
        raise SettingError(f"a share needs 0 <= right <= n and n > 0, got {right} of {n}")
    z = float(stats.norm.ppf((1 + level) / 2))
    share, scale = right / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), n)


class McNemar(NamedTuple):
    """Where two classifiers differ.

    Attributes:
        first_only: pictures that only the first gets right.
        second_only: pictures that only the second gets right.
        n: pictures in all.
        p: two-sided exact probability of a split at least as uneven, if neither is better.
    """

    first_only: int
    second_only: int
    n: int
    p: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Returns McNemar's exact test.

    Args:
        first: (N,) whether the first is right, picture by picture.
        second: (N,) likewise, the same pictures.

    Raises:
        SettingError: if the two do not have the same length.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12 (1947).
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape or a.ndim != 1:
        raise SettingError(f"McNemar's test needs two lists of one length, got shapes {a.shape} and {b.shape}")
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    p = float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, len(a), p)
