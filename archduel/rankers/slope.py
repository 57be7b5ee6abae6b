"""Win probabilities for rankers that give scores only: a logistic curve on differences of scores, its slope from held-out labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch
from archduel.rankers.labels import check_sides, sigmoid

__all__ = ["ByScores", "held_out_slope"]

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


class ByScores(ABC):
    """A ranker whose ``prob`` is made of its scores; what is left is how it learns and scores.

    ``fit`` sets ``_slope`` to None, or to the slope that its loss is made for: then nothing is held out.
    """

    _slope: float | None = None

    @abstractmethod
    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N,) scores; raises StateError before fit."""

    @abstractmethod
    def _lesson(self) -> tuple[Matrix, int]:
        """Returns (n,) the labels that were learned, and the seed of the split."""

    @abstractmethod
    def _held_out(self, kept: NDArray[np.int64], out: NDArray[np.int64]) -> Matrix:
        """Returns the scores of the labelled architectures ``out`` after learning from ``kept``."""

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> Matrix:
        """Returns (P,) probabilities that ``first[i]`` is at least as good as ``second[i]``.

        Where the loss has no slope of its own, the first call learns from four fifths of the labels how far differences of
        scores can be trusted.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
            SettingError: for sides of different lengths.
        """
        check_sides(first, second)
        scores = self.predict([*first, *second])
        if self._slope is None:
            labels, seed = self._lesson()
            self._slope = held_out_slope(self._held_out, labels, seed=seed)
        return sigmoid(self._slope * (scores[: len(first)] - scores[len(first) :]))
