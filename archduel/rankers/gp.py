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
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.special import ndtr

from archduel.core import Arch, Space, State
from archduel.errors import SettingError, StateError
from archduel.rankers.described import Described
from archduel.rankers.labels import check_labels, check_sides
from archduel.rankers.relevance import distance, factor_of, first_guess, matern, relevances

__all__ = ["GaussianProcess"]

Matrix = NDArray[np.float64]
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


class GaussianProcess:
    """Regression with a Matern 5/2 kernel on features that count as much as they matter; predicts in the labels' unit.

    Args:
        space: gives features.
        spread: how far (natural log) a feature's relevance may easily be from the common one; 0 = all are equal.
        iterations: of the search for relevances.
        share: of the features that a fit looks at, drawn anew for each number of labels; below 1, what chance
            correlations hide in one fit is seen in the next.
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
        iterations: int = 8,
        share: float = 1.0,
        floor: float = 2.0,
        reference: int = 2_000,
        seed: int = 0,
    ) -> None:
        if spread < 0 or iterations < 0 or floor <= 0 or reference < 2 or not 0 < share <= 1:
            raise SettingError(
                "spread and iterations must not be negative, floor above 0, reference at least 2, "
                f"share above 0 and at most 1; got {spread}, {iterations}, {floor}, {reference}, {share}"
            )
        self.space, self.spread, self.iterations, self.floor = space, spread, iterations, floor
        self.share, self.seed = share, seed
        self.described = Described(space, reference=reference, seed=seed)
        self._posterior: _Posterior | None = None

    def _kernel(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N, n) the kernel between architectures and labels."""
        known = self._known()
        return matern(distance(self.described.features(archs) * known.scale, known.x))

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
        x, z = self.described.features(unique), (y - centre) / spread
        scale = self._picked(len(unique))
        seen, few = x[:, scale > 0] * scale[scale > 0], slice(0, GRID_LABELS)
        likelihood, length, noise = first_guess(distance(seen[few], seen[few]), z[few])
        relevance = np.full(seen.shape[1], length**-2.0)
        if self.spread and self.iterations:
            relevance, noise, likelihood = relevances(
                seen[few],
                z[few],
                start=length**-2.0,
                noise=noise,
                spread=self.spread,
                iterations=self.iterations,
            )
        scale[scale > 0] *= np.sqrt(relevance)
        factor = factor_of(matern(distance(x * scale, x * scale)), noise)
        weights = cho_solve((factor, True), z)
        variance = float(z @ weights) / len(z)
        self._posterior = _Posterior(scale, x * scale, factor, weights, noise, variance, centre, spread)
        return {"length": length, "noise": noise, "log_density": likelihood}

    def _picked(self, labels: int) -> Matrix:
        """Returns (F,) zeros for features that a fit to this many labels leaves out, else what keeps distances alike."""
        f = len(self.described)
        chosen = np.random.default_rng([self.seed, labels]).permutation(f) < np.ceil(self.share * f)
        return np.asarray(chosen * np.sqrt(f / max(1, chosen.sum())))

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

    def beliefs(self, archs: Sequence[Arch], *, assumed: Sequence[Arch] = ()) -> tuple[Matrix, Matrix]:
        """Returns what ``predict`` and ``uncertainty`` return, each (N,), in single precision and several times faster.

        With ``assumed``: as if those had been labelled too, each with just what is expected of it. Give the same tuple
        again (not a list) to have it described only once.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        known = self._assuming(assumed) if assumed else self._known()
        picked = known.scale > 0
        x, mean, deviation = self.described.single(archs)[:, picked], *np.empty((2, len(archs)))
        labels = (known.x * known.scale)[:, picked].T.astype(np.float32)
        lengths, squares = (known.scale[picked] ** 2).astype(np.float32), (known.x**2).sum(1).astype(np.float32)
        factor = known.factor.astype(np.float32)
        for start in range(0, len(archs), CHUNK):
            part = slice(start, start + CHUNK)
            kernel = matern(
                np.maximum((x[part] ** 2 @ lengths)[:, None] + squares - 2 * (x[part] @ labels), 0)
            )  # (N, n)
            mean[part] = kernel @ known.weights.astype(np.float32)
            explained = solve_triangular(factor, kernel.T, lower=True, check_finite=False)
            deviation[part] = np.sqrt(
                np.maximum(1 - np.einsum("ij,ij->j", explained, explained), 1e-6) * known.variance
            )
        return known.centre + known.spread * mean, known.spread * deviation

    def _assuming(self, archs: Sequence[Arch]) -> _Posterior:
        """Returns the posterior as if ``archs`` had the labels that are expected of them: only deviations change."""
        known = self._known()
        x = self.described.features(archs) * known.scale
        across = solve_triangular(
            known.factor, matern(distance(known.x, x)), lower=True, check_finite=False
        )  # (n, m)
        corner = factor_of(matern(distance(x, x)) - across.T @ across, known.noise)
        factor = np.block([[known.factor, np.zeros_like(across)], [across.T, corner]])
        weights = np.append(known.weights, np.zeros(len(x)))
        return replace(known, x=np.concatenate([known.x, x]), factor=factor, weights=weights)

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
        known = self._known()
        deviation = np.empty(len(archs))
        for start in range(0, len(archs), CHUNK):
            kernel = self._kernel(archs[start : start + CHUNK])  # (N, n)
            explained = solve_triangular(known.factor, kernel.T, lower=True, check_finite=False)
            deviation[start : start + CHUNK] = np.maximum(1 - (explained * explained).sum(0), 1e-12)
        return known.spread * np.sqrt(deviation * known.variance)

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
        x, kernel = self.described.features(list(places)), self._kernel(list(places))
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
        if state and state["x"].shape[1] != len(self.described):
            raise StateError(
                f"the state has {state['x'].shape[1]} features, {self.space.name} has {len(self.described)}"
            )
        self._posterior = _Posterior(**state) if state else None
