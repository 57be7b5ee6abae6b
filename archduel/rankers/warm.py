"""A ranker that begins with what an earlier search or a table knows: its prior mean; what it learns is the rest.

1. A ranker of its own learns the labels of each source, once; it may be another one than learns the new labels, and a dearer one.
2. What a source says of the labelled architectures is compared with their new labels. How much it counts is the expected slope
   over two explanations, that it says something and that it says nothing, each weighed by how likely it makes the labels; a source
   whose own labels could not be told from chance by held-out ones hardly counts to begin with.
3. A ranker learns what the sources leave unexplained, and both are added.
4. Another one learns the labels alone, and counts the more the more labels there are. The two err differently: with 78 labels of
   NAS-Bench-201 either has tau 0.85 with the rest, half of each 0.86.

Labels and sources are compared as normal scores, so that an accuracy on one data set can speak of an accuracy on another; where the
ranker believes in the unit of the labels, which searches ask it for, labels keep their distances, those far below the middle lifted.

Sources: an earlier task as the mean of a Gaussian process, and its residual learned, Golovin et al., "Google Vizier", KDD 2017,
section 3.3; averaging over models by their evidence, Hoeting et al., "Bayesian Model Averaging", Statistical Science 14 (1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from archduel.core import Arch, Believer, Ranker, Space, State, Uncertain, Updatable, keep_learning, parse
from archduel.core.ranks import normal_scores
from archduel.errors import SettingError
from archduel.rankers.labels import Pairs, ScoreRanker, WinCurve, check_labels, floored

__all__ = ["Continued", "Source", "Warm", "WarmBeliefs", "trust", "warmed"]

Matrix = NDArray[np.float64]
USEFUL = 0.2
"""How likely a source whose held-out labels it orders perfectly is taken to say something of the new labels, before any is seen."""
CORRELATIONS = np.linspace(0.05, 0.975, 38)
"""What a source that says something may have as a correlation with the new labels, all alike likely."""
AS_MANY = 80
"""Labels with which the ranker that knows the new labels alone counts half (4 splits of NAS-Bench-201: at 20 labels a quarter, at 78 half)."""
ENOUGH = 1_000
"""Labels of a source that are learned, drawn from more of them: a fit takes seconds then, and would take an hour with all of a table."""
FOLDS = 4
FEW = 8
"""Labels of a source below which its ranker cannot hold any out; it is then taken as half reliable."""


@dataclass(frozen=True)
class Source:
    """Labels from elsewhere.

    Attributes:
        name: for people.
        archs: the architectures.
        scores: (n,) higher is better.
        foretells: whether anything is expected of it before there are labels; False in runs that were begun when nothing was.
    """

    name: str
    archs: Sequence[Arch]
    scores: Sequence[float] | Matrix
    foretells: bool = True


def trust(said: Matrix, labels: Matrix, reliability: float) -> tuple[float, float]:
    """Returns the slope of ``labels`` over ``said``, expected over whether a source says something, and how likely it does.

    Args:
        said: (n,) what a source says, mean 0 and variance 1.
        labels: (n,) likewise.
        reliability: 0..1, what is known of the source before.
    """
    n, r, squared = len(labels), float(said @ labels) / len(labels), CORRELATIONS**2
    # log likelihood of labels N(c * said, 1 - c^2) for each correlation c, less that of N(0, 1)
    gain = 0.5 * n * (1 - np.log(1 - squared) - (1 - 2 * CORRELATIONS * r + squared) / (1 - squared))
    top = max(0.0, float(gain.max()))
    prior = USEFUL * min(1.0, max(0.0, reliability))
    useful = prior * np.exp(gain - top) / len(CORRELATIONS)
    total = float(useful.sum() + (1 - prior) * np.exp(-top))
    return float(useful @ CORRELATIONS) / total, float(useful.sum()) / total


@dataclass
class _Known:
    """A source whose labels were learned.

    Attributes:
        name: of the source.
        ranker: that learned them.
        reliability: how well it orders the source's own held-out labels, 0..1.
        said: what it says of each architecture that was asked about.
    """

    name: str
    ranker: Ranker
    reliability: float
    said: dict[Arch, float]
    _last: tuple[Sequence[Arch], Matrix] = ((), np.empty(0))

    def __call__(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N,) scores; each architecture is asked about once."""
        if archs is self._last[0]:
            return self._last[1]
        scores = self._scores(archs)
        if isinstance(archs, tuple):  # a list of the same identity may have changed since
            self._last = archs, scores
        return scores

    def _scores(self, archs: Sequence[Arch]) -> Matrix:
        new = [arch for arch in dict.fromkeys(archs) if arch not in self.said]
        if new:
            self.said.update(zip(new, self.ranker.predict(new).tolist()))
        return np.array([self.said[arch] for arch in archs])


