"""Several methods on the same runs: paired tests with Holm's correction, average ranks and how far apart they must be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from archduel.errors import SettingError
from archduel.reporting.intervals import Interval, paired_difference

__all__ = ["Comparison", "Nemenyi", "average_ranks", "holm", "nemenyi", "wilcoxon_holm"]


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Returns (M,) p-values adjusted for M tests, step-down, at most 1.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    p = np.asarray(p_values, dtype=np.float64).ravel()
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


class Comparison(NamedTuple):
    """A paired comparison of two methods.

    Attributes:
        first: name.
        second: name.
        difference: mean of first minus second with its t interval.
        p: two-sided Wilcoxon signed-rank test; 1 if all pairs are equal.
        p_holm: the same, adjusted for all comparisons made together.
    """

    first: str
    second: str
    difference: Interval
    p: float
    p_holm: float


def wilcoxon_holm(
    scores: Mapping[str, ArrayLike], *, pairs: Sequence[tuple[str, str]] | None = None
) -> list[Comparison]:
    """Returns the paired comparisons, p-values adjusted together.

    Args:
        scores: method -> (R,) one score a run, the same runs in the same order for all.
        pairs: which to compare; None = all pairs.
    """
    names = list(scores)
    chosen = list(pairs) if pairs is not None else [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    data = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    differences = [paired_difference(data[a], data[b]) for a, b in chosen]
    p = [_wilcoxon(data[a] - data[b]) for a, b in chosen]
    return [Comparison(a, b, d, raw, float(q)) for (a, b), d, raw, q in zip(chosen, differences, p, holm(p))]


def _wilcoxon(difference: NDArray[np.float64]) -> float:
    changed = difference[difference != 0]
    return float(stats.wilcoxon(changed).pvalue) if len(changed) else 1.0


def average_ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """Returns (S,) mean ranks of S methods over R runs; 1 is best (highest score), ties share their mean rank.

    Args:
        scores: (R, S) higher is better.
    """
    return np.asarray(stats.rankdata(-np.asarray(scores, dtype=np.float64), axis=1).mean(axis=0))


class Nemenyi(NamedTuple):
    """Average ranks and how far apart two must be to differ.

    Attributes:
        ranks: method -> average rank, best first.
        critical_difference: the least difference of two average ranks that is significant.
        groups: maximal sets of methods, by name and best first, that do not differ.
        friedman_p: p-value of the Friedman test that all methods are equal (nan below three methods).
    """

    ranks: dict[str, float]
    critical_difference: float
    groups: list[list[str]]
    friedman_p: float


def nemenyi(scores: Mapping[str, ArrayLike], *, level: float = 0.95) -> Nemenyi:
    """Returns the data of a critical-difference figure.

    Args:
        scores: method -> (R,) one score a run, the same runs for all; higher is better.
        level: confidence.

    Raises:
        SettingError: for fewer than two methods.

    Source: Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006).
    """
    if len(scores) < 2:
        raise SettingError(f"ranks need at least two methods, got {len(scores)}")
    table = np.stack([np.asarray(values, dtype=np.float64) for values in scores.values()], axis=1)  # (R, S)
    runs, k = table.shape
    ranks = dict(sorted(zip(scores, map(float, average_ranks(table))), key=lambda item: item[1]))
    q = float(stats.studentized_range.ppf(level, k, np.inf)) / math.sqrt(2)
    difference = q * math.sqrt(k * (k + 1) / (6 * runs))
    varied = k > 2 and any(np.ptp(row) > 0 for row in table)
    p = float(stats.friedmanchisquare(*table.T).pvalue) if varied else math.nan
    return Nemenyi(ranks, difference, _groups(ranks, difference), p)


def _groups(ranks: Mapping[str, float], difference: float) -> list[list[str]]:
    """Returns the maximal runs of two or more neighbouring names whose ranks lie within ``difference``."""
    names = list(ranks)
    found: list[list[str]] = []
    reached = 0
    for start, name in enumerate(names):
        end = max(i for i in range(start, len(names)) if ranks[names[i]] - ranks[name] <= difference) + 1
        if end - start > 1 and end > reached:
            found.append(names[start:end])
        reached = max(reached, end)
    return found
