"""A Gaussian process whose distance counts every column as much as trees found it to matter.

Trees know which of hundreds of columns carry the order but predict in steps; a Gaussian process is smooth but lost among
useless columns. Weighing squared distances by the trees' importances joins the two. A second process starts from those weights
and moves them to where the labels are likelier (see ``relevance``).

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", MIT Press 2006, Algorithm 2.1 and section 5.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from archduel.rankers.relevance import matern, relevances

__all__ = ["Process", "believe", "fit_process", "refine_process"]

Matrix = NDArray[np.float64]
LENGTHS = (0.3, 0.5, 0.8, 1.3, 2.0, 3.0, 4.5, 7.0)
"""In units of the median distance between labelled architectures."""
NOISES = (0.003, 0.01, 0.03, 0.07, 0.15, 0.3, 0.6)
"""Label variance over signal variance."""
GRID_LABELS = 500
"""Length, noise and relevances are chosen on at most this many labels."""
SPREAD, ITERATIONS = 1.5, 10
"""How far (natural log) relevances may easily move from the trees' importances, and in how many steps."""


class Process(NamedTuple):
    """What a fit to n labels found."""

    scale: Matrix  # (F,): factor of each column, importance and length scale together
    x: Matrix  # (n, F) scaled columns of the labelled architectures
    factor: Matrix  # (n, n) lower Cholesky factor of kernel + noise
    weights: Matrix  # (n,)
    centre: float
    variance: float  # of the signal
    noise: float  # of a label, over the signal's variance
    kernel: Callable[[Matrix], Matrix]  # of squared distances


def _squared(first: Matrix, second: Matrix) -> Matrix:
    """Returns (N, M) squared distances."""
    squared = (first * first).sum(1)[:, None] + (second * second).sum(1) - 2 * (first @ second.T)
    return np.maximum(squared, 0, out=squared)


def _matern(squared: Matrix) -> Matrix:
    """Returns the Matern 3/2 kernel of squared distances in units of the length scale."""
    r = np.sqrt(3 * squared)
    return np.asarray((1 + r) * np.exp(-r))


def fit_process(x: Matrix, y: Matrix, importance: Matrix) -> Process:
    """Returns the process for labels ``y`` (n,) of architectures with columns ``x`` (n, F).

    Args:
        x: columns of comparable spread.
        y: labels.
        importance: (F,), not negative, how much each column counts in squared distances.
    """
    scale = np.sqrt(importance / max(importance.sum(), 1e-300))
    few = slice(0, GRID_LABELS)
    squared = _squared(x[few] * scale, x[few] * scale)
    apart = squared[squared > 1e-12]
    median = float(np.median(apart)) if apart.size else 1.0
    length, noise = _chosen(squared / median, _standardised(y)[few])
    return _posterior(x, y, scale / (length * np.sqrt(median)), noise, _matern)


def refine_process(process: Process, x: Matrix, y: Matrix) -> Process:
    """Returns a process of the same labels whose columns count as much as makes the labels likely, near ``process``.

    Columns that ``process`` does not look at stay unseen.
    """
    few, seen = slice(0, GRID_LABELS), process.scale > 0
    relevance, noise, _ = relevances(
        x[few][:, seen],
        _standardised(y)[few],
        start=process.scale[seen] ** 2,
        noise=process.noise,
        spread=SPREAD,
        iterations=ITERATIONS,
    )
    scale = np.zeros_like(process.scale)
    scale[seen] = np.sqrt(relevance)
    return _posterior(x, y, scale, noise, matern)


def _standardised(y: Matrix) -> Matrix:
    return np.asarray((y - y.mean()) / (float(y.std()) or 1.0))


def _posterior(
    x: Matrix, y: Matrix, scale: Matrix, noise: float, kernel: Callable[[Matrix], Matrix]
) -> Process:
    spread, z = float(y.std()) or 1.0, _standardised(y)
    matrix = kernel(_squared(x * scale, x * scale))
    matrix.flat[:: len(matrix) + 1] = 1 + noise
    factor = np.asarray(cholesky(matrix, lower=True, overwrite_a=True, check_finite=False))
    weights = cho_solve((factor, True), z, check_finite=False)
    variance = float(z @ weights) / len(z) * spread**2
    return Process(scale, x * scale, factor, weights * spread, float(y.mean()), variance, noise, kernel)


def _chosen(squared: Matrix, z: Matrix) -> tuple[float, float]:
    """Returns the length scale and noise of the grid with the highest marginal likelihood of ``z`` (n,)."""
    best = (-np.inf, LENGTHS[0], NOISES[0])
    for length in LENGTHS:
        values, vectors = np.linalg.eigh(_matern(squared / length**2))
        along = (vectors.T @ z) ** 2
        for noise in NOISES:
            total = np.maximum(values, 0) + noise
            likelihood = -0.5 * len(z) * np.log((along / total).mean()) - 0.5 * np.log(total).sum()
            best = max(best, (float(likelihood), length, noise))
    return best[1], best[2]


def believe(process: Process, x: Matrix, *, deviation: bool = True) -> tuple[Matrix, Matrix]:
    """Returns mean (N,) and standard deviation (N,; empty unless ``deviation``) of the noise-free value at ``x`` (N, F)."""
    kernel = process.kernel(_squared(x * process.scale, process.x))  # (N, n)
    mean = process.centre + kernel @ process.weights
    if not deviation:
        return mean, np.empty(0)
    explained = solve_triangular(process.factor, kernel.T, lower=True, check_finite=False)  # (n, N)
    variance = process.variance * np.maximum(1 - (explained * explained).sum(0), 1e-9)
    return mean, np.sqrt(variance)