class _Fit(NamedTuple):
    """What a fit learned.

    Attributes:
        archs: the labelled ones.
        labels: (n,) as given.
        scale: what a label is of a score: zero and unit.
        slopes: of each source.
        unit: of what sources leave.
        alone: share of the ranker that knows the labels alone.
        wins: win probabilities.
    """

    archs: list[Arch]
    labels: Matrix
    scale: tuple[float, float]
    slopes: Matrix
    unit: float
    alone: float
    wins: WinCurve


class Warm(ScoreRanker[_Fit]):
    """A ranker that begins with what sources know, and learns what they leave unexplained; scores are normal scores.

    Args:
        space: of all labels.
        make: makes the ranker of the labels, which must know its uncertainty; it is made twice.
        sources: labels from elsewhere, of the same space.
        teach: makes the ranker of a source, of any kind, once for each; None = ``make`` does.
        seed: of the split that calibrates win probabilities, and of the labels drawn from a large source.

    Raises:
        SettingError: without a source, or for a ranker that does not know its uncertainty.
    """

    noun = "warm ranker"

    def __init__(
        self, space: Space, make: Callable[[], Ranker], sources: Sequence[Source], *, teach: Callable[[], Ranker] | None = None, seed: int = 0
    ) -> None:
        self.space, self.seed, self.make, self.sources = space, seed, make, list(sources)
        self.teach = teach or make
        self.rest, self.alone = make(), make()
        if not isinstance(self.rest, Uncertain):
            raise SettingError(
                f"only a ranker that knows its uncertainty can begin with a prior, {type(self.rest).__name__} does not; use best, gp or nac"
            )
        if not sources:
            raise SettingError("a prior needs labels from somewhere; name a run folder or a table")
        self._learned: list[_Known] | None = None

    @property
    def known(self) -> list[_Known]:
        """The sources, learned at the first question.

        Raises:
            InvalidArchError: for a source of another space.
            SettingError: for one with fewer than two different labels.
        """
        if self._learned is None:
            self._learned = [self._learn(source) for source in self.sources]
        return self._learned

    def _learn(self, source: Source) -> _Known:
        archs, scores = check_labels(self.space, source.archs, source.scores)
        if len(archs) > ENOUGH:
            rows = np.random.default_rng([self.seed, 6]).permutation(len(archs))[:ENOUGH]
            archs, scores = check_labels(self.space, [archs[row] for row in rows.tolist()], scores[rows])
        ranker = self.teach()
        tau = float(ranker.fit(archs, scores).get("held_out_tau", math.nan))
        if not math.isfinite(tau):
            tau = self._held_out(archs, scores)
        return _Known(source.name, ranker, _reliability(tau, len(archs)), {})

    def _held_out(self, archs: Sequence[Arch], scores: Matrix) -> float:
        """Kendall's tau of a source's labels with what a ranker says that did not see them, nan for a handful."""
        if len(archs) < FEW:
            return math.nan
        part, said = np.random.default_rng([self.seed, 5]).permutation(len(archs)) % FOLDS, np.full(len(archs), np.nan)
        for fold in range(FOLDS):
            known, out = np.flatnonzero(part != fold).tolist(), np.flatnonzero(part == fold).tolist()
            if len(set(scores[known].tolist())) > 1:
                twin = self.teach()
                twin.fit([archs[i] for i in known], scores[known])
                said[out] = twin.predict([archs[i] for i in out])
        there = np.isfinite(said)
        return float(kendalltau(said[there], scores[there])[0]) if there.any() else math.nan

    def prior(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) what the sources say before any label is known, each as far as its own held-out labels trust it; zeros if none can be.

        Raises:
            InvalidArchError: for a source of another space.
            SettingError: for one with fewer than two different labels.
        """
        if not all(source.foretells for source in self.sources):
            return np.zeros(len(archs))
        return sum((known.reliability * known(archs) for known in self.known if known.reliability), np.zeros(len(archs)))

    def _scored(self, labels: Matrix) -> tuple[Matrix, tuple[float, float]]:
        """(n,) the labels as what is learned, and zero and unit of the labels in that scale."""
        return normal_scores(labels), (0.0, 1.0)

    def fit(self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None) -> Mapping[str, float]:
        """What the ranker says of its fit, and of each source its slope (``prior_1``) and how likely it says something, from scratch.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        unique, labels = check_labels(self.space, archs, scores)
        y, scale = self._scored(labels)
        rest = y
        said = [known(unique) for known in self.known]
        slopes, likely, left = np.zeros(len(said)), np.zeros(len(said)), set(range(len(said)))
        while left:  # the source that explains most comes first, the next explains what it leaves
            slope, belief, place = max((*_slope(said[i], rest, self.known[i].reliability), i) for i in left)
            slopes[place], likely[place] = slope, belief
            rest = rest - slope * said[place]
            left.remove(place)
        if np.ptp(rest) < 1e-9 * np.ptp(y):  # the sources explain all of it
            rest = 1e-9 * y
        unit = float(rest.std())
        told = self.alone.fit(unique, y, pairs=pairs)
        self.rest.fit(unique, rest / unit, pairs=pairs)
        wins = WinCurve(self.predict, self._relearn, labels, seed=self.seed)
        self._fit = _Fit(unique, labels, scale, slopes, unit, len(unique) / (len(unique) + AS_MANY), wins)
        named = {f"prior_{i + 1}": float(slope) for i, slope in enumerate(slopes)}
        return {**told, **named, **{f"prior_{i + 1}_likely": float(belief) for i, belief in enumerate(likely)}}

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) scores: what the sources say and what was learned beside it, and what the labels say alone."""
        return self._mean(archs, self.rest.predict(archs), self.alone.predict(archs))

    def _mean(self, archs: Sequence[Arch], rest: Matrix, alone: Matrix) -> Matrix:
        fit = self._require_fit()
        zero, unit = fit.scale
        scores = fit.unit * rest
        for known, slope in zip(self.known, fit.slopes):
            if slope:
                scores = scores + slope * known(archs)
        return np.asarray(zero + unit * ((1 - fit.alone) * scores + fit.alone * alone))

    def uncertainty(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) standard deviations in the unit of ``predict``; the two rankers are taken to err alike, for they saw the same labels."""
        self._require_fit()
        assert isinstance(self.rest, Uncertain)
        assert isinstance(self.alone, Uncertain)
        return self._deviation(self.rest.uncertainty(archs), self.alone.uncertainty(archs))

    def _deviation(self, rest: Matrix, alone: Matrix) -> Matrix:
        fit = self._require_fit()
        return np.asarray(fit.scale[1] * ((1 - fit.alone) * fit.unit * rest + fit.alone * alone))

    def _relearn(self, learned: NDArray[np.int64], out: NDArray[np.int64]) -> Matrix:
        """Scores of the labelled places ``out`` by a twin that saw those of ``learned`` alone, and learned no source again."""
        fit, twin = self._require_fit(), type(self)(self.space, self.make, self.sources, teach=self.teach, seed=self.seed)
        twin._learned = self.known
        twin.fit([fit.archs[i] for i in learned], fit.labels[learned])
        return twin.predict([fit.archs[i] for i in out])

    def state_dict(self) -> State:
        """The labels that were given; all else is learned again from them, with the same result."""
        return {} if self._fit is None else {"archs": [str(arch) for arch in self._fit.archs], "scores": self._fit.labels}

    def load_state_dict(self, state: State) -> None:
        """Takes what another with the same settings and sources learned.

        Raises:
            InvalidArchError: if the state is of another space.
        """
        self._fit = None
        if state:
            self.fit([parse(text) for text in state["archs"]], state["scores"])


