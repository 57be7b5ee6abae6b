"""A Gaussian process whose distance counts every column as much as trees found it to matter.

Trees know which of hundreds of columns carry the order but predict in steps; a Gaussian process is smooth but lost among
useless columns. Weighing squared distances by the trees' importances joins the two.

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", MIT Press 2006, Algorithm 2.1 and section 5.4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

__all__ = ["Process", "believe", "fit_process"]

Matrix = NDArray[np.float64]
LENGTHS = (0.3, 0.45, 0.65, 0.9, 1.3, 2.0, 3.0)
"""In units of the median distance between labelled architectures."""
NOISES = (0.01, 0.03, 0.07, 0.15, 0.3, 0.6)
"""Label variance over signal variance."""
GRID_LABELS = 500
"""Length and noise are chosen on at most this many labels."""


class Process(NamedTuple):
    """What a fit to n labels found."""

    scale: Matrix  # (F,): factor of each column, importance and length scale together
    x: Matrix  # (n, F) scaled columns of the labelled architectures
    factor: Matrix  # (n, n) lower Cholesky factor of kernel + noise
    weights: Matrix  # (n,)
    centre: float
    variance: float  # of the signal
    noise: float  # of a label, over the signal's variance


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
    centre, spread = float(y.mean()), float(y.std()) or 1.0
    z = (y - centre) / spread
    few = slice(0, GRID_LABELS)
    squared = _squared(x[few] * scale, x[few] * scale)
    apart = squared[squared > 1e-12]
    median = float(np.median(apart)) if apart.size else 1.0
    length, noise = _chosen(squared / median, z[few])
    scale = scale / (length * np.sqrt(median))
    kernel = _matern(_squared(x * scale, x * scale))
    kernel.flat[:: len(kernel) + 1] = 1 + noise
    factor = np.asarray(cholesky(kernel, lower=True, overwrite_a=True, check_finite=False))
    weights = cho_solve((factor, True), z, check_finite=False)
    variance = float(z @ weights) / len(z)
    return Process(scale, x * scale, factor, weights * spread, centre, variance * spread**2, noise)


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
    kernel = _matern(_squared(x * process.scale, process.x))  # (N, n)
    mean = process.centre + kernel @ process.weights
    if not deviation:
        return mean, np.empty(0)
    explained = solve_triangular(process.factor, kernel.T, lower=True, check_finite=False)  # (n, N)
    variance = process.variance * np.maximum(1 - (explained * explained).sum(0), 1e-9)
    return mean, np.sqrt(variance)
