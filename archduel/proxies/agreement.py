"""How well a cheap score keeps the order of a trusted one: rank correlations with bootstrap intervals.

Architectures are the units that are resampled: the interval says what other architectures of the same kind might have given. It
does not cover the noise of training seeds, which lowers every agreement alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from archduel.core import Estimate
from archduel.errors import SettingError, unknown

__all__ = ["MEASURES", "READINGS", "SIZES", "Agreement", "Bounded", "agreement", "agreement_difference", "agreement_of_like_size", "kendall", "reading", "readings", "sizes", "spearman"]

# -- What of a training says how good the architecture is: its validation score, or a loss ------------------------------
#
# Accuracy counts right answers, a loss weighs how right: it moves where accuracies tie, and the training loss of an epoch is a mean
# over far more images than a validation split has. A mean loss is read as exp(-loss), the geometric mean of the probability that the
# network gives to the true class: higher is better, 0..1 like an accuracy, and the order is that of the losses.
#
# Source: Ru, Lyle, Schut, Fil, van der Wilk, Gal: "Speedy Performance Estimation for Neural Architecture Search", NeurIPS 2021
# (sums of training losses).


def _losses(estimate: Estimate) -> list[float]:
    """Returns the training loss of every epoch."""
    return [float(epoch["train_loss"]) for epoch in estimate.values.get("history", ())]


def _likelihood(losses: Sequence[float]) -> float:
    return math.exp(-math.fsum(losses) / len(losses)) if losses else math.nan


def _score(estimate: Estimate) -> float:
    return estimate.score


def _validation_loss(estimate: Estimate) -> float:
    loss = estimate.values.get("val_loss")
    return _likelihood([] if loss is None else [float(loss)])


def _train_loss(estimate: Estimate) -> float:
    return _likelihood(_losses(estimate)[-1:])


def _late_losses(estimate: Estimate) -> float:
    losses = _losses(estimate)
    return _likelihood(losses[-max(1, len(losses) // 4) :])


def _all_losses(estimate: Estimate) -> float:
    return _likelihood(_losses(estimate))


READINGS: dict[str, Callable[[Estimate], float]] = {
    "score": _score,
    "val_loss": _validation_loss,
    "train_loss": _train_loss,
    "late_losses": _late_losses,
    "all_losses": _all_losses,
}
"""``score``: the metric of the validation images. ``val_loss``: their loss. ``train_loss``: of the last epoch. ``late_losses``: mean
of the last quarter of the epochs. ``all_losses``: mean of all epochs, the order of Ru et al.'s sum."""


def reading(estimate: Estimate, name: str) -> float:
    """Returns one reading of a training, higher is better; nan for a failed one.

    Raises:
        UnknownNameError: for a reading that there is not.
    """
    if name not in READINGS:
        raise unknown("reading", name, READINGS)
    return math.nan if estimate.failed else READINGS[name](estimate)


def readings(estimates: Sequence[Estimate], name: str) -> list[float]:
    """Returns :func:`reading` of each."""
    return [reading(estimate, name) for estimate in estimates]


SIZES = ("params", "macs")
"""What is known without any training. Larger is often better: a proxy that ranks no better than size is not worth its time."""


def sizes(estimates: Sequence[Estimate], name: str) -> list[float]:
    """Returns parameters or multiply-adds of each; nan where they are unknown."""
    return [float(estimate.values.get(name, math.nan)) for estimate in estimates]


Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Bounded(NamedTuple):
    """A number and where the truth may lie; nan ends are unknown."""

    value: float
    low: float
    high: float

    def record(self) -> dict[str, float | None]:
        """Returns the JSON form; what is unknown is None."""
        return {name: float(value) if np.isfinite(value) else None for name, value in self._asdict().items()}


def spearman(first: Floats, second: Floats, rows: Rows) -> Floats:
    """Returns (D,) Spearman's rho of the resamples ``rows`` (D, n) of two lists (N,)."""
    a, b = (stats.rankdata(scores[rows], axis=1) for scores in (first, second))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1)))


def kendall(first: Floats, second: Floats, rows: Rows) -> Floats:
    """Returns (D,) Kendall's tau-b of the resamples ``rows`` (D, n) of two lists (N,)."""
    signs = [np.sign(scores[:, None] - scores[None, :]) for scores in (first, second)]  # (N, N)
    # the signs are made once for all resamples, which only choose rows and columns of them
    taus = np.empty(len(rows))
    for i, chosen in enumerate(rows):
        a, b = (sign[np.ix_(chosen, chosen)] for sign in signs)
        with np.errstate(invalid="ignore", divide="ignore"):
            taus[i] = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    return taus