class WarmBeliefs(Warm):
    """A warm ranker of a kind that believes in the unit of the labels, such as ``gp``: so does this one, and says what more labels would tell."""

    def _scored(self, labels: Matrix) -> tuple[Matrix, tuple[float, float]]:
        lifted = floored(labels)
        zero, unit = float(lifted.mean()), float(lifted.std())
        return (lifted - zero) / unit, (zero, unit)

    def beliefs(self, archs: Sequence[Arch], *, assumed: Sequence[Arch] = ()) -> tuple[Matrix, Matrix]:
        """What ``predict`` and ``uncertainty`` return, each (N,), as if ``assumed`` had been labelled too, as expected.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        self._require_fit()
        rest, alone = (cast(Believer, ranker).beliefs(archs, assumed=assumed) for ranker in (self.rest, self.alone))
        return self._mean(archs, rest[0], alone[0]), self._deviation(rest[1], alone[1])


class Continued:
    """A ranker that goes on from the weights with which it learned other labels, unless the new ones say that those are of no use.

    Args:
        space: of all labels.
        make: makes the ranker, which must be able to go on learning.
        sources: labels from elsewhere, learned one after the other as one set of normal scores.
        epochs: over the new labels.

    Raises:
        SettingError: without a source, or for a ranker that always learns from scratch.
    """

    def __init__(self, space: Space, make: Callable[[], Ranker], sources: Sequence[Source], *, epochs: int = 250) -> None:
        self.space, self.make, self.sources, self.epochs = space, make, list(sources), epochs
        self.ranker = make()
        if not isinstance(self.ranker, Updatable):
            raise SettingError(f"{type(self.ranker).__name__} learns from scratch and cannot begin with a prior; use best, gp or nac")
        if not sources:
            raise SettingError("a prior needs labels from somewhere; name a run folder or a table")
        self._begun: State | None = None

    def fit(self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None) -> Mapping[str, float]:
        """What the ranker says of its fit, and how likely the sources say something (``prior_1_likely``).

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        unique, labels = check_labels(self.space, archs, scores)
        if self._begun is None:
            learned = [check_labels(self.space, source.archs, source.scores) for source in self.sources]
            first = self.make()
            first.fit([arch for part, _ in learned for arch in part], np.concatenate([normal_scores(part) for _, part in learned]))
            self._begun = deepcopy(dict(first.state_dict()))
        self.ranker = self.make()
        self.ranker.load_state_dict(deepcopy(self._begun))  # an optimizer would go on in the same tensors
        _, likely = _slope(self.ranker.predict(unique), normal_scores(labels), 1.0)
        if likely < 0.5:
            self.ranker = self.make()
            return {**self.ranker.fit(archs, scores, pairs=pairs), "prior_1_likely": likely}
        return {**keep_learning(self.ranker, archs, scores, pairs=pairs, epochs=self.epochs), "prior_1_likely": likely}

    def update(
        self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None, epochs: int = 1
    ) -> Mapping[str, float]:
        """What the ranker says of ``epochs`` more passes from where it is."""
        if self._begun is None:
            return self.fit(archs, scores, pairs=pairs)
        return keep_learning(self.ranker, archs, scores, pairs=pairs, epochs=epochs)

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) scores; only their order means anything."""
        return self.ranker.predict(archs)

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> Matrix:
        """(P,) probabilities that ``first[i]`` is at least as good as ``second[i]``."""
        return self.ranker.prob(first, second)

    def state_dict(self) -> State:
        """All that was learned."""
        return {"ranker": self.ranker.state_dict(), "begun": self._begun or {}}

    def load_state_dict(self, state: State) -> None:
        """Takes what another with the same sources learned."""
        self.ranker.load_state_dict(state["ranker"])
        self._begun = state["begun"] or None


def warmed(
    space: Space, make: Callable[[], Ranker], sources: Sequence[Source], *, teach: Callable[[], Ranker] | None = None, seed: int = 0
) -> Ranker:
    """Returns a ranker that begins with what the sources know: of the kind that ``make`` makes.

    Args:
        space: of all labels.
        make: makes the ranker of the labels.
        sources: labels from elsewhere.
        teach: makes the ranker that learns a source, where that need not be of the same kind; None = ``make`` does.
        seed: of what is drawn.

    Raises:
        SettingError: without a source, or for a ranker that neither knows its uncertainty nor goes on learning.
    """
    made = make()
    if isinstance(made, Updatable) and not isinstance(made, Uncertain):
        return Continued(space, make, sources)
    believes = isinstance(made, Believer) and all(source.foretells for source in sources)
    return (WarmBeliefs if believes else Warm)(space, make, sources, teach=teach, seed=seed)


def _reliability(tau: float, n: int) -> float:
    """Returns how far a source can be trusted that orders its own held-out labels with ``tau``, chance taken off; a half if that is not known.

    Source: the standard deviation of tau between unrelated orders, Kendall, "A New Measure of Rank Correlation", Biometrika 1938.
    """
    if not math.isfinite(tau):
        return 0.5
    return max(0.0, tau - 2 * math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))))


def _slope(said: Matrix, rest: Matrix, reliability: float) -> tuple[float, float]:
    """Returns the expected slope of what is left to explain over what a source says, and how likely it says something."""
    spread, unit = float(said.std()), float(rest.std())
    if spread <= 1e-12 or unit <= 1e-12:
        return 0.0, 0.0
    expected, likely = trust((said - said.mean()) / spread, (rest - rest.mean()) / unit, reliability)
    return expected * unit / spread, likely
