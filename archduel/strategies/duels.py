"""Architectures against each other, judged by a ranker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archduel.core import Arch, Ranker, keep_learning, win_matrix

__all__ = ["by_wins", "learn_more"]


def by_wins(ranker: Ranker, archs: Sequence[Arch]) -> list[Arch]:
    """Returns distinct architectures, strongest first: by the mean probability to win against the others."""
    archs = list(dict.fromkeys(archs))
    n = len(archs)
    if n < 2:
        return archs
    p = win_matrix(ranker, archs)
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
    """Lets ``ranker`` go on learning from labels and pseudo-labelled pairs (first, second, label)."""
    first, second, label = zip(*pairs)
    keep_learning(
        ranker, archs, scores, pairs=(list(first), list(second), np.array(label, np.float64)), epochs=epochs
    )