class Agreement(NamedTuple):
    """How well two lists of scores agree.

    Attributes:
        n: architectures with both scores.
        spearman: rank correlation, -1..1; nan where one list is constant.
        kendall: tau-b, likewise.
    """

    n: int
    spearman: Bounded
    kendall: Bounded

    def record(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return {"n": self.n, "spearman": self.spearman.record(), "kendall": self.kendall.record()}


MEASURES: dict[str, Callable[[Floats, Floats, Rows], Floats]] = {"spearman": spearman, "kendall": kendall}


def _aligned(*lists: ArrayLike) -> tuple[Floats, ...]:
    """Returns the lists without the places where any of them is not finite.

    Raises:
        SettingError: if they do not have the same length.
    """
    arrays = [np.asarray(scores, np.float64) for scores in lists]
    if len({scores.shape for scores in arrays}) > 1 or arrays[0].ndim != 1:
        raise SettingError(f"rank agreement needs lists of one length, got shapes {[scores.shape for scores in arrays]}")
    # a failed training has no score; left out everywhere, it does not shift the others against each other
    valid = np.all([np.isfinite(scores) for scores in arrays], axis=0)
    return tuple(scores[valid] for scores in arrays)


def _resamples(n: int, draws: int, seed: int) -> Rows:
    return np.random.default_rng(seed).integers(0, n, (draws, n))


def _percentiles(values: Floats, level: float) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def agreement(
    scores: ArrayLike, truth: ArrayLike, *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> Agreement:
    """Returns rank correlations of two lists with percentile bootstrap intervals; pairs with a nan are left out.

    Args:
        scores: (N,) of the cheap recipe.
        truth: (N,) of the reference.
        draws: resamples; 0 = no intervals.
        seed: of the resamples.
        level: confidence.

    Raises:
        SettingError: if the two do not have the same length.
    """
    a, b = _aligned(scores, truth)
    n = len(a)
    if n < 2:
        nothing = Bounded(np.nan, np.nan, np.nan)
        return Agreement(n, nothing, nothing)
    # a bootstrap of four architectures mostly draws the same few again: an interval would say more than is known
    rows = _resamples(n, draws if n > 4 else 0, seed)
    whole = np.arange(n)[None]
    correlations = []
    for measure in (spearman, kendall):
        low, high = _percentiles(measure(a, b, rows), level)
        correlations.append(Bounded(float(measure(a, b, whole)[0]), low, high))
    return Agreement(n, *correlations)


def agreement_difference(
    first: ArrayLike,
    second: ArrayLike,
    truth: ArrayLike,
    *,
    measure: str = "kendall",
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Bounded:
    """Returns by how much ``first`` agrees better with ``truth`` than ``second`` does, with a paired bootstrap interval.

    Both are resampled with the same architectures, so that what they have in common cancels out.

    Raises:
        SettingError: if the lists do not have the same length.
    """
    a, b, true = _aligned(first, second, truth)
    correlate = MEASURES[measure]
    rows = _resamples(len(a), draws, seed)
    whole = np.arange(len(a))[None]
    value = correlate(a, true, whole)[0] - correlate(b, true, whole)[0]
    return Bounded(float(value), *_percentiles(correlate(a, true, rows) - correlate(b, true, rows), level))


def agreement_of_like_size(
    scores: ArrayLike,
    truth: ArrayLike,
    size: ArrayLike,
    *,
    against: ArrayLike | None = None,
    within: float = 0.1,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[int, Bounded]:
    """Returns the number of pairs of like size, and Kendall's tau-b over them alone: what a proxy knows beyond size.

    Args:
        scores: (N,) of the cheap recipe.
        truth: (N,) of the reference.
        size: (N,) parameters or multiply-adds, above 0.
        against: (N,) scores of another recipe, whose tau is subtracted.
        within: largest difference of the logarithms of two sizes.
        draws: resamples of the architectures for the interval.
        seed: of the resamples.
        level: confidence.

    Raises:
        SettingError: if the lists do not have the same length.
    """
    a, true, sizes, b = _aligned(scores, truth, size, scores if against is None else against)
    # sizes are compared by their ratio: 10 % of a small network and of a large one are the same difference
    logs = np.log(sizes)
    like = np.abs(logs[:, None] - logs[None, :]) <= within  # (N, N)
    order = np.sign(true[:, None] - true[None, :]) * like
    n_pairs = int(np.abs(order).sum()) // 2

    def tau(signs: Floats, rows: NDArray[np.int64]) -> float:
        """Returns Kendall's tau-b among the pairs of like size of a resample."""
        # pairs of unlike size become ties of both lists, which tau-b leaves out of its denominator
        there = np.ix_(rows, rows)
        s, t = signs[there] * like[there], order[there]
        with np.errstate(invalid="ignore", divide="ignore"):
            return float((s * t).sum() / np.sqrt((s**2).sum() * (t**2).sum()))

    signs = [np.sign(x[:, None] - x[None, :]) for x in (a, b)]

    def value(rows: NDArray[np.int64]) -> float:
        return tau(signs[0], rows) - (0.0 if against is None else tau(signs[1], rows))

    resampled = np.array([value(rows) for rows in _resamples(len(a), draws, seed)])
    return n_pairs, Bounded(value(np.arange(len(a))), *_percentiles(resampled, level))
