"""A belief about size: after a short training a large network looks worse than it will be.

A few epochs favour networks that learn fast; what is left when training lasts long favours those that compute more. Among the
192 cells of ``benchmarks/records/cifar_readings.json`` the label of a short training agrees with the accuracy after 200 epochs
with tau 0.39, multiply-adds alone with 0.53, and the sum of both with 0.55. The belief is closed-form: it knows no accuracy.

Labels and multiply-adds are first brought to one scale, that of normal scores, because a label's unit says nothing about how
far apart architectures are in truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Ranker, State, keep_learning, win_matrix
from archduel.core.ranks import lifted
from archduel.errors import check_at_least
from archduel.rankers.labels import Pairs

__all__ = ["SizeBelief", "lifted"]

Vector = NDArray[np.float64]


class SizeBelief:
    """Teaches a ranker labels that are lifted by size; asks it as it is.

    Args:
        ranker: the one that learns, of any kind.
        sizes: gives (N,) multiply-adds of architectures.
        weight: of sizes beside labels, see :func:`lifted`.

    Raises:
        SettingError: for a negative weight.
    """

    def __init__(self, ranker: Ranker, sizes: Callable[[Sequence[Arch]], Vector], weight: float) -> None:
        check_at_least(0, weight=weight)
        self.ranker, self.sizes, self.weight = ranker, sizes, weight

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | Vector, *, pairs: Pairs | None = None
    ) -> Mapping[str, float]:
        """What the ranker says of its fit, from scratch to lifted labels; ``pairs`` are taken as they are."""
        return self.ranker.fit(archs, self._lift(archs, scores), pairs=pairs)

    def update(
        self,
        archs: Sequence[Arch],
        scores: Sequence[float] | Vector,
        *,
        pairs: Pairs | None = None,
        epochs: int = 1,
    ) -> Mapping[str, float]:
        """What the ranker says of going on, or of starting from scratch if it cannot go on."""
        return keep_learning(self.ranker, archs, self._lift(archs, scores), pairs=pairs, epochs=epochs)

    def _lift(self, archs: Sequence[Arch], scores: Sequence[float] | Vector) -> Vector:
        labels = np.asarray(scores, np.float64)
        # Useless labels go to the ranker as they are, which says what is wrong with them: size alone is no label.
        if labels.shape != (len(archs),) or not np.isfinite(labels).all() or len(set(labels.tolist())) < 2:
            return labels
        return lifted(labels, self.sizes(archs), self.weight)

    def predict(self, archs: Sequence[Arch]) -> Vector:
        """(N,) scores; only their order means anything."""
        return self.ranker.predict(archs)

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> Vector:
        """(P,) probabilities that ``first[i]`` is at least as good as ``second[i]``."""
        return self.ranker.prob(first, second)

    def matrix(self, archs: Sequence[Arch]) -> Vector:
        """(N, N) probabilities that the row is at least as good as the column."""
        return win_matrix(self.ranker, archs)

    def state_dict(self) -> State:
        """All that the ranker learned; the belief itself learns nothing."""
        return self.ranker.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Takes what another learned."""
        self.ranker.load_state_dict(state)
