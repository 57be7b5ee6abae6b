"""Any regressor as a ranker: it learns columns that describe architectures; scores are its predictions.

A saved state holds architectures, labels and settings of no model: the regressor is fitted again, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Space, State, parse
from archduel.errors import SettingError, StateError
from archduel.rankers.columns import Costs, describe, normal_scores
from archduel.rankers.labels import Pairs, check_archs, check_labels, distinct
from archduel.rankers.slope import ByScores

__all__ = ["Regression", "Regressor", "graph_view"]

Matrix = NDArray[np.float64]
CHUNK = 8192


class Regressor(Protocol):
    """What scikit-learn's and LightGBM's regressors offer."""

    def fit(self, x: NDArray[np.float32], y: Matrix) -> Any:
        """Learns labels (n,) of columns (n, F)."""

    def predict(self, x: NDArray[np.float32]) -> Any:
        """Returns (N,) predictions."""


def graph_view(space: Space) -> str:
    """Returns the name of the space's method that describes graphs: ``graph_features`` where there is one."""
    return "graph_features" if hasattr(space, "graph_features") else "features"


class Regression(ByScores):
    """A regressor on the space's graph features, and on closed-form costs if given.

    Args:
        space: describes architectures.
        costs: gives closed-form costs; None = not used.
        fresh: makes an unfitted regressor.
        target: what is regressed: the ``label``, or the normal score of its ``rank``, which networks that failed to train
            cannot stretch.
        seed: of the split that calibrates win probabilities.

    Raises:
        SettingError: for another target.
    """

    def __init__(
        self,
        space: Space,
        costs: Costs | None = None,
        *,
        fresh: Callable[[], Regressor],
        target: str = "label",
        seed: int = 0,
    ) -> None:
        if target not in ("label", "rank"):
            raise SettingError(f"target is {target!r}, expected 'label' or 'rank'")
        self.space, self.costs, self.fresh, self.target, self.seed = space, costs, fresh, target, seed
        self._archs: list[Arch] = []
        self._labels: Matrix = np.empty(0)
        self._fitted: Regressor | None = None

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None
    ) -> Mapping[str, float]:
        """Learns from scratch; ``pairs`` are not used. Returns ``error``, the root mean square error on the targets,
        in standard deviations.

        An architecture that is given several times counts once, with the mean of its labels.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        self._archs, self._labels = check_labels(self.space, archs, scores)
        self._slope = None
        x, y = self._columns(self._archs), self._targets()
        self._fitted = self.fresh()
        self._fitted.fit(x, y)
        error = np.asarray(self._fitted.predict(x)).reshape(-1) - y
        return {"error": float(np.sqrt((error**2).mean()))}

    def _columns(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        return describe(self.space, archs, costs=self.costs, view=graph_view(self.space)).astype(np.float32)

    def _targets(self) -> Matrix:
        """Returns (n,) what is regressed: standardised labels or normal scores."""
        if self.target == "rank":
            return normal_scores(self._labels)
        return np.asarray((self._labels - self._labels.mean()) / self._labels.std())

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N,) scores, in the unit of the labels or as normal scores; each distinct architecture is described once.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        if self._fitted is None:
            raise StateError("the regressor has learned nothing yet; call fit first")
        check_archs(self.space, archs)
        unique, index = distinct(archs)
        parts = [self._columns(unique[i : i + CHUNK]) for i in range(0, len(unique), CHUNK)]
        found = [
            np.empty(0),
            *(np.asarray(self._fitted.predict(part), np.float64).reshape(-1) for part in parts),
        ]
        scores = np.concatenate(found)[index]
        return np.asarray(
            scores if self.target == "rank" else self._labels.mean() + self._labels.std() * scores
        )

    def _lesson(self) -> tuple[Matrix, int]:
        return self._labels, self.seed

    def _held_out(self, kept: NDArray[np.int64], out: NDArray[np.int64]) -> Matrix:
        x, y = self._columns(self._archs), self._targets()
        regressor = self.fresh()
        regressor.fit(x[kept], y[kept])
        unit = 1.0 if self.target == "rank" else self._labels.std()
        return np.asarray(unit * np.asarray(regressor.predict(x[out]), np.float64).reshape(-1))

    def state_dict(self) -> State:
        """Returns the architectures and labels that were learned."""
        if self._fitted is None:
            return {}
        return {"archs": [str(arch) for arch in self._archs], "labels": self._labels}

    def load_state_dict(self, state: State) -> None:
        """Learns again what another with the same settings learned.

        Raises:
            InvalidArchError: if the state is of another space.
        """
        self._fitted = None
        if state:
            self.fit([parse(text) for text in state["archs"]], state["labels"])
