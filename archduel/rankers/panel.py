"""The judges of the jury, each fitted to normal scores of labels: two Gaussian processes, boosted trees, random trees.

The trees also say how much each column matters; the first process measures distances by that, the second starts from there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archduel.rankers.kernel import Process, believe, fit_process, refine_process

__all__ = ["JUDGES", "Opinion", "Panel", "fit_panel"]

Matrix = NDArray[np.float64]
JUDGES = ("process", "refined", "boosting", "forest")
FLOOR = 0.1
"""Importance that all columns share equally in the process, besides what the trees found."""
LEAVES = 8, 31
"""Of each boosted tree: with few labels, and from ``MANY`` on."""
MANY = 1000


class Opinion(NamedTuple):
    """What the judges think of N architectures."""

    scores: Matrix  # (N, 4), in the order of JUDGES
    deviation: Matrix  # (N,) the process's standard deviation of the noise-free score, from the first process


class Panel(NamedTuple):
    """The fitted judges."""

    process: Process
    refined: Process
    boosting: Any
    forest: Any

    def judge(self, x: Matrix, *, deviation: bool = True) -> Opinion:
        """Returns the scores of architectures with columns ``x`` (N, F)."""
        mean, spread = believe(self.process, x, deviation=deviation)
        refined, _ = believe(self.refined, x, deviation=False)
        small = x.astype(np.float32)
        trees = self.boosting.predict(small), self.forest.predict(small)
        return Opinion(np.stack([mean, refined, *trees], 1), spread)


def fit_panel(x: Matrix, y: Matrix, *, trees: int, seed: int) -> Panel:
    """Returns the judges of labels ``y`` (n,) of architectures with columns ``x`` (n, F).

    Args:
        x: columns of comparable spread.
        y: labels.
        trees: boosted trees; half as many random ones.
        seed: of the trees.
    """
    from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor

    n = len(y)
    boosting = GradientBoostingRegressor(
        n_estimators=trees,
        learning_rate=15 / trees,
        max_depth=None,
        max_leaf_nodes=LEAVES[n >= MANY],
        min_samples_leaf=max(1, min(5, n // 8)),
        subsample=0.8,
        max_features=0.3,
        random_state=seed,
    )
    forest = ExtraTreesRegressor(max(1, trees // 2), max_features=0.4, random_state=seed, n_jobs=1)
    small = x.astype(np.float32)
    boosting.fit(small, y)
    forest.fit(small, y)
    importance = (boosting.feature_importances_ + forest.feature_importances_) / 2
    process = fit_process(x, y, importance + FLOOR / x.shape[1])
    return Panel(process, refine_process(process, x, y), boosting, forest)
