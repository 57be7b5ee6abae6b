"""What rankers check and sort out before they learn, and win probabilities for those that give scores only."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Space, State
from archduel.errors import InvalidArchError, SettingError, StateError

__all__ = [
    "Fitted", "Pairs", "ScoreRanker", "WinCurve", "check_archs", "check_labels", "check_pairs", "check_sides", "distinct", "each_once",
    "floored", "held_out_steepness", "sigmoid",
]  # fmt: skip

Matrix = NDArray[np.float64]
Places = NDArray[np.int64]
Pairs = tuple[Sequence[Arch], Sequence[Arch], Matrix]
"""Pseudo-labelled comparisons: first, second, probability that the first is at least as good."""

# Candidate steepnesses, in units of one over the spread of the scores. At 0.1 scores that differ by a whole spread are nearly
# a coin toss, at 30 a thirtieth of it is nearly three to one: what a ranker can be worth lies between, in steps of 16 %.
STEEPNESSES = np.geomspace(0.1, 30.0, 40)
# Pairs of held-out labels that are compared: of 100 of them there are 4,950, so that each is drawn about four times.
COMPARED = 20_000
# One part in five is held out: four fifths learn nearly what all learn, and of 50 labels ten are left to compare.
PARTS = 5


def distinct(archs: Sequence[Arch]) -> tuple[list[Arch], Places]:
    """The different architectures in order of appearance, and for each of ``archs`` its place among them."""
    places: dict[Arch, int] = {}
    index = np.fromiter((places.setdefault(arch, len(places)) for arch in archs), np.int64, len(archs))
    return list(places), index


def each_once(
    space: Space, archs: Sequence[Arch], score: Callable[[list[Arch]], Matrix], chunk: int, *, rows: tuple[int, ...] = ()
) -> Matrix:
    """(*rows, N) what ``score`` says of ``archs``, after asking it for each distinct one once, ``chunk`` at a time.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    check_archs(space, archs)
    unique, index = distinct(archs)
    parts = [score(unique[start : start + chunk]) for start in range(0, len(unique), chunk)]
    return np.asarray(np.concatenate([np.empty((*rows, 0)), *parts], -1)[..., index])


def check_archs(space: Space, archs: Sequence[Arch]) -> None:
    """Raises InvalidArchError unless every architecture names ``space`` (a quick check of names only)."""
    for arch in archs:
        if arch.space != space.name:
            raise InvalidArchError(
                f"{arch} belongs to space {arch.space!r}, but the ranker was made for {space.name!r}"
            )


def check_labels(space: Space, archs: Sequence[Arch], scores: Sequence[float] | Matrix) -> tuple[list[Arch], Matrix]:
    """The different architectures and their labels; one that is given several times gets the mean label.

    Raises:
        InvalidArchError: if an architecture does not belong to ``space``.
        SettingError: for labels that are not finite, not one an architecture, or fewer than two distinct ones.
    """
    labels = np.asarray(scores, np.float64)
    if labels.shape != (len(archs),):
        raise SettingError(
            f"expected one label an architecture ({len(archs)}), got an array of shape {labels.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(labels))
    if bad.size:
        raise SettingError(
            f"label {bad[0]} ({archs[bad[0]]}) is {labels[bad[0]]}; leave out the {bad.size} failed evaluations"
        )
    check_archs(space, archs)
    for arch in archs:
        space.validate(arch)
    unique, index = distinct(archs)
    mean = np.bincount(index, labels, len(unique)) / np.bincount(index, minlength=len(unique))
    if len(set(mean.tolist())) < 2:
        raise SettingError(
            f"{len(unique)} architectures with fewer than two distinct labels have no order to learn; label more of them"
        )
    return unique, mean


def floored(labels: Matrix, floor: float = 2.0) -> Matrix:
    """(n,) the labels, those far below the middle lifted: a smooth function cannot follow networks that did not train at all.

    Args:
        labels: (n,) higher is better.
        floor: lower ones than the median minus this many times (upper decile - median) are lifted to it.
    """
    # The upper decile measures the spread of networks that trained, which failed ones would stretch.
    middle, high = np.quantile(labels, [0.5, 0.9])
    lifted = np.maximum(labels, middle - floor * (high - middle))
    # Where most labels are the best one, all would be lifted to it, and nothing would be left to learn.
    return np.asarray(lifted if np.ptp(lifted) > 0 else labels)


def check_pairs(space: Space, pairs: Pairs) -> tuple[list[Arch], list[Arch], Matrix]:
    """Pseudo-labelled comparisons as two lists and an array, after a check.

    Raises:
        InvalidArchError: if an architecture does not belong to ``space``.
        SettingError: for sides of different lengths or labels outside 0..1.
    """
    first, second, labels = list(pairs[0]), list(pairs[1]), np.asarray(pairs[2], np.float64)
    if not len(first) == len(second) == labels.size:
        raise SettingError(
            f"pairs have {len(first)} first, {len(second)} second and {labels.size} labels; make them equal"
        )
    outside = np.flatnonzero(~((labels >= 0) & (labels <= 1)))
    if outside.size:
        raise SettingError(
            f"label {outside[0]} of the pairs is {labels.flat[outside[0]]}, expected the probability, 0 to 1, "
            "that the first is at least as good"
        )
    check_archs(space, [*first, *second])
    return first, second, labels


def check_sides(first: Sequence[Arch], second: Sequence[Arch]) -> None:
    """Raises SettingError unless both sides of the comparisons are equally long."""
    if len(first) != len(second):
        raise SettingError(
            f"prob compares pairs, got {len(first)} first and {len(second)} second architectures; make them equal"
        )


def sigmoid(x: Matrix) -> Matrix:
    """1 / (1 + exp(-x)) without overflow."""
    # exp(709) is the largest that double precision holds; beyond 500 the result is 0 or 1 to the last bit anyway.
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))))


