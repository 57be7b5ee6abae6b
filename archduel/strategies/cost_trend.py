"""What closed-form counts alone say of a cost that is told with an answer: many latencies grow with what a network computes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Costs

__all__ = ["CostTrend"]

Matrix = NDArray[np.float64]
RIDGE = 1e-3
"""Of the slopes, in variances of the columns: parameters and multiply-adds say nearly the same, and two slopes must not fight each other."""
FOLLOWS = 0.8
"""Rank correlation of a cost with the last count from which on a line is drawn; a GPU's latency follows how many operations there are."""


class CostTrend:
    """A straight line in the logarithms of closed-form counts, fitted by least squares; what it leaves is for a ranker to learn.

    Where a cost does not follow the counts there is no line, and all of it is for the ranker.

    Args:
        costs: gives (N, K) positive counts, multiply-adds last.
    """

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self._tuple: tuple[Sequence[Arch], Matrix] | None = None  # the tuple asked for last, and its columns
        self._slopes: dict[str, Matrix] = {}

    def fit(self, name: str, archs: Sequence[Arch], labels: Matrix) -> Matrix:
        """Returns (N,) what the line of objective ``name`` leaves of its labels (N,), the larger the less it costs."""
        from scipy.stats import spearmanr  # slow to load, and most searches have no such cost

        x = self._columns(archs)
        self._slopes[name] = np.zeros(x.shape[1])
        if np.ptp(labels) > 0 and np.ptp(x[:, -1]) > 0 and spearmanr(x[:, -1], -labels).statistic >= FOLLOWS:
            shrink = RIDGE * len(x) * np.diag(x.var(0)) + 1e-9 * np.eye(x.shape[1])  # the constant has no variance, and is not shrunk
            self._slopes[name] = np.asarray(np.linalg.solve(x.T @ x + shrink, x.T @ labels), np.float64)
        return np.asarray(labels - x @ self._slopes[name])

    def __call__(self, name: str, archs: Sequence[Arch]) -> Matrix:
        """Returns (N,) what the line says of architectures; raises KeyError for an objective that it was not fitted to."""
        return np.asarray(self._columns(archs) @ self._slopes[name])

    def _columns(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N, 1 + K) ones and logarithms; those of a tuple, whose content cannot change, are kept while it is asked for."""
        if self._tuple is not None and self._tuple[0] is archs:
            return self._tuple[1]
        logs = np.log(np.maximum(np.asarray(self.costs(archs), np.float64), 1.0))
        columns = np.concatenate([np.ones((len(logs), 1)), logs], 1)
        if isinstance(archs, tuple):
            self._tuple = archs, columns
        return columns
