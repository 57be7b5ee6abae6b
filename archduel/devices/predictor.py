"""How long a network takes on a device of which a few networks' latencies are known: a value and an interval for every other one.

Two kinds of knowledge meet. What a network consists of (:mod:`archduel.devices.operators`) gives a sum: so much time for each operator, each
multiply-add of its kind, each number moved, no term below zero. Devices that were measured before, if there are any, give columns: networks
that were slow on them are slow on the new one too, more or less. A Gaussian process on the logarithm of the latency joins them, and what it got
wrong about each measured network while that was left out scales its intervals.

Sources: the sum is that of nn-Meter's and similar predictors, with non-negative coefficients as in roofline models; few measurements of a new
device after many of others: Lee et al., "HELP", NeurIPS 2021; intervals from residuals of left-out points: Barber et al., "Predictive inference
with the jackknife+", Annals of Statistics 2021. The combination is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import t as student

from archduel.errors import SettingError
from archduel.rankers.gp import distance, matern

__all__ = ["LEVEL", "Latencies", "LatencyPredictor", "Sum", "fit_sum", "spread_out"]

Matrix = NDArray[np.float64]
LEVEL = 0.95
"""Share of networks whose latency shall lie below the upper bound, and likewise above the lower one."""
NOISES = (0.003, 0.01, 0.03, 0.1)
"""Variances of a measurement's logarithm over the variance of what is learned, of which the most probable one is taken."""
MISSED = 0.5
"""Without other devices: share of what the sum missed that is alike for like networks; the other half is so for all."""
UNLIKE, OWN, CONSTANT = 0.1, 0.02, 4.0
"""With other devices, whose agreement counts 1: what is not linear in them, what is of this device alone, and its speed, of which nothing is known."""
ROUNDS = 4  # of reweighting: after the third the coefficients hardly move
SMALL = 30.0
"""How many times shorter than the median a latency is at most as the first round sees it."""


# -- A sum over what a network consists of --------------------------------------------------------------------------------


class Sum(NamedTuple):
    """Milliseconds as a sum of terms.

    Attributes:
        weights: (C + 1,) milliseconds for one of each column, the last for every network; none below 0.
        least: the shortest latency that is believed, in milliseconds.
    """

    weights: Matrix
    least: float

    def __call__(self, columns: Matrix) -> Matrix:
        """Returns (N,) natural logarithms of milliseconds."""
        return np.log(np.maximum(columns @ self.weights[:-1] + self.weights[-1], self.least))


def fit_sum(columns: Matrix, ms: Matrix) -> Sum:
    """Returns the coefficients, none below zero, whose relative errors are least.

    An error counts in units of the larger of latency and sum: a network that takes next to nothing (a runtime that left all of it out) bends
    nothing.

    Args:
        columns: (n, C) of :func:`archduel.devices.operators.operator_columns`.
        ms: (n,) latencies.
    """
    scale = np.append(columns.max(0), 1.0)
    scale[scale == 0] = 1.0
    design = np.column_stack([columns, np.ones(len(columns))]) / scale
    # at first what is tiny counts as little as what is small, else one network that was left out would push all weights to nothing
    unit, weights = np.maximum(ms, np.median(ms) / SMALL), np.zeros(len(scale))
    for _ in range(ROUNDS):
        weights, _ = nnls(design / unit[:, None], ms / unit)
        unit = np.maximum(ms, design @ weights)
    return Sum(weights / scale, float(ms.min()) / 10)


# -- The predictor ----------------------------------------------------------------------------------------------------------


class Latencies(NamedTuple):
    """What is believed of networks, in milliseconds.

    Attributes:
        ms: (N,) the most probable latency.
        low: (N,) above which a latency lies with probability ``LEVEL``.
        high: (N,) below which it lies with probability ``LEVEL``.
    """

    ms: Matrix
    low: Matrix
    high: Matrix


@dataclass(frozen=True)
class _View:
    """Networks as the kernel sees them: (N, L) logarithms of columns, standardised, and (N, D) other devices, standardised; the sum, (N,), and its centre."""

    columns: Matrix
    others: Matrix
    base: Matrix
    centre: float

    def __getitem__(self, rows: Any) -> _View:
        return _View(self.columns[rows], self.others[rows], self.base[rows], self.centre)


