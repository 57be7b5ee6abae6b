"""How much each hyper-parameter matters: functional ANOVA of a random forest, computed exactly from its leaves.

A tree is constant on boxes. Under a measure that says how much each part of each hyper-parameter's range counts, the mean over
all others given one hyper-parameter (its marginal) is a sum over leaves, without any sampling:

    a_u(s) = sum over leaves l that hold s of value_l * product over j != u of mass_j(l)
    F_u    = Var_s[a_u(s)] / Var[y]

The importance of a hyper-parameter is the mean of F_u over the trees that vary at all.

Source: Hutter, Hoos and Leyton-Brown, An Efficient Approach for Assessing Hyperparameter Importance, ICML 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archduel.errors import SettingError

__all__ = ["Box", "Importance", "Levels", "Measure", "forest_importance"]

Floats = NDArray[np.float64]

# Variance below this share of the squared mean is rounding: double precision has steps of 2e-16, and many leaves are added up.
ROUNDING = 1e-12


class Measure(Protocol):
    """How much parts of a hyper-parameter's range count; all of it counts 1."""

    def mass(self, low: Floats, high: Floats) -> Floats:
        """Returns how much the values above ``low`` up to ``high`` count, elementwise."""


@dataclass(frozen=True)
class Levels:
    """A hyper-parameter with a few values, coded 0, 1, 2 ...

    Attributes:
        weights: how much each counts; they are divided by their sum.
    """

    weights: tuple[float, ...]

    @classmethod
    def equal(cls, n: int) -> Levels:
        """Returns ``n`` levels that count the same."""
        return cls((1.0,) * n)

    @classmethod
    def only(cls, level: int, n: int) -> Levels:
        """Returns ``n`` levels of which one alone counts: a hyper-parameter that is fixed."""
        return cls(tuple(float(i == level) for i in range(n)))

    def mass(self, low: Floats, high: Floats) -> Floats:
        """Returns how much the values above ``low`` up to ``high`` count, elementwise."""
        share = np.asarray(self.weights) / np.sum(self.weights)
        below = np.concatenate([[0.0], np.cumsum(share)])
        codes = np.arange(len(share))
        return np.asarray(
            below[np.searchsorted(codes, high, side="right")] - below[np.searchsorted(codes, low, side="right")]
        )


@dataclass(frozen=True)
class Box:
    """A hyper-parameter whose values count evenly between two ends (what Optuna's evaluator assumes)."""

    low: float
    high: float

    def mass(self, low: Floats, high: Floats) -> Floats:
        """Returns how much the values above ``low`` up to ``high`` count, elementwise."""
        ends = [np.clip(end, self.low, self.high) for end in (low, high)]
        return np.asarray((ends[1] - ends[0]) / (self.high - self.low))


@dataclass(frozen=True)
class Importance:
    """What a forest says about F hyper-parameters.

    Attributes:
        main: (F,) share of the variance that each explains alone, mean over trees; the rest are interactions.
        spread: (F,) its standard deviation over trees.
        trees: how many trees vary at all.
    """

    main: Floats
    spread: Floats
    trees: int


def forest_importance(
    x: ArrayLike, y: ArrayLike, measures: Sequence[Measure], *, trees: int = 64, max_depth: int = 64, seed: int = 0
) -> Importance:
    """Returns the main effects of a random forest fitted to ``y`` over ``x``.

    Args:
        x: (N, F) codes or values of the hyper-parameters.
        y: (N,) finite numbers.
        measures: F, how much parts of each range count.
        trees: in the forest.
        max_depth: of each tree.
        seed: of the forest.

    Raises:
        SettingError: for numbers that do not fit together.
    """
    from sklearn.ensemble import RandomForestRegressor

    features, target = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if features.ndim != 2 or features.shape != (len(target), len(measures)) or not np.isfinite(target).all():
        raise SettingError(
            f"importance needs (N, {len(measures)}) values and N finite numbers, got {features.shape} and {target.shape}"
        )
    # one process: a forest of a few dozen recipes is fitted before a second one would have started
    forest = RandomForestRegressor(n_estimators=trees, max_depth=max_depth, random_state=seed, n_jobs=1)
    forest.fit(features, target)
    shares = [share for tree in forest.estimators_ if (share := _shares(tree.tree_, measures)) is not None]
    if not shares:
        zero = np.zeros(len(measures))
        return Importance(zero, zero, 0)
    return Importance(np.mean(shares, 0), np.std(shares, 0), len(shares))


def _shares(tree: Any, measures: Sequence[Measure]) -> Floats | None:
    """Returns (F,) shares of a tree's variance that each hyper-parameter explains alone; None for a constant tree."""
    low, high, value = _leaves(tree, len(measures))
    mass = np.stack([m.mass(low[:, f], high[:, f]) for f, m in enumerate(measures)], axis=1)  # (L, F)
    weight = mass.prod(1)
    mean = weight @ value
    variance = weight @ (value - mean) ** 2
    # a constant tree explains nothing; what is left of its variance is rounding, which would be divided by itself below
    if not variance > ROUNDING * max(1.0, mean**2):
        return None
    shares = np.zeros(len(measures))
    # between two neighbouring cuts of all leaves the marginal is constant, so that its variance is a finite sum
    for f, measure in enumerate(measures):
        cuts = np.unique(np.concatenate([low[:, f], high[:, f]]))
        part = measure.mass(cuts[:-1], cuts[1:])  # (S,) segments between neighbouring cuts
        holds = (low[:, f, None] <= cuts[:-1]) & (cuts[1:] <= high[:, f, None])  # (L, S)
        marginal = (np.delete(mass, f, axis=1).prod(1) * value) @ holds  # (S,)
        shares[f] = part @ (marginal - mean) ** 2
    return np.asarray(shares / variance)


def _leaves(tree: Any, n_features: int) -> tuple[Floats, Floats, Floats]:
    """Returns lower ends (L, F), upper ends (L, F) and values (L,) of the leaves; a leaf holds values in (low, high]."""
    boxes: list[tuple[Floats, Floats, float]] = []
    waiting = [(0, np.full(n_features, -np.inf), np.full(n_features, np.inf))]
    while waiting:
        node, low, high = waiting.pop()
        left, right = tree.children_left[node], tree.children_right[node]
        if left == right:
            boxes.append((low, high, float(tree.value[node].ravel()[0])))
            continue
        feature, cut = tree.feature[node], tree.threshold[node]
        below, above = high.copy(), low.copy()
        below[feature] = above[feature] = cut
        waiting += [(left, low, below), (right, above, high)]
    lows, highs, values = zip(*boxes)
    return np.stack(lows), np.stack(highs), np.array(values)
