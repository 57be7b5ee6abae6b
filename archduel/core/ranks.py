"""Numbers compared by their ranks: normal scores, and scores together with sizes or with losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["inherited", "lifted", "normal_scores"]

Vector = NDArray[np.float64]


def normal_scores(values: Sequence[float] | Vector) -> Vector:
    """(N,) the standard normal quantile of (rank - 1/2) / N; 0 = the median, equal values share the mean of their ranks.

    Ranks are all that a ranker needs, and networks that failed to train cannot stretch the scale.

    Source: the plotting positions (rank - c) / (N + 1 - 2 c) of Blom, "Statistical Estimates and Transformed Beta-Variables",
    Wiley 1958, with c = 1/2 (Hazen, 1914).
    """
    # c = 3/8 (Blom's own) is nearest to the expected order statistics of N normal values (worst 0.02 off for N = 3 to 20),
    # c = 1/2 is up to 0.12 off, c = 0 (van der Waerden, 1952) up to 0.20. Between the two that this package once had, 1/2
    # is nearer for every N, and the published numbers of the jury were measured with it.
    # (Imported here: SciPy's statistics are slow to load, and commands that only name `Costs` come through this module.)
    from scipy.special import ndtri
    from scipy.stats import rankdata

    values = np.asarray(values, np.float64)
    return np.asarray(ndtri((rankdata(values) - 0.5) / len(values)))


def lifted(scores: Sequence[float] | Vector, sizes: Sequence[float] | Vector, weight: float) -> Vector:
    """(n,) scores with the belief that larger architectures are better.

    Args:
        scores: (n,) labels, higher is better.
        sizes: (n,) multiply-adds, or any other size.
        weight: of the sizes' normal scores beside the labels'; 0 = the labels alone (their order stays).
    """
    # Added, not multiplied: a weight of 1 then says that a label and a size that rank alike weigh alike.
    return normal_scores(scores) + weight * normal_scores(sizes)


def inherited(scores: Sequence[float] | Vector, losses: Sequence[float] | Vector) -> Vector:
    """(n,) what shared weights say as one number, the better the higher: the mean of the normal scores of accuracies and of losses.

    A loss tells apart what a few hundred images give the same accuracy; which of the two ranks better differs from training to training.

    Args:
        scores: (n,) accuracies on validation images.
        losses: (n,) mean cross entropies on them.
    """
    return np.asarray((normal_scores(scores) + normal_scores(-np.asarray(losses, np.float64))) / 2)