def held_out_steepness(relearn: Callable[[Places, Places], Matrix], labels: Matrix, *, seed: int) -> float:
    """The steepness of the logistic curve under which comparisons of held-out labels are likeliest.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods", in
    Advances in Large Margin Classifiers, MIT Press 1999; without an offset, because a pair has no first side by nature.

    Args:
        relearn: given the places to learn from and the places held out, returns the scores of the latter.
        labels: (n,) of all places.
        seed: of the split; a fifth is held out, with fewer than ten labels none (then all are learned and scored).
    """
    places = np.random.default_rng([seed, 3]).permutation(len(labels))
    n_out = len(labels) // PARTS
    learned, out = places[n_out:], places[:n_out]
    # One held-out label cannot be compared, and equal labels teach no order. Scores of learned labels make the curve too
    # steep, but a guess without any labels would be worse.
    if n_out < 2 or len(set(labels[learned].tolist())) < 2:
        learned = out = places
    scores = relearn(learned, out)
    first, second = np.random.default_rng([seed, 4]).integers(len(out), size=(2, COMPARED))
    sign = np.sign(labels[out][first] - labels[out][second])
    # Ties, such as an architecture drawn against itself, say nothing about steepness: any curve gives them one half.
    margin = (sign * (scores[first] - scores[second]))[sign != 0]
    steepnesses = STEEPNESSES / max(float(scores.std()), 1e-12)
    # A floor under probabilities: one confident mistake must not make all steep curves impossible.
    likelihood = [np.log(np.maximum(sigmoid(steepness * margin), 1e-12)).sum() for steepness in steepnesses]
    return float(steepnesses[int(np.argmax(likelihood))])


class WinCurve:
    """Win probabilities of a fitted ranker that gives scores only: a logistic curve on differences of scores.

    Args:
        predict: returns (N,) scores of architectures.
        relearn: returns the scores of the labelled places given second, after learning from those given first alone.
        labels: (n,) that the ranker learned.
        seed: of the split.
        steepness: of the curve, if the ranker's loss is made for one; None = held-out labels tell, at the first question.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Arch]], Matrix],
        relearn: Callable[[Places, Places], Matrix],
        labels: Matrix,
        *,
        seed: int,
        steepness: float | None = None,
    ) -> None:
        self._predict, self._relearn, self._labels, self._seed = predict, relearn, labels, seed
        self.steepness = steepness

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> Matrix:
        """(P,) probabilities that ``first[i]`` is at least as good as ``second[i]``.

        Raises:
            InvalidArchError: for an architecture of another space.
            SettingError: for sides of different lengths.
        """
        check_sides(first, second)
        scores = self._predict([*first, *second])
        # Late, because it costs a second fit, and most uses of a ranker ask for scores alone.
        if self.steepness is None:
            self.steepness = held_out_steepness(self._relearn, self._labels, seed=self._seed)
        return sigmoid(self.steepness * (scores[: len(first)] - scores[len(first) :]))


class Fitted(Protocol):
    """What a fit must remember, so that held-out labels can calibrate win probabilities."""

    @property
    def archs(self) -> list[Arch]:
        """The labelled architectures, each once."""

    @property
    def labels(self) -> Matrix:
        """(n,) their labels."""

    @property
    def wins(self) -> WinCurve:
        """The win probabilities that follow."""


F = TypeVar("F", bound=Fitted)


class ScoreRanker(ABC, Generic[F]):
    """What rankers share that give scores only; how they learn and score is theirs.

    Attributes:
        noun: what learns, in the words of messages.
    """

    noun: ClassVar[str]
    _fit: F | None = None

    @abstractmethod
    def fit(self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None) -> Mapping[str, float]:
        """Learns from scratch and returns measures of the fit."""

    @abstractmethod
    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) scores."""

    def _require_fit(self) -> F:
        if self._fit is None:
            raise StateError(f"the {self.noun} has learned nothing yet; call fit first")
        return self._fit

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> Matrix:
        """(P,) probabilities that ``first[i]`` is at least as good as ``second[i]``: the loss's own, else calibrated on held-out labels.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
            SettingError: for sides of different lengths.
        """
        return self._require_fit().wins.prob(first, second)

    def _relearn(self, learned: Places, out: Places) -> Matrix:
        """Scores of the labelled places ``out`` by a twin that saw those of ``learned`` alone."""
        fit, twin = self._require_fit(), copy.copy(self)
        twin.fit([fit.archs[i] for i in learned], fit.labels[learned])
        return twin.predict([fit.archs[i] for i in out])

    def _labelled_state(self) -> State:
        """What was learned from, and how steep differences of scores are."""
        fit = self._require_fit()
        # "slope" is what states on disk call the steepness.
        return {"archs": [str(arch) for arch in fit.archs], "labels": fit.labels, "slope": fit.wins.steepness}
