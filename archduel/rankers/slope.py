"""Win probabilities for rankers that give scores only: a logistic curve on differences of scores, its slope from held-out labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from archduel.rankers.labels import sigmoid

__all__ = ["held_out_slope"]

Matrix = NDArray[np.float64]
SLOPES = np.geomspace(0.1, 30.0, 40)
"""In units of one over the spread of the scores."""
PAIRS = 20_000
PARTS = 5


def held_out_slope(
    scored: Callable[[NDArray[np.int64], NDArray[np.int64]], Matrix], labels: Matrix, *, seed: int
) -> float:
    """Returns the slope under which comparisons of held-out labels are likeliest.

    Args:
        scored: given the places to learn from and the places held out, returns the scores of the latter.
        labels: (n,) labels.
        seed: of the split; a fifth is held out, with fewer than ten labels none (then all are learned and scored).
    """
    places = np.random.default_rng([seed, 3]).permutation(len(labels))
    n_out = len(labels) // PARTS
    kept, out = places[n_out:], places[:n_out]
    if n_out < 2 or len(set(labels[kept].tolist())) < 2:
        kept = out = places
    scores = scored(kept, out)
    first, second = np.random.default_rng([seed, 4]).integers(len(out), size=(2, PAIRS))
    sign = np.sign(labels[out][first] - labels[out][second])
    margin = (sign * (scores[first] - scores[second]))[sign != 0]
    slopes = SLOPES / max(float(scores.std()), 1e-12)
    likelihood = [np.log(np.maximum(sigmoid(slope * margin), 1e-12)).sum() for slope in slopes]
    return float(slopes[int(np.argmax(likelihood))])
