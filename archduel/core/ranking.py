"""What some rankers can do and all can be asked for: compare all pairs at once, go on learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from archduel.core.arch import Arch
from archduel.core.protocols import AllPairs, Ranker, Updatable

__all__ = ["keep_learning", "win_matrix"]

Matrix = NDArray[np.float64]


def win_matrix(ranker: Ranker, archs: Sequence[Arch]) -> Matrix:
    """Returns (N, N) probabilities that the row is at least as good as the column; at once where the ranker can."""
    if isinstance(ranker, AllPairs):
        return ranker.matrix(archs)
    n = len(archs)
    return ranker.prob([arch for arch in archs for _ in range(n)], list(archs) * n).reshape(n, n)


def keep_learning(
    ranker: Ranker,
    archs: Sequence[Arch],
    scores: Sequence[float] | Matrix,
    *,
    pairs: tuple[Sequence[Arch], Sequence[Arch], Matrix] | None = None,
    epochs: int = 1,
) -> Mapping[str, float]:
    """Lets ``ranker`` go on learning for ``epochs`` passes and returns its metrics; one that cannot starts from scratch."""
    if isinstance(ranker, Updatable):
        return ranker.update(archs, scores, pairs=pairs, epochs=epochs)
    return ranker.fit(archs, scores, pairs=pairs)