class _Process(NamedTuple):
    """A Gaussian process that has seen latencies."""

    view: _View
    inverse: Matrix
    weights: Matrix
    mean: float
    noise: float


class LatencyPredictor:
    """Learns latencies of some networks on one device and foretells those of all.

    Args:
        columns: (n, C) what the measured networks consist of.
        ms: (n,) their latencies in milliseconds.
        others: (n, D) natural logarithms of their latencies on devices that were measured before; None = there are none.
        reference: ((N, C), (N, D)) networks by which columns are standardised, those of the space that is searched; None = the measured ones.

    Attributes:
        error: root mean square error of the logarithm on measured networks that were left out, about a relative error.

    Raises:
        SettingError: for fewer than three networks, or latencies that are not above 0.
    """

    def __init__(
        self, columns: Matrix, ms: Matrix | Sequence[float], others: Matrix | None = None, *, reference: tuple[Matrix, Matrix | None] | None = None
    ) -> None:
        self._columns, self._ms = np.asarray(columns, np.float64), np.asarray(ms, np.float64)
        if len(self._ms) < 3 or not (np.isfinite(self._ms) & (self._ms > 0)).all():
            raise SettingError(f"at least 3 latencies above 0 are needed, got {len(self._ms)}: {self._ms[:3]} ...")
        n = len(self._ms)
        self._others = np.zeros((n, 0)) if others is None else np.asarray(others, np.float64)
        about = reference or (self._columns, self._others)
        self._standard = _standard(np.log1p(about[0])), _standard(self._others if about[1] is None else about[1])
        everything = np.arange(n)
        self._sum, self._process = self._learn(everything)
        left_out = [self._left_out(np.delete(everything, i), i) for i in range(n)]
        self._residuals = np.sort(np.array([error / sd for error, sd in left_out]))
        self.error = float(np.sqrt(np.mean([error**2 for error, _ in left_out])))

    def predict(self, columns: Matrix, others: Matrix | None = None) -> Latencies:
        """Returns value and interval for (N, C) networks; ``others`` (N, D) as they were given before."""
        view = self._view(columns, np.zeros((len(columns), 0)) if others is None else others, self._sum)
        mean, sd = _posterior(self._process, view)
        low, high = self.factors
        return Latencies(np.exp(mean), np.exp(mean + low * sd), np.exp(mean + high * sd))

    @property
    def factors(self) -> tuple[float, float]:
        """Standard deviations from the most probable value to the lower and to the upper bound."""
        return -_factor(-self._residuals[::-1]), _factor(self._residuals)

    def left_out(self) -> Matrix:
        """Returns (n,) milliseconds of each measured network as all others tell them."""
        everything = np.arange(len(self._ms))
        return np.array([math.exp(math.log(self._ms[i]) - self._left_out(np.delete(everything, i), i)[0]) for i in range(len(everything))])

    def _view(self, columns: Matrix, others: Matrix, base: Sum) -> _View:
        (centre, width), (centre_others, width_others) = self._standard
        middle = float(np.log(np.median(self._ms)))
        return _View((np.log1p(columns) - centre) / width, (others - centre_others) / width_others, base(columns), middle)

    def _learn(self, rows: NDArray[np.int64]) -> tuple[Sum, _Process]:
        base = fit_sum(self._columns[rows], self._ms[rows])
        view = self._view(self._columns[rows], self._others[rows], base)
        return base, _fit(view, np.log(self._ms[rows]))

    def _left_out(self, rows: NDArray[np.int64], i: int) -> tuple[float, float]:
        """Returns how far (natural log) network ``i`` is from what ``rows`` tell of it, and what they say of their own error."""
        base, process = self._learn(rows)
        mean, sd = _posterior(process, self._view(self._columns[i : i + 1], self._others[i : i + 1], base))
        return math.log(self._ms[i]) - float(mean[0]), float(sd[0])


def _standard(values: Matrix) -> tuple[Matrix, Matrix]:
    """Returns (F,) centres and widths of columns; a squared distance between two standardised rows is about 2, however many columns there are."""
    spread = values.std(0)
    used = spread > 1e-9
    return values.mean(0), np.where(used, spread, np.inf) * math.sqrt(max(1, int(used.sum())))


