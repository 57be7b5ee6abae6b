"""What a search gained, in numbers and in words; and all other statistics of reports under one name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from archduel.errors import SettingError

__all__ = ["Comparison", "Interval", "McNemar", "Nemenyi", "RankQuality", "average_ranks", "gain_interval", "gain_sentence", "holm", "kendall_tau", "mcnemar", "mean_interval", "nemenyi", "paired_difference", "rank_quality", "share_interval", "wilcoxon_holm"]

# -- Numbers with their uncertainty: means, paired differences and rank agreement, each with an interval ----------------
#
# Everything is deterministic (closed forms, no resampling), so that a report is a function of its run alone.
# An interval that cannot be known (one value) is infinite: it spans everything and says nothing.


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


# -- Several methods on the same runs: paired tests with Holm's correction, average ranks and how far apart they must be 


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


# -- How good an order is: agreement over all, and what is found at the top ---------------------------------------------


NDCG_DEPTH = 1000


class RankQuality(NamedTuple):
    """Quality of predicted scores against the truth of N architectures.

    Attributes:
        kendall_tau: tau-b, -1..1.
        spearman: rank correlation, -1..1.
        precision_at_1pct: share of the predicted best 1 % that are among the true best 1 %.
        n_at_10: true rank (1 = best) of the truly best among the predicted best ten.
        ndcg: discounted gain of the predicted best 1,000 over the possible one; an architecture's gain is 2 to the power of
            its accuracy in percentage points, so a point less counts half.
    """

    kendall_tau: float
    spearman: float
    precision_at_1pct: float
    n_at_10: float
    ndcg: float


def rank_quality(scores: ArrayLike, truth: ArrayLike) -> RankQuality:
    """Returns the quality of (N,) scores against (N,) true accuracies (fractions); nan where one side is constant.

    Equal scores stand in the order given, which for a table is its own.

    Raises:
        SettingError: for lists of different lengths or fewer than two values.
    """
    predicted, true = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
    if predicted.shape != true.shape or predicted.ndim != 1 or len(true) < 2:
        raise SettingError(f"an order needs two lists of one length, got shapes {predicted.shape} and {true.shape}")
    order, best = np.argsort(-predicted, kind="stable"), np.argsort(-true, kind="stable")
    top = max(1, len(true) // 100)
    rank = stats.rankdata(-true, method="min")
    varied = np.ptp(predicted) > 0 and np.ptp(true) > 0
    return RankQuality(
        kendall_tau=float(stats.kendalltau(predicted, true).statistic) if varied else float("nan"),
        spearman=float(stats.spearmanr(predicted, true).statistic) if varied else float("nan"),
        precision_at_1pct=len(set(order[:top].tolist()) & set(best[:top].tolist())) / top,
        n_at_10=float(rank[order[:10]].min()),
        ndcg=_discounted(true[order]) / _discounted(true[best]),
    )


def _discounted(accuracies: ArrayLike) -> float:
    """Returns the discounted gain of accuracies in the order of their places, up to a factor common to all orders."""
    top = 100 * np.asarray(accuracies)[:NDCG_DEPTH]
    return float((2.0 ** (top - 100) / np.log2(np.arange(2, len(top) + 2))).sum())


def gain_interval(
    differences: ArrayLike, n_searches: int, n_seeds: int, *, n_test: int | None = None, level: float = 0.95
) -> Interval:
    """Returns the mean gain with a t interval over what was repeated.

    With several searches the searches are the observations (the seeds of one search are averaged first), so the
    interval covers search noise and training noise; with one search the seeds are, and it covers training noise only.

    Args:
        differences: (n_searches * n_seeds,) accuracy of the winner minus the other's, fractions, search by search.
        n_searches: independent searches.
        n_seeds: final trainings of each search.
        n_test: how many images an accuracy counts; the interval is never narrower than one image each way, since a
            few equal counts would otherwise pretend to certainty.
        level: confidence.

    Raises:
        SettingError: if the number of differences is not the product.
    """
    data = np.asarray(differences, dtype=np.float64).ravel()
    if n_searches < 1 or n_seeds < 1 or len(data) != n_searches * n_seeds:
        raise SettingError(f"{n_searches} searches x {n_seeds} seeds need that many differences, got {len(data)}")
    units = data if n_searches == 1 else data.reshape(n_searches, n_seeds).mean(axis=1)  # (searches,) or (seeds,)
    interval = mean_interval(units, level=level)
    half = max(interval.half_width, 1 / n_test if n_test else 0.0)
    return Interval(interval.value, interval.value - half, interval.value + half, interval.n)


def gain_sentence(
    differences: ArrayLike,
    n_searches: int,
    n_seeds: int,
    *,
    other: str = "random search at equal cost",
    n_test: int | None = None,
    coverage: bool = True,
    subject: str = "the search",
) -> str:
    """Returns what the search gained over ``other`` in plain words, or that no difference was measurable.

    Arguments as in :func:`gain_interval`; without ``coverage`` what the interval covers is left unsaid (it stands in the
    sentence before) and ``subject`` names what won or lost. Points are percentage points of test accuracy.
    """
    interval = gain_interval(differences, n_searches, n_seeds, n_test=n_test)
    value, half = 100 * interval.value, 100 * interval.half_width
    if not interval.known:
        return (
            f"One training of each network shows {value:+.1f} points against {other}. Whether that is more than chance "
            "cannot be said without more seeds."
        )
    digits = 2 if half < 0.1 else 1
    numbers = f"{{:.{digits}f}} ± {half:.{digits}f} points"
    if interval.spans(0.0):
        head = f"No measurable difference between {subject} and {other}: {numbers.format(value).replace('-', '−')}."
    elif value > 0:
        head = f"{subject[0].upper()}{subject[1:]} gained {numbers.format(value)} over {other}."
    else:
        head = f"{subject[0].upper()}{subject[1:]} lost {numbers.format(-value)} against {other}."
    if not coverage:
        return head
    if n_searches > 1:
        each = "one training seed" if n_seeds == 1 else f"{n_seeds} training seeds"
        return f"{head} 95 % interval over n = {n_searches} independent searches with {each} each."
    return f"{head} The 95 % interval covers training seeds only (n = {n_seeds}), because there was one search."


# -- Two networks on the same images: shares with their intervals, and whether a difference is more than chance -------


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
        first_only: images that only the first gets right.
        second_only: images that only the second gets right.
        n: images in all.
        p: two-sided exact probability of a split at least as uneven, if neither is better.
    """

    first_only: int
    second_only: int
    n: int
    p: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Returns McNemar's exact test.

    Args:
        first: (N,) whether the first is right, image by image.
        second: (N,) likewise, the same images.

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
