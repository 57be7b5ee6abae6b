"""A Gaussian process on the space's features: few labels, honest uncertainty, fitted in milliseconds.

Features are standardised over random architectures of the space, so that the numbers of one fit do not depend on which
architectures happened to be labelled. Scores far below the middle teach only that they are bad: they are lifted to a floor,
because a smooth function cannot follow networks that did not train at all. A common length scale and the noise maximise the
marginal likelihood over a small grid; from there each feature finds how much it counts (see ``relevance``). The signal's
variance follows in closed form.

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", MIT Press 2006, Algorithm 2.1 and section 5.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import ndtr

from archduel.core import Arch, Space, State, sample
from archduel.errors import SettingError, StateError
from archduel.rankers.labels import check_archs, check_labels, check_sides
from archduel.rankers.relevance import matern, relevances

__all__ = ["GaussianProcess"]

Matrix = NDArray[np.float64]
LENGTHS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""In units of a feature's standard deviation, as if all features were that far apart."""
NOISES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Label variance over signal variance."""
KEPT = 50_000
"""Architectures whose features are kept."""
CHUNK = 16_384
"""Architectures judged at a time."""
GRID_LABELS = 400
"""Length and noise are chosen on at most this many labels."""


@dataclass(frozen=True)
class _Posterior:
    """What a fit found from n labels."""

    scale: Matrix  # (F,) factor of each standardised feature: square root of its relevance
    x: Matrix  # (n, F) scaled features
    factor: Matrix  # (n, n) lower Cholesky factor of kernel + noise
    weights: Matrix  # (n,)
    noise: float
    variance: float  # of the signal, for labels of centre 0 and spread 1
    centre: float
    spread: float


def _distance(first: Matrix, second: Matrix) -> Matrix:
    """Returns (N, M) squared distances."""
    squared = (first * first).sum(1)[:, None] + (second * second).sum(1) - 2 * first @ second.T
    return np.maximum(squared, 0.0)


class GaussianProcess:
    """Regression with a Matern 5/2 kernel on features that count as much as they matter; predicts in the labels' unit.

    Args:
        space: gives features.
        spread: how far (natural log) a feature's relevance may easily be from the common one; 0 = all are equal.
        iterations: of the search for relevances.
        floor: labels lower than the median minus this many times (upper decile - median) are lifted to it.
        reference: random architectures that features are standardised over.
        seed: of those architectures.

    Raises:
        SettingError: for settings out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        spread: float = 1.5,
        iterations: int = 20,
        floor: float = 2.0,
        reference: int = 2_000,
        seed: int = 0,
    ) -> None:
        if spread < 0 or iterations < 0 or floor <= 0 or reference < 2:
            raise SettingError(
                "spread and iterations must not be negative, floor above 0, reference at least 2; "
                f"got {spread}, {iterations}, {floor}, {reference}"
            )
        self.space, self.spread, self.iterations, self.floor = space, spread, iterations, floor
        rng = np.random.default_rng(seed)
        x = np.asarray(space.features([sample(space, rng) for _ in range(reference)]), np.float64)
        deviation = x.std(0)
        self._mean, self._used = x.mean(0), deviation > 1e-6
        self._scale = 1.0 / (
            deviation[self._used] * np.sqrt(max(1, self._used.sum()))
        )  # squared distances average 2
        self._rows: dict[Arch, int] = {}
        self._x: Matrix = np.empty((0, len(self._scale)))
        self._posterior: _Posterior | None = None

    def _encoded(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N, F) standardised features."""
        x = np.asarray(self.space.features(archs), np.float64) - self._mean
        return np.asarray(x[:, self._used] * self._scale)

    def _places(self, archs: Sequence[Arch]) -> list[int]:
        """Returns the rows of ``_x`` that hold the architectures; each is encoded once."""
        places = [self._rows.get(arch, -1) for arch in archs]
        if -1 not in places:
            return places
        check_archs(self.space, archs)
        if len(self._rows) > KEPT:  # a cache, not a leak
            self._rows, self._x = {}, self._x[:0]
        new = list(dict.fromkeys(arch for arch in archs if arch not in self._rows))
        self._rows.update((arch, len(self._x) + i) for i, arch in enumerate(new))
        self._x = np.concatenate([self._x, self._encoded(new)])
        return [self._rows[arch] for arch in archs]

    def _features(self, archs: Sequence[Arch]) -> Matrix:
        places = self._places(archs)
        return self._x[places]

    def _kernel(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N, n) the kernel between architectures and labels."""
        known = self._known()
        return matern(_distance(self._features(archs) * known.scale, known.x))

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Any = None
    ) -> Mapping[str, float]:
        """Learns from scratch; ``pairs`` are not used. Returns common length, noise and log posterior density.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        unique, labels = check_labels(self.space, archs, scores)
        y = self._lifted(labels)
        centre, spread = float(y.mean()), float(y.std())
        x, z = self._features(unique), (y - centre) / spread
        few = slice(0, GRID_LABELS)
        likelihood, length, noise = _chosen(_distance(x[few], x[few]), z[few])
        relevance = np.full(x.shape[1], length**-2.0)
        if self.spread and self.iterations:
            relevance, noise, likelihood = relevances(
                x[few], z[few], start=length**-2.0, noise=noise, spread=self.spread, iterations=self.iterations
            )
        scale = np.sqrt(relevance)
        factor = _factor(matern(_distance(x * scale, x * scale)), noise)
        weights = cho_solve((factor, True), z)
        variance = float(z @ weights) / len(z)
        self._posterior = _Posterior(scale, x * scale, factor, weights, noise, variance, centre, spread)
        return {"length": length, "noise": noise, "log_density": likelihood}

    def _lifted(self, labels: Matrix) -> Matrix:
        middle, high = np.quantile(labels, [0.5, 0.9])
        lifted = np.maximum(labels, middle - self.floor * (high - middle))
        return np.asarray(
            lifted if np.ptp(lifted) > 0 else labels
        )  # all equal where most labels are the best

    def _known(self) -> _Posterior:
        if self._posterior is None:
            raise StateError("the Gaussian process has learned nothing yet; call fit first")
        return self._posterior

    def beliefs(self, archs: Sequence[Arch]) -> tuple[Matrix, Matrix]:
        """Returns what ``predict`` and ``uncertainty`` return, each (N,), for little more than the price of one.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        known = self._known()
        mean, deviation = np.empty((2, len(archs)))
        for start in range(0, len(archs), CHUNK):
            part = slice(start, start + CHUNK)
            kernel = self._kernel(archs[part])  # (N, n)
            mean[part] = kernel @ known.weights
            explained = solve_triangular(known.factor, kernel.T, lower=True, check_finite=False)
            deviation[part] = np.sqrt(np.maximum(1 - (explained * explained).sum(0), 1e-12) * known.variance)
        return known.centre + known.spread * mean, known.spread * deviation

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N,) expected scores, in the unit of the labels.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        known = self._known()
        parts = [self._kernel(archs[i : i + CHUNK]) @ known.weights for i in range(0, len(archs), CHUNK)]
        return known.centre + known.spread * np.concatenate([np.empty(0), *parts])

    def uncertainty(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N,) standard deviations of the noise-free score, in the unit of the labels.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        return self.beliefs(archs)[1]

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> Matrix:
        """Returns (P,) probabilities that training ``first[i]`` scores at least as high as training ``second[i]``.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
            SettingError: for sides of different lengths.
        """
        check_sides(first, second)
        known = self._known()
        places = {arch: i for i, arch in enumerate(dict.fromkeys([*first, *second]))}
        x, kernel = self._features(list(places)), self._kernel(list(places))
        mean = kernel @ known.weights
        explained = solve_triangular(known.factor, kernel.T, lower=True, check_finite=False)  # (n, U)
        a, b = (
            np.array([places[arch] for arch in first], int),
            np.array([places[arch] for arch in second], int),
        )
        apart = matern((((x[a] - x[b]) * known.scale) ** 2).sum(1))
        variance = 2 - 2 * apart - ((explained[:, a] - explained[:, b]) ** 2).sum(0) + 2 * known.noise
        return np.asarray(ndtr((mean[a] - mean[b]) / np.sqrt(np.maximum(variance, 1e-12) * known.variance)))

    def state_dict(self) -> State:
        """Returns what was learned."""
        return {} if self._posterior is None else asdict(self._posterior)

    def load_state_dict(self, state: State) -> None:
        """Takes what another learned.

        Raises:
            StateError: if the state is of another space.
        """
        if state and state["x"].shape[1] != len(self._scale):
            raise StateError(
                f"the state has {state['x'].shape[1]} features, {self.space.name} has {len(self._scale)}"
            )
        self._posterior = _Posterior(**state) if state else None


def _factor(kernel: Matrix, noise: float) -> Matrix:
    """Returns (n, n) the lower Cholesky factor of ``kernel`` with ``noise`` on the diagonal."""
    kernel = kernel.copy()
    kernel.flat[:: len(kernel) + 1] += noise
    return np.asarray(cholesky(kernel, lower=True, overwrite_a=True, check_finite=False))


def _chosen(squared: Matrix, z: Matrix) -> tuple[float, float, float]:
    """Returns the highest log marginal likelihood of the grid, and its length and noise."""
    best = (-np.inf, LENGTHS[0], NOISES[0])
    for length in LENGTHS:
        kernel = matern(squared / length**2)
        for noise in NOISES:
            factor = _factor(kernel, noise)
            variance = float(z @ cho_solve((factor, True), z, check_finite=False)) / len(z)
            likelihood = -0.5 * len(z) * np.log(variance) - float(np.log(factor.diagonal()).sum())
            best = max(best, (likelihood, length, noise))
    return best
