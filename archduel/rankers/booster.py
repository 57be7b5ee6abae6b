"""LightGBM with one thread and fixed sums, so that the same seed gives the same trees. Imports the optional package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

__all__ = ["Booster"]

FIXED = {
    "objective": "regression",
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "bagging_freq": 1,
    "verbosity": -1,
}


class Booster:
    """Gradient boosting with squared error.

    Args:
        rounds: number of trees.
        settings: LightGBM parameters.
    """

    def __init__(self, rounds: int, settings: Mapping[str, Any]) -> None:
        self.rounds, self.settings = rounds, {**settings, **FIXED}
        self._model: Any = None

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> None:
        """Learns labels (n,) of columns (n, F)."""
        few = {
            "min_data_in_leaf": max(1, min(self.settings["min_data_in_leaf"], len(y) // 8)),
            "min_data_in_bin": 1,
        }
        settings = {**self.settings, **few}
        self._model = lightgbm.train(settings, lightgbm.Dataset(x, y, params=settings), self.rounds)

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (N,) predictions."""
        return np.asarray(self._model.predict(x, num_threads=1), np.float64)
