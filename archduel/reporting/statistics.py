"""What a search gained, in numbers and in words; and all other statistics of reports under one name."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from archduel.errors import SettingError
from archduel.reporting.comparisons import Comparison, Nemenyi, average_ranks, holm, nemenyi, wilcoxon_holm
from archduel.reporting.intervals import Interval, kendall_tau, mean_interval, paired_difference

__all__ = [
    "Comparison", "Interval", "Nemenyi", "average_ranks", "gain_interval", "gain_sentence", "holm", "kendall_tau",
    "mean_interval", "nemenyi", "paired_difference", "wilcoxon_holm",
]  # fmt: skip


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
        n_test: how many pictures an accuracy counts; the interval is never narrower than one picture each way, since a
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
) -> str:
    """Returns what the search gained over ``other`` in plain words, or that no difference was measurable.

    Arguments as in :func:`gain_interval`; without ``coverage`` what the interval covers is left unsaid (it stands in the
    sentence before). Points are percentage points of test accuracy.
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
        head = f"No measurable difference between the search and {other}: {numbers.format(value).replace('-', '−')}."
    elif value > 0:
        head = f"The search gained {numbers.format(value)} over {other}."
    else:
        head = f"The search lost {numbers.format(-value)} against {other}."
    if not coverage:
        return head
    if n_searches > 1:
        each = "one training seed" if n_seeds == 1 else f"{n_seeds} training seeds"
        return f"{head} 95 % interval over n = {n_searches} independent searches with {each} each."
    return f"{head} The 95 % interval covers training seeds only (n = {n_seeds}), because there was one search."