def _kernel(first: _View, second: _View) -> Matrix:
    """(N, M) covariance of logarithms of latencies around their mean, before it is scaled.

    With other devices their agreement says most, and the sum is one device more; without, the sum is the mean and the kernel is of what it missed.
    """
    near = matern(distance(first.columns, second.columns))
    if not first.others.shape[1]:
        return np.asarray(MISSED * near + MISSED)
    alike = first.others @ second.others.T
    sums = np.outer(first.base - first.centre, second.base - first.centre)
    return np.asarray(alike + sums + UNLIKE * matern(distance(first.others, second.others)) + OWN * near + CONSTANT)


def _own_variance(view: _View) -> Matrix:
    """(N,) the diagonal of :func:`_kernel`."""
    if not view.others.shape[1]:
        return np.full(len(view.base), 2 * MISSED)
    return np.asarray((view.others**2).sum(1) + (view.base - view.centre) ** 2 + UNLIKE + OWN + CONSTANT)


def _fit(view: _View, y: Matrix) -> _Process:
    """Returns the process with the most probable noise and scale."""
    known = bool(view.others.shape[1])
    mean = float(np.median(y)) if known else 0.0
    rest = y - mean if known else y - view.base
    kernel, best = _kernel(view, view), (-math.inf, 0.0)
    for noise in NOISES:
        values, vectors = np.linalg.eigh(kernel + noise * np.eye(len(y)))
        z = vectors.T @ rest
        likelihood = -0.5 * len(y) * math.log(float((z * z / values).mean()) + 1e-12) - 0.5 * float(np.log(values).sum())
        best = max(best, (likelihood, noise))
    inverse = np.asarray(np.linalg.inv(kernel + best[1] * np.eye(len(y))), np.float64)
    weights = inverse @ rest
    return _Process(view, inverse, weights, mean, best[1])


def _posterior(process: _Process, view: _View) -> tuple[Matrix, Matrix]:
    """(N,) means of logarithms of measured latencies, and standard deviations in a unit that is the same for all networks.

    The unit is found by leaving networks out: where a sum goes through all points that it was fitted to, what is left there says nothing.
    """
    means, sds = [], []
    for start in range(0, len(view.base), 4096):
        part = view[start : start + 4096]
        across = _kernel(part, process.view)
        mean = across @ process.weights + (process.mean if view.others.shape[1] else part.base)
        variance = _own_variance(part) - np.einsum("ij,jk,ik->i", across, process.inverse, across) + process.noise
        means.append(mean)
        sds.append(np.sqrt(np.maximum(variance, process.noise)))
    return np.concatenate(means), np.concatenate(sds)


def _factor(residuals: Matrix) -> float:
    """Returns how many standard deviations above the mean the upper bound lies, from ascending standardised residuals.

    The order statistic that a new residual exceeds with probability ``1 - LEVEL`` where there are enough of them (19), and never less than what
    Student's t makes of their size: the largest of ten is exceeded by one in eleven.
    """
    n = len(residuals)
    place = math.ceil((n + 1) * LEVEL) - 1
    by_size = float(student.ppf(LEVEL, n - 1)) * math.sqrt(float((residuals**2).mean()) * (1 + 1 / n))
    return max(float(residuals[min(place, n - 1)]), by_size)


def spread_out(rows: Matrix, n: int, rng: np.random.Generator, *, candidates: int = 300) -> NDArray[np.int64]:
    """Returns ``n`` numbers of rows that are far from each other, among ``candidates`` random ones; the first is random.

    Args:
        rows: (N, F) what tells them apart.
        n: how many.
        rng: draws the candidates.
        candidates: how many are looked at; 0 = all.
    """
    pool = rng.permutation(len(rows))[: candidates or len(rows)]
    chosen = [int(pool[0])]
    away = ((rows[pool] - rows[pool[0]]) ** 2).sum(1)
    while len(chosen) < n:
        chosen.append(int(pool[int(np.argmax(away))]))
        away = np.minimum(away, ((rows[pool] - rows[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)
