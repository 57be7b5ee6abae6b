"""Architectures against each other, judged by a ranker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Ranker

__all__ = ["by_wins", "learn_more"]


@runtime_checkable
class Updatable(Protocol):
    """A ranker that can go on learning from where it is."""

    def update(self, archs: Sequence[Arch], scores: Sequence[float], *, pairs: Any = None, epochs: int = 1) -> Any:
        """Learns for ``epochs`` more passes."""


@runtime_checkable
class AllPairs(Protocol):
    """A ranker that compares all pairs at once."""

    def matrix(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (N, N) probabilities that the row is at least as good as the column."""


def by_wins(ranker: Ranker, archs: Sequence[Arch]) -> list[Arch]:
    """Returns distinct architectures, strongest first: by the mean probability to win against the others."""
    archs = list(dict.fromkeys(archs))
    n = len(archs)
    if n < 2:
        return archs
    if isinstance(ranker, AllPairs):
        p = ranker.matrix(archs)
    else:
        p = ranker.prob([arch for arch in archs for _ in range(n)], archs * n).reshape(n, n)
    strength = (p.sum(1) - p.diagonal()) / (n - 1)
    return [archs[i] for i in np.argsort(-strength, kind="stable")]


def learn_more(
    ranker: Ranker,
    archs: Sequence[Arch],
    scores: Sequence[float],
    pairs: Sequence[tuple[Arch, Arch, float]],
    *,
    epochs: int,
) -> None:
    """Lets ``ranker`` go on learning from labels and pseudo-labelled pairs; one that cannot go on starts from scratch."""
    first, second, label = zip(*pairs)
    extra = list(first), list(second), np.array(label, np.float64)
    if isinstance(ranker, Updatable):
        ranker.update(archs, scores, pairs=extra, epochs=epochs)
    else:
        ranker.fit(archs, scores, pairs=extra)
