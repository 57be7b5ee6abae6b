"""How much each feature counts in a Gaussian process: the most probable relevances under a log-normal prior.

With a hundred features and a few dozen labels, maximum likelihood alone would follow chance. A prior that holds all
relevances near a common one lets the labels speak only where they say something.

Sources: MacKay and Neal's automatic relevance determination, in Rasmussen and Williams, "Gaussian Processes for Machine
Learning", MIT Press 2006, sections 5.1 and 5.4; Hvarfner, Hellsten and Nardi, "Vanilla Bayesian Optimization Performs Great in
High Dimensions", ICML 2024, for the worth of such priors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

__all__ = ["distance", "factor_of", "first_guess", "matern", "relevances"]

Matrix = NDArray[np.float64]
ROOT5 = np.sqrt(5.0)
LENGTHS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""In units of a feature's standard deviation, as if all features were that far apart."""
NOISES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Label variance over signal variance."""
NOISE, NOISE_SPREAD = 0.03, 1.5
"""Centre and spread of the noise's log-normal prior; label variance over signal variance."""
BOUNDS = (-8.0, 6.0)


def matern(squared: NDArray[Any]) -> NDArray[Any]:
    """Returns the Matern 5/2 kernel of squared distances in units of the length scale, in their precision."""
    r = np.sqrt(squared)
    r *= r.dtype.type(ROOT5)
    kernel = r * r
    kernel /= 3
    kernel += r
    kernel += 1
    kernel *= np.exp(np.negative(r, out=r), out=r)
    return np.asarray(kernel)


def distance(first: Matrix, second: Matrix) -> Matrix:
    """Returns (N, M) squared distances."""
    squared = (first * first).sum(1)[:, None] + (second * second).sum(1) - 2 * first @ second.T
    return np.maximum(squared, 0.0)


def factor_of(kernel: Matrix, noise: float) -> Matrix:
    """Returns (n, n) the lower Cholesky factor of ``kernel`` with ``noise`` on the diagonal."""
    kernel = kernel.copy()
    kernel.flat[:: len(kernel) + 1] += noise
    return np.asarray(cholesky(kernel, lower=True, overwrite_a=True, check_finite=False))


def first_guess(squared: Matrix, z: Matrix) -> tuple[float, float, float]:
    """Returns the highest log marginal likelihood of the grid, and its length and noise."""
    best = (-np.inf, LENGTHS[0], NOISES[0])
    for length in LENGTHS:
        kernel = matern(squared / length**2)
        for noise in NOISES:
            factor = factor_of(kernel, noise)
            variance = float(z @ cho_solve((factor, True), z, check_finite=False)) / len(z)
            likelihood = -0.5 * len(z) * np.log(variance) - float(np.log(factor.diagonal()).sum())
            best = max(best, (likelihood, length, noise))
    return best


def relevances(
    x: Matrix, z: Matrix, *, start: float | Matrix, noise: float, spread: float, iterations: int
) -> tuple[Matrix, float, float]:
    """Returns the weight of each feature in squared distances (F,), the noise, and the log posterior density.

    Args:
        x: (n, F) standardised features.
        z: (n,) labels of mean 0.
        start: the weight around which the prior holds all of them, or one a feature, (F,).
        noise: where the search for the noise begins.
        spread: of the prior, natural log.
        iterations: of L-BFGS at most.
    """
    f = x.shape[1]
    middle = np.broadcast_to(np.log(start), (f,))

    def loss(at: Matrix) -> tuple[float, Matrix]:
        """Returns the negative log posterior and its slope at logarithms of F relevances and the noise, (F + 1,)."""
        value, slope = _negative_log_likelihood(x, z, np.exp(at[:f]), float(np.exp(at[f])))
        off, off_noise = at[:f] - middle, at[f] - np.log(NOISE)
        value += 0.5 * float(off @ off) / spread**2 + 0.5 * float(off_noise / NOISE_SPREAD) ** 2
        slope[:f] += off / spread**2
        slope[f] += off_noise / NOISE_SPREAD**2
        return value, slope

    begin = np.append(middle, np.log(noise))
    limits = [(BOUNDS[0] + m, BOUNDS[1] + m) for m in middle] + [(np.log(1e-3), np.log(0.5))]
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": iterations})
    return np.exp(found.x[:f]), float(np.exp(found.x[f])), -float(found.fun)


def _negative_log_likelihood(x: Matrix, z: Matrix, weights: Matrix, noise: float) -> tuple[float, Matrix]:
    """Returns the negative log marginal likelihood, the signal's variance at its best, and its slope (F + 1,).

    The slope is with respect to the logarithms of weights and noise.
    """
    n = len(z)
    weighted = x * weights
    inner = weighted @ x.T  # (n, n)
    squared = np.maximum(inner.diagonal()[:, None] + inner.diagonal() - 2 * inner, 0.0)
    r = ROOT5 * np.sqrt(squared)
    falling = np.exp(-r)
    kernel = (1 + r + r * r / 3) * falling
    kernel.flat[:: n + 1] += noise
    factor = cholesky(kernel, lower=True, overwrite_a=True, check_finite=False)
    inverse = _inverse(factor)
    a = inverse @ z
    variance = float(z @ a) / n
    value = 0.5 * n * float(np.log(variance)) + float(np.log(factor.diagonal()).sum())
    to_kernel = 0.5 * (inverse - np.outer(a, a) / variance)  # d value / d kernel
    to_squared = to_kernel * (-5 / 6) * (1 + r) * falling
    # sum_ij G_ij (x_if - x_jf)^2 = 2 sum_i g_i x_if^2 - 2 sum_ij x_if G_ij x_jf, for symmetric G with row sums g
    to_weights = 2 * ((x * x * to_squared.sum(1)[:, None]).sum(0) - (x * (to_squared @ x)).sum(0))
    return value, np.append(to_weights * weights, to_kernel.diagonal().sum() * noise)


def _inverse(factor: Matrix) -> Matrix:
    """Returns the (n, n) inverse of the matrix whose lower Cholesky factor is given."""
    inverse, _ = dpotri(factor, lower=1)  # fills the lower half
    return np.tril(inverse) + np.tril(inverse, -1).T
