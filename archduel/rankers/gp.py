"""A Gaussian process on architectures' columns: few labels, honest uncertainty, fitted in milliseconds.

One process serves the ranker ``gp`` and the jury of ``best``; they differ in the smoothness of the kernel (Matern 3/2 or 5/2)
and in where its hyper-parameters come from: a :class:`Grid` of length scales and noises, the most probable :class:`Relevances`
of single columns, or the one after the other. With a hundred columns and a few dozen labels, maximum likelihood alone would
follow chance; a prior that holds all relevances near their start lets labels speak only where they say something.

Sources: Rasmussen and Williams, "Gaussian Processes for Machine Learning", MIT Press 2006, Algorithm 2.1 and sections 5.1, 5.4;
Hvarfner et al., "Vanilla Bayesian Optimization Performs Great in High Dimensions", ICML 2024, for the worth of such priors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize
from scipy.special import ndtr

from archduel.core import Arch, Space, State
from archduel.errors import SettingError, StateError, check_at_least, check_positive, check_share
from archduel.rankers.columns import FeatureCache, check_view
from archduel.rankers.labels import check_labels, check_sides, floored

__all__ = [
    "GaussianProcess", "Grid", "Hyperparameters", "Process", "Relevances", "Start", "distance", "hyperparameters", "matern",
    "negative_log_likelihood", "posterior",
]  # fmt: skip

Matrix = NDArray[np.float64]
ROOT3, ROOT5 = np.sqrt(3.0), np.sqrt(5.0)
# Architectures judged at a time: their kernel with 400 labels in double precision is then 50 MB.
CHUNK = 16_384
# Hyper-parameters are chosen on at most this many labels: a likelihood takes a millisecond then, a second with 4,000 labels,
# and a fit takes about forty of them.
GRID_LABELS = 400
# Centre and spread of the noise's log-normal prior, label variance over signal variance. On NAS-Bench-201 two full trainings
# agree with tau 0.905, for normal values a noise of 0.01; short ones are noisier, and a factor of exp(1.5) = 4.5 no surprise.
NOISE, NOISE_SPREAD = 0.03, 1.5
# Below 0.001 the kernel of near-equal architectures is hardly positive definite; above one half a process says little.
NOISE_BOUNDS = 1e-3, 0.5
# How far (natural log) a relevance may move from its start: at exp(-8) a column is switched off, at exp(6) it alone decides.
BOUNDS = (-8.0, 6.0)
# Share of the signal's variance that is left at least: rounding must not make it negative at labelled architectures.
LEAST_VARIANCE, LEAST_VARIANCE_SINGLE = 1e-12, 1e-6


def matern(squared: NDArray[Any], smoothness: float = 2.5) -> NDArray[Any]:
    """The Matern kernel of squared distances in units of the length scale, in their precision.

    ``smoothness`` is 1.5 (once differentiable) or 2.5 (twice); SettingError for another.
    """
    _check_smoothness(smoothness)
    if smoothness == 1.5:
        r = np.sqrt(3 * squared)
        return np.asarray((1 + r) * np.exp(-r))
    # In place: searches judge whole spaces with this one, and five copies of the kernel would be the largest thing in memory.
    r = np.sqrt(squared)
    r *= r.dtype.type(ROOT5)
    kernel = r * r
    kernel /= 3
    kernel += r
    kernel += 1
    kernel *= np.exp(np.negative(r, out=r), out=r)
    return np.asarray(kernel)


def _check_smoothness(smoothness: float) -> None:
    if smoothness not in (1.5, 2.5):
        raise SettingError(f"smoothness is {smoothness}, expected 1.5 or 2.5")


def distance(first: Matrix, second: Matrix) -> Matrix:
    """(N, M) squared distances between rows."""
    squared = (first * first).sum(1)[:, None] + (second * second).sum(1) - 2 * (first @ second.T)
    # A difference of large numbers may round to below zero, and the kernel takes its root.
    return np.maximum(squared, 0.0, out=squared)


def _factor_of(kernel: Matrix, noise: float) -> Matrix:
    """(n, n) the lower Cholesky factor of ``kernel`` with ``noise`` on the diagonal."""
    kernel = kernel.copy()
    kernel.flat[:: len(kernel) + 1] += noise
    return np.asarray(cholesky(kernel, lower=True, overwrite_a=True, check_finite=False))


class Grid(NamedTuple):
    """Length scale and noise are those of a small grid with the highest marginal likelihood.

    Attributes:
        lengths: candidates for the length scale.
        noises: candidates for label variance over signal variance.
        in_medians: whether lengths are in units of the median distance between labelled architectures; otherwise in units of
            the columns.
    """

    lengths: tuple[float, ...]
    noises: tuple[float, ...]
    in_medians: bool = False

    def best(self, squared: Matrix, z: Matrix, smoothness: float) -> tuple[float, float, float]:
        """Length scale in units of the columns, noise, and log marginal likelihood (up to a constant) of the best candidate.

        ``squared`` are the (n, n) distances of the labels ``z`` (n,), whose mean is 0.
        """
        # Pairs at distance 0 are architectures that the columns cannot tell apart: no measure of how far others are.
        apart = squared[squared > 1e-12] if self.in_medians else np.empty(0)
        median = float(np.median(apart)) if apart.size else 1.0
        squared = squared / median
        best = (-np.inf, self.lengths[0], self.noises[0])
        for length in self.lengths:
            kernel = matern(squared / length**2, smoothness)
            # One Cholesky factor a noise takes a quarter of the time of one eigendecomposition for all (n = 500, 7 noises).
            for noise in self.noises:
                factor = _factor_of(kernel, noise)
                variance = float(z @ cho_solve((factor, True), z, check_finite=False)) / len(z)
                likelihood = -0.5 * len(z) * np.log(variance) - float(np.log(factor.diagonal()).sum())
                best = max(best, (float(likelihood), length, noise))
        return best[1] * float(np.sqrt(median)), best[2], best[0]


class Start(NamedTuple):
    """Known hyper-parameters: (U,) weights of columns in squared distances, and the noise."""

    relevance: Matrix
    noise: float


class Relevances(NamedTuple):
    """How the most probable weight of each column in squared distances is searched for.

    Attributes:
        spread: how far (natural log) a weight may easily be from where it starts.
        iterations: of L-BFGS at most; to stop early is one more guard against following chance.
    """

    spread: float
    iterations: int

    def search(self, x: Matrix, z: Matrix, *, start: Matrix, noise: float, smoothness: float) -> tuple[Matrix, float, float]:
        """(U,) weights, the noise, and the log posterior density (up to a constant).

        Args:
            x: (n, U) standardised columns.
            z: (n,) labels of mean 0.
            start: (U,) the weights around which the prior holds them.
            noise: where the search for the noise begins.
            smoothness: of the kernel.
        """
        f, middle = x.shape[1], np.log(start)

        def loss(at: Matrix) -> tuple[float, Matrix]:
            """The negative log posterior and its gradient at logarithms of U weights and the noise, (U + 1,)."""
            weights, at_noise = np.exp(at[:f]), float(np.exp(at[f]))
            value, gradient = negative_log_likelihood(x, z, weights, at_noise, smoothness=smoothness)
            # Log-normal priors: a quadratic in the logarithm, whose gradient is the offset over the squared spread.
            off, off_noise = at[:f] - middle, at[f] - np.log(NOISE)
            value += 0.5 * float(off @ off) / self.spread**2 + 0.5 * float(off_noise / NOISE_SPREAD) ** 2
            gradient[:f] += off / self.spread**2
            gradient[f] += off_noise / NOISE_SPREAD**2
            return value, gradient

        limits = [*((BOUNDS[0] + m, BOUNDS[1] + m) for m in middle), tuple(np.log(NOISE_BOUNDS))]
        begin, options = np.append(middle, np.log(noise)), {"maxiter": self.iterations}
        result = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=limits, options=options)
        return np.exp(result.x[:f]), float(np.exp(result.x[f])), -float(result.fun)


class Hyperparameters(NamedTuple):
    """What a process needs beside its labels.

    Attributes:
        scale: (F,) factor of each column; 0 = not looked at.
        noise: label variance over signal variance.
        length: the common length scale of the grid, nan without one.
        log_density: of the last of grid and relevances, up to a constant.
    """

    scale: Matrix
    noise: float
    length: float
    log_density: float


def hyperparameters(
    x: Matrix, z: Matrix, *, unit: Matrix, start: Grid | Start, relevances: Relevances | None = None, smoothness: float = 2.5
) -> Hyperparameters:
    """The hyper-parameters of labels ``z``: from a grid or known, then column by column if ``relevances`` are searched for.

    Args:
        x: (n, F) columns of comparable spread.
        z: (n,) labels of mean 0 and spread 1.
        unit: (F,) factor of each column before anything is learned; 0 = the column is not looked at.
        start: where length scale (or weights) and noise come from.
        relevances: how single columns find their weight; None = they keep those of ``start``.
        smoothness: of the kernel, 1.5 or 2.5.
    """
    seen, scale = unit > 0, unit.copy()
    inner = x[:, seen] * unit[seen]
    if isinstance(start, Grid):
        length, noise, density = start.best(distance(inner, inner), z, smoothness)
        if relevances is None:
            return Hyperparameters(scale / length, noise, length, density)
        start = Start(np.full(inner.shape[1], length**-2.0), noise)
    else:
        length = density = float("nan")
    relevance, noise = start
    if relevances is not None:
        relevance, noise, density = relevances.search(inner, z, start=relevance, noise=noise, smoothness=smoothness)
    scale[seen] *= np.sqrt(relevance)
    return Hyperparameters(scale, noise, length, density)


def negative_log_likelihood(x: Matrix, z: Matrix, weights: Matrix, noise: float, *, smoothness: float = 2.5) -> tuple[float, Matrix]:
    """The negative log marginal likelihood, the signal's variance at its best, and its gradient, (F + 1,).

    The gradient is with respect to the logarithms of ``weights`` (F,) of columns in squared distances and of ``noise``.
    """
    _check_smoothness(smoothness)
    n, inner = len(z), (x * weights) @ x.T  # (n, n)
    squared = np.maximum(inner.diagonal()[:, None] + inner.diagonal() - 2 * inner, 0.0)
    r = (ROOT5 if smoothness == 2.5 else ROOT3) * np.sqrt(squared)
    falling = np.exp(-r)
    # Not `matern`, because value and gradient share the exponential, which is most of the work.
    kernel = (1 + r + r * r / 3) * falling if smoothness == 2.5 else (1 + r) * falling
    kernel.flat[:: n + 1] += noise
    factor = cholesky(kernel, lower=True, overwrite_a=True, check_finite=False)
    inverse = _inverse(factor)
    a = inverse @ z
    # The variance v enters as n/2 log v + z K^-1 z / (2 v); its best value is z K^-1 z / n, which leaves n/2 log v.
    variance = float(z @ a) / n
    value = 0.5 * n * float(np.log(variance)) + float(np.log(factor.diagonal()).sum())
    # d value / d K = (K^-1 - K^-1 z z K^-1 / v) / 2, equation 5.9 of Rasmussen and Williams; v needs no term of its own,
    # because the value does not change with it at its best.
    to_kernel = 0.5 * (inverse - np.outer(a, a) / variance)
    # d kernel / d squared distance: -5/6 (1 + r) exp(-r) for 5/2, -3/2 exp(-r) for 3/2. Both are finite at r = 0, so that
    # equal architectures need no case of their own, as they would with the distance that is not squared.
    to_squared = to_kernel * (-5 / 6) * (1 + r) * falling if smoothness == 2.5 else to_kernel * -1.5 * falling
    # sum_ij G_ij (x_if - x_jf)^2 = 2 sum_i g_i x_if^2 - 2 sum_ij x_if G_ij x_jf, for symmetric G with row sums g.
    to_weights = 2 * ((x * x * to_squared.sum(1)[:, None]).sum(0) - (x * (to_squared @ x)).sum(0))
    # d / d log w = w d / d w; the noise stands on the diagonal alone.
    return value, np.append(to_weights * weights, to_kernel.diagonal().sum() * noise)


def _inverse(factor: Matrix) -> Matrix:
    """(n, n) the inverse of the matrix whose lower Cholesky factor is given."""
    # LAPACK fills the lower half only, in half the time of solving for the identity.
    inverse, _ = dpotri(factor, lower=1)
    return np.tril(inverse) + np.tril(inverse, -1).T


@dataclass(frozen=True)
class Process:
    """A Gaussian process after n labels, inside of mean 0 and spread 1; it answers in the unit of the labels.

    Attributes:
        scale: (F,) factor of each column; 0 = not looked at.
        x: (n, F) scaled columns of the labelled architectures.
        factor: (n, n) lower Cholesky factor of kernel + noise.
        weights: (n,) that kernels are summed with.
        noise: label variance over signal variance.
        variance: of the signal, for labels of mean 0 and spread 1.
        centre: mean of the labels.
        spread: their standard deviation.
        smoothness: of the kernel.
    """

    scale: Matrix
    x: Matrix
    factor: Matrix
    weights: Matrix
    noise: float
    variance: float
    centre: float
    spread: float
    smoothness: float = 2.5

    @property
    def noise_variance(self) -> float:
        """Of a label, in the unit of the labels squared."""
        return self.noise * (self.variance * self.spread**2)

    def kernel(self, x: Matrix) -> Matrix:
        """(N, n) the kernel between columns ``x`` (N, F) and the labelled architectures."""
        return matern(distance(x * self.scale, self.x), self.smoothness)

    def explained(self, kernel: NDArray[Any]) -> NDArray[Any]:
        """(n, N) what labels say of N architectures with (N, n) kernels: its squares sum to the explained variance."""
        factor = self.factor.astype(kernel.dtype, copy=False)
        return np.asarray(solve_triangular(factor, kernel.T, lower=True, check_finite=False))

    def believe(self, x: Matrix, *, deviation: bool = True) -> tuple[Matrix, Matrix]:
        """(N,) means and (N,) standard deviations (empty unless ``deviation``) of noise-free values at ``x`` (N, F)."""
        kernel = self.kernel(x)
        mean = self.centre + kernel @ (self.weights * self.spread)
        if not deviation:
            return mean, np.empty(0)
        explained = self.explained(kernel)
        left = np.maximum(1 - (explained * explained).sum(0), LEAST_VARIANCE)
        return mean, np.sqrt(self.variance * self.spread**2 * left)


def posterior(x: Matrix, y: Matrix, given: Hyperparameters, *, smoothness: float = 2.5) -> Process:
    """The process of labels ``y`` (n,) of architectures with columns ``x`` (n, F), Algorithm 2.1."""
    # Equal labels have no spread to be divided by.
    centre, spread = float(y.mean()), float(y.std()) or 1.0
    z, scaled = (y - centre) / spread, x * given.scale
    # Two arrays: of one, NumPy makes a symmetric product that rounds differently, and recorded numbers would move.
    kernel = matern(distance(scaled, x * given.scale), smoothness)
    # Set, not added: the distance of an architecture to itself is 0, which rounding may have missed.
    kernel.flat[:: len(kernel) + 1] = 1 + given.noise
    factor = np.asarray(cholesky(kernel, lower=True, overwrite_a=True, check_finite=False))
    weights = cho_solve((factor, True), z, check_finite=False)
    variance = float(z @ weights) / len(z)
    return Process(given.scale, scaled, factor, weights, given.noise, variance, centre, spread, smoothness)


class GaussianProcess:
    """A ranker that regresses labels with a Gaussian process whose columns count as much as they matter.

    Scores far below the middle are lifted to a floor: a smooth function cannot follow networks that did not train at all.

    Args:
        space: gives features.
        spread: how far (natural log) a feature's relevance may easily be from the common one; 0 = all are equal.
        iterations: of the search for relevances; 0 = all are equal.
        share: of the features that a fit looks at, drawn anew for each number of labels; below 1, what chance correlations hide
            in one fit is seen in the next.
        floor: labels lower than the median minus this many times (upper decile - median) are lifted to it.
        reference: random architectures that features are standardised over.
        seed: of those architectures, and of the drawn features.
        smoothness: of the Matern kernel, 1.5 or 2.5.
        view: what is seen of an architecture: its ``effect``, what it computes; ``graph``: how it is written down too.

    Raises:
        SettingError: for settings out of range.
    """

    # Features are standardised so that squared distances average 2: these span "every architecture is its own
    # island" (0.35) to "nearly linear" (2), in steps of 1.4, finer than a few dozen labels can tell apart.
    GRID = Grid((0.35, 0.5, 0.7, 1.0, 1.4, 2.0), (0.003, 0.01, 0.03, 0.1, 0.3))

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
        smoothness: float = 2.5,
        view: str = "effect",
    ) -> None:
        check_view(view)
        check_at_least(0, spread=spread, iterations=iterations)
        check_at_least(2, reference=reference)
        check_positive(floor=floor)
        check_share(share=share)
        _check_smoothness(smoothness)
        self.space, self.floor, self.share, self.seed, self.smoothness = space, floor, share, seed, smoothness
        self.features = FeatureCache(space, reference=reference, seed=seed, view=view)
        self.relevances = Relevances(spread, iterations) if spread and iterations else None
        self._process: Process | None = None

    def fit(self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Any = None) -> Mapping[str, float]:
        """Common length, noise and log posterior density, after learning from scratch; ``pairs`` are not used.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        unique, labels = check_labels(self.space, archs, scores)
        x, y = self.features.double(unique), floored(labels, self.floor)
        z, few = (y - y.mean()) / y.std(), slice(0, GRID_LABELS)
        unit, nu = self._drawn(len(unique)), self.smoothness
        given = hyperparameters(x[few], z[few], unit=unit, start=self.GRID, relevances=self.relevances, smoothness=nu)
        self._process = posterior(x, y, given, smoothness=nu)
        return {"length": given.length, "noise": given.noise, "log_density": given.log_density}

    def _drawn(self, labels: int) -> Matrix:
        """(F,) zeros for features that a fit to this many labels leaves out, else what keeps distances alike."""
        f = len(self.features)
        drawn = np.random.default_rng([self.seed, labels]).permutation(f) < np.ceil(self.share * f)
        return np.asarray(drawn * np.sqrt(f / max(1, drawn.sum())))

    def process(self) -> Process:
        """The fitted process; raises StateError before fit."""
        if self._process is None:
            raise StateError("the Gaussian process has learned nothing yet; call fit first")
        return self._process

    def beliefs(self, archs: Sequence[Arch], *, assumed: Sequence[Arch] = ()) -> tuple[Matrix, Matrix]:
        """What ``predict`` and ``uncertainty`` return, each (N,), in single precision and several times faster.

        With ``assumed``: as if those had been labelled too, as expected. The same tuple (not a list) is described once.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        process = self._assuming(assumed) if assumed else self.process()
        seen, (mean, deviation) = process.scale > 0, np.empty((2, len(archs)))
        x = self.features.single(archs)[:, seen]
        # |a|^2 + |b|^2 - 2 a b with the scale on the side of the labels, so that x, the larger, is not copied.
        labels = (process.x * process.scale)[:, seen].T.astype(np.float32)
        lengths, squares = (process.scale[seen] ** 2).astype(np.float32), (process.x**2).sum(1).astype(np.float32)
        process = replace(process, factor=process.factor.astype(np.float32))
        for start in range(0, len(archs), CHUNK):
            part = slice(start, start + CHUNK)
            squared = (x[part] ** 2 @ lengths)[:, None] + squares - 2 * (x[part] @ labels)
            kernel = matern(np.maximum(squared, 0), self.smoothness)  # (N, n)
            mean[part] = kernel @ process.weights.astype(np.float32)
            explained = process.explained(kernel)
            left = np.maximum(1 - np.einsum("ij,ij->j", explained, explained), LEAST_VARIANCE_SINGLE)
            deviation[part] = np.sqrt(left * process.variance)
        return process.centre + process.spread * mean, process.spread * deviation

    def _assuming(self, archs: Sequence[Arch]) -> Process:
        """The process as if ``archs`` had the labels that are expected of them: only deviations change."""
        known = self.process()
        x = self.features.double(archs) * known.scale
        # Cholesky by blocks: the old factor stays, new rows and the corner that is left are appended.
        across = known.explained(matern(distance(x, known.x), self.smoothness))  # (n, m)
        corner = _factor_of(matern(distance(x, x), self.smoothness) - across.T @ across, known.noise)
        factor = np.block([[known.factor, np.zeros_like(across)], [across.T, corner]])
        # A label that is just what was expected moves no mean, which is to say that its weight is 0.
        weights = np.append(known.weights, np.zeros(len(x)))
        return replace(known, x=np.concatenate([known.x, x]), factor=factor, weights=weights)

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) expected scores, in the unit of the labels; raises StateError before fit, InvalidArchError for another space's."""
        return np.concatenate([np.empty(0), *(mean for mean, _ in self._chunks(archs, deviation=False))])

    def uncertainty(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) standard deviations of the noise-free score; raises StateError before fit, InvalidArchError for another space's."""
        return np.concatenate([np.empty(0), *(spread for _, spread in self._chunks(archs, deviation=True))])

    def _chunks(self, archs: Sequence[Arch], *, deviation: bool) -> list[tuple[Matrix, Matrix]]:
        process = self.process()
        parts = (self.features.double(archs[i : i + CHUNK]) for i in range(0, len(archs), CHUNK))
        return [process.believe(part, deviation=deviation) for part in parts]

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> Matrix:
        """(P,) probabilities that training ``first[i]`` scores at least as high as training ``second[i]``.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
            SettingError: for sides of different lengths.
        """
        check_sides(first, second)
        process = self.process()
        places = {arch: i for i, arch in enumerate(dict.fromkeys([*first, *second]))}
        kernel = process.kernel(x := self.features.double(list(places)))
        mean, explained = kernel @ process.weights, process.explained(kernel)  # (U,), (n, U)
        a, b = (np.array([places[arch] for arch in side], int) for side in (first, second))
        # Variance of a difference: 2 - 2 k(a, b) before any label, less what labels explain, plus the noise of two trainings.
        apart = matern((((x[a] - x[b]) * process.scale) ** 2).sum(1), self.smoothness)
        variance = 2 - 2 * apart - ((explained[:, a] - explained[:, b]) ** 2).sum(0) + 2 * process.noise
        return np.asarray(ndtr((mean[a] - mean[b]) / np.sqrt(np.maximum(variance, LEAST_VARIANCE) * process.variance)))

    def with_graphs(self) -> GaussianProcess:
        """A fresh ranker with the same settings that also sees how architectures are written down."""
        fresh = copy(self)
        fresh.features, fresh._process = self.features.seeing("graph"), None
        return fresh

    def state_dict(self) -> State:
        """What was learned, for :meth:`load_state_dict`."""
        return {} if self._process is None else asdict(self._process)

    def load_state_dict(self, state: State) -> None:
        """Takes what another learned.

        Raises:
            StateError: if the state is of another space.
        """
        if state and state["x"].shape[1] != len(self.features):
            raise StateError(f"the state has {state['x'].shape[1]} features, {self.space.name} has {len(self.features)}")
        self._process = Process(**state) if state else None
