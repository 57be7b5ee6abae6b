"""The jury: the ranker that `--rankers best` means, with the best order per label in every space.

1. Architectures that the space's fingerprint makes equal are one, with the mean of their labels; unless held-out labels say that they
   are no property of what an architecture computes, as latency and size are not: then all are different, and the graph is looked at too.
2. Labels become normal scores of their ranks.
3. Four judges learn them from the space's description and closed-form costs: boosted trees, random trees, a Gaussian
   process that counts each column as much as the trees found it to matter, and another that goes on from there to where the
   labels are likelier.
4. Each judge is weighed by how it did on labels it had not seen (out of fold), the more so the more labels there are; the
   same held-out labels calibrate the win probabilities.

Trees know which of hundreds of columns carry the order but predict in steps; a Gaussian process is smooth but lost among
useless columns. Weighing squared distances by the trees' importances joins the two.

Nothing is used but the labels given to ``fit``, the space, and random unlabelled architectures of it.

Sources: Friedman, "Stochastic Gradient Boosting", Computational Statistics and Data Analysis 38 (2002); Geurts et al., "Extremely
Randomized Trees", Machine Learning 63 (2006); Breiman, "Stacked Regressions", Machine Learning 24 (1996), for weights that are not
negative, learned out of fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr
from scipy.stats import kendalltau

from archduel.core import Arch, Costs, Space, State, parse, sample
from archduel.core.ranks import normal_scores
from archduel.errors import SettingError, StateError, check_at_least
from archduel.rankers.columns import Standardiser, describe_seen, graph_view, measure
from archduel.rankers.gp import Grid, Process, Relevances, Start, hyperparameters, posterior
from archduel.rankers.labels import Pairs, check_archs, check_labels, check_sides, distinct

__all__ = ["JUDGES", "VIEWS", "Judges", "Jury", "Weighing", "fit_judges", "fit_process", "refine_process", "unweighed", "weigh"]

Matrix = NDArray[np.float64]
JUDGES = ("process", "refined", "boosting", "forest")
# Weights without held-out labels: the processes are somewhat better alone. On digits201 with 100 labels (8 splits) tau is
# 0.798, 0.795, 0.768 and 0.783 in the order of JUDGES, 0.803 with these weights and 0.802 with equal ones.
USUAL = (0.3, 0.3, 0.2, 0.2)
# From this many labels on, what held-out labels say counts more than the usual weights: judges agree far more than they
# differ, so that a hundred labels say little about who is right.
TRUST = 200
# Ridge of the least squares, worth one label: it only has to decide between judges that give the same scores.
RIDGE = 1.0
# Held-out labels that are enough: they outweigh the usual weights 5 to 2, and each further fold is a whole fit.
ENOUGH_HELD_OUT = 500
# Candidate factors by which stated deviations may be off, in steps of 10 %.
STRETCHES = np.geomspace(0.4, 4.0, 25)
# Held-out pairs that calibrate: each of 500 labels is in 80 of them.
COMPARED = 20_000
# Share of the importance that all columns have in common: a column that no tree happened to split on may matter yet.
SHARED_IMPORTANCE = 0.1
# Leaves of a boosted tree with few labels and with at least `MANY`: 8 leaves of a hundred labels hold a dozen each, and
# deeper trees would follow single ones.
LEAVES, MANY = (8, 31), 1000
# Learning rate times trees, so that more trees mean smaller steps, not longer ways.
BOOSTING_STEPS = 15
# Length scales in units of the median distance, since importances set no unit: from "only neighbours count" to "nearly linear".
# Noises reach further than the ranker `gp`'s: ranks put as much between two near-equal networks as between any other two.
GRID = Grid((0.3, 0.5, 0.8, 1.3, 2.0, 3.0, 4.5, 7.0), (0.003, 0.01, 0.03, 0.07, 0.15, 0.3, 0.6), in_medians=True)
# Hyper-parameters are chosen on at most this many labels, since a fit with five folds chooses six times.
GRID_LABELS = 500
# The trees' importances are a good start: weights may move by a factor of exp(1.5) = 4.5 easily, in ten steps.
REFINING = Relevances(spread=1.5, iterations=10)
VIEWS = ("auto", "effect", "graph")
# Standard errors by which held-out labels have to be foretold better from the graph. In 36 splits of accuracies (40 to 300 labels of
# CIFAR-10 and -100, NAS-Bench-201) it was 0.4 at most; with 78 labels of a latency more in 6 of 8 splits, of an energy in 7, with 300 in all.
CLEARLY = 1.0
# Labels that are held out for this; with fewer than the first a fold would be a handful.
ENOUGH_TO_CHOOSE = (16, 500)
# Deviations that an error counts as at most: a few labels that nothing foretells would drown what all others say.
AT_MOST = 1.0
# Architectures described at a time, which bounds the memory of a query for a whole space.
CHUNK = 4096


class Judges(NamedTuple):
    """The four fitted judges."""

    process: Process
    refined: Process
    boosting: Any
    forest: Any

    def scores(self, x: Matrix, *, deviation: bool = True) -> tuple[Matrix, Matrix]:
        """(N, 4) scores in the order of JUDGES, and (N,) the first process's standard deviations of the noise-free score.

        Args:
            x: (N, F) columns.
            deviation: whether deviations are wanted; without, they are empty.
        """
        mean, spread = self.process.believe(x, deviation=deviation)
        refined, _ = self.refined.believe(x, deviation=False)
        # The trees were grown on single precision, and would convert once each otherwise.
        single = x.astype(np.float32)
        trees = self.boosting.predict(single), self.forest.predict(single)
        return np.stack([mean, refined, *trees], 1), spread


def fit_process(x: Matrix, y: Matrix, importance: Matrix) -> Process:
    """The first process, which counts columns in squared distances by their ``importance`` (F,), not negative.

    Args:
        x: (n, F) columns of comparable spread.
        y: (n,) labels.
        importance: of each column.
    """
    few, unit = slice(0, GRID_LABELS), np.sqrt(importance / max(importance.sum(), 1e-300))
    # Matern 3/2, and 5/2 for the refined one, so that the two differ in more than their weights. Which has which matters
    # little (digits201, 100 labels, 8 splits: the first has tau 0.798 with 3/2 and 0.800 with 5/2).
    given = hyperparameters(x[few], _standardised(y)[few], unit=unit, start=GRID, smoothness=1.5)
    return posterior(x, y, given, smoothness=1.5)


def refine_process(process: Process, x: Matrix, y: Matrix) -> Process:
    """The second process, of the same labels: columns count as much as makes the labels likely, near ``process``.

    Columns that ``process`` does not look at stay unseen.
    """
    few, seen = slice(0, GRID_LABELS), process.scale > 0
    start = Start(process.scale[seen] ** 2, process.noise)
    # Columns enter unscaled, because the start says what they count.
    given = hyperparameters(
        x[few], _standardised(y)[few], unit=seen.astype(np.float64), start=start, relevances=REFINING
    )
    return posterior(x, y, given)


def _standardised(y: Matrix) -> Matrix:
    return np.asarray((y - y.mean()) / (float(y.std()) or 1.0))


def fit_judges(x: Matrix, y: Matrix, *, trees: int, seed: int) -> Judges:
    """The judges of labels ``y`` (n,) of architectures with columns ``x`` (n, F).

    Args:
        x: columns of comparable spread.
        y: labels.
        trees: boosted trees; half as many random ones.
        seed: of the trees.
    """
    from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor

    n = len(y)
    # Subsampled rows and columns make trees differ, which is worth most with few labels (Friedman, 2002). A leaf of five
    # labels averages noise away, but of eight labels only leaves of one can say anything.
    boosting = GradientBoostingRegressor(
        n_estimators=trees,
        learning_rate=BOOSTING_STEPS / trees,
        max_depth=None,
        max_leaf_nodes=LEAVES[n >= MANY],
        min_samples_leaf=max(1, min(5, n // 8)),
        subsample=0.8,
        max_features=0.3,
        random_state=seed,
    )
    # One thread: searches and comparisons fit several rankers side by side.
    forest = ExtraTreesRegressor(max(1, trees // 2), max_features=0.4, random_state=seed, n_jobs=1)
    single = x.astype(np.float32)
    boosting.fit(single, y)
    forest.fit(single, y)
    importance = (boosting.feature_importances_ + forest.feature_importances_) / 2
    process = fit_process(x, y, importance + SHARED_IMPORTANCE / x.shape[1])
    return Judges(process, refine_process(process, x, y), boosting, forest)


class Weighing(NamedTuple):
    """How the judges' scores become one, and how sure it is.

    Attributes:
        weights: (J,) of each judge, at least 0.
        stretch: factor that makes stated standard deviations true on held-out labels.
        tau: Kendall's tau of the joint scores with the held-out labels, nan if there were none.
    """

    weights: Matrix
    stretch: float
    tau: float


def unweighed() -> Weighing:
    """The usual weights, uncalibrated, for want of held-out labels."""
    return Weighing(np.array(USUAL), 1.0, float("nan"))


def weigh(scores: Matrix, deviation: Matrix, y: Matrix) -> Weighing:
    """Weights and calibration that fit held-out labels.

    Args:
        scores: (n, J) of the judges.
        deviation: (n,) standard deviation of label minus score, as stated.
        y: (n,) labels.
    """
    weights = _weights(scores, y)
    joint = scores @ weights
    return Weighing(weights, _stretch(joint, deviation, y), float(kendalltau(joint, y)[0]))


def _weights(scores: Matrix, y: Matrix) -> Matrix:
    """(J,) weights: those of least squares, not negative, and the more of the usual ones the fewer the labels."""
    from scipy.optimize import nnls

    # The ridge is appended as J rows that pull towards the usual weights; it scales with the scores, as labels do.
    usual = np.array(USUAL)
    pull = np.sqrt(RIDGE * scores.var()) * np.eye(len(usual))
    learned, _ = nnls(np.concatenate([scores, pull]), np.concatenate([y, pull @ usual]))
    return np.asarray((len(y) * learned + TRUST * usual) / (len(y) + TRUST))


def _stretch(joint: Matrix, deviation: Matrix, y: Matrix) -> float:
    """The factor of the deviations under which held-out comparisons are likeliest."""
    # Comparisons, not labels, are what probabilities are asked of. A fixed seed: the same labels give the same answer.
    rng = np.random.default_rng(0)
    first, second = rng.integers(len(y), size=(2, COMPARED))
    sign = np.sign(y[first] - y[second])
    spread = np.sqrt(deviation[first] ** 2 + deviation[second] ** 2)
    margin = sign * (joint[first] - joint[second]) / spread
    likelihood = [log_ndtr(margin / stretch)[sign != 0].sum() for stretch in STRETCHES]
    return float(STRETCHES[int(np.argmax(likelihood))])


def foretold(x: Matrix, y: Matrix, *, trees: int, seed: int) -> Matrix:
    """(n,) what random trees say of each label that did not see it, five-fold.

    Args:
        x: (n, F) columns.
        y: (n,) labels.
        trees: how many.
        seed: of trees and folds.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    part, said, single = np.random.default_rng([seed, 3]).permutation(len(y)) % 5, np.empty(len(y)), x.astype(np.float32)
    for fold in range(5):
        out = part == fold
        forest = ExtraTreesRegressor(trees, max_features=0.4, random_state=seed, n_jobs=1)
        said[out] = forest.fit(single[~out], y[~out]).predict(single[out])
    return said


class _Fit(NamedTuple):
    """All that a fit learned."""

    archs: list[Arch]
    labels: Matrix
    view: str
    standardise: Standardiser
    judges: Judges
    weighing: Weighing


class Jury:
    """Four judges who look at an architecture's description; scores are normal scores (0 = the median label).

    Args:
        space: the space; its ``features`` describe architectures, its ``fingerprint`` says which are equal.
        costs: gives closed-form costs of architectures, such as parameters and multiply-adds; None = not used.
        folds: parts in which held-out labels weigh the judges and calibrate, as many of them as give 500 held-out labels;
            0 = the usual weights, uncalibrated, several times faster.
        view: of what labels are a property: ``effect``, what an architecture computes (accuracies): those of one fingerprint are one;
            ``graph``, how it is written down (latency, size): all are different, and the graph is looked at too; ``auto`` = the
            effect, unless held-out labels are clearly foretold better from the graph.
        trees: boosted trees; half as many random ones.
        reference: random unlabelled architectures that set the scale of each column.
        seed: of trees, folds and those architectures.

    Raises:
        SettingError: for settings out of range.
    """

    def __init__(
        self,
        space: Space,
        costs: Costs | None = None,
        *,
        folds: int = 5,
        view: str = "auto",
        trees: int = 150,
        reference: int = 1000,
        seed: int = 0,
    ) -> None:
        if view not in VIEWS:
            raise SettingError(f"view is {view!r}, expected {', '.join(map(repr, VIEWS))}")
        if folds == 1 or folds < 0:
            raise SettingError(f"folds is {folds}, expected 0 (nothing is held out) or at least 2")
        check_at_least(15, trees=trees)
        check_at_least(0, reference=reference)
        self.space, self.costs, self.view = space, costs, view
        self.folds, self.trees, self.reference, self.seed = folds, trees, reference, seed
        self._fit: _Fit | None = None

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None
    ) -> Mapping[str, float]:
        """Each judge's weight and the held-out rank agreement, after learning from scratch; ``pairs`` are not used.

        Architectures that are given several times, or are equal by fingerprint where labels are those of the effect, count once, with
        the mean of their labels.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        unique, labels = check_labels(self.space, archs, scores)
        unequal, merged = self._merged(unique, labels)
        view = self._view(unique, labels, merges=len(unequal) < len(unique))
        unequal, merged = (unique, labels) if view == "graph" else check_labels(self.space, unequal, merged)
        columns = self._describe(unequal, view)
        standardise = self._measure(columns, view)
        x, y = standardise(columns), normal_scores(merged)
        weighing = self._weigh_held_out(x, y)
        judges = fit_judges(x, y, trees=self.trees, seed=self.seed)
        self._fit = _Fit(list(archs), np.asarray(scores, np.float64), view, standardise, judges, weighing)
        weights = {f"weight_{judge}": float(w) for judge, w in zip(JUDGES, weighing.weights)}
        return {**weights, "held_out_tau": weighing.tau, "noise": judges.process.noise, "graph": float(view == "graph")}

    def _merged(self, unique: list[Arch], labels: Matrix) -> tuple[list[Arch], Matrix]:
        """The first architecture of each fingerprint, and the mean label of all that have it."""
        _, index = np.unique([self.space.fingerprint(arch) for arch in unique], return_inverse=True)
        # `np.unique` sorts by fingerprint; folds are drawn by place, so the order of appearance is brought back.
        first = np.unique(index, return_index=True)[1]
        means = (np.bincount(index, labels) / np.bincount(index))[np.argsort(first)]
        return [unique[i] for i in np.sort(first)], means

    def _view(self, unique: list[Arch], labels: Matrix, *, merges: bool) -> str:
        """What the labels are a property of: as set, or as held-out labels say."""
        least, most = ENOUGH_TO_CHOOSE
        same = not merges and graph_view(self.space) == "features"
        # Where nothing is merged and nothing else can be seen there is no choice; without folds nothing is to be held out.
        if self.view != "auto" or same or not self.folds or len(unique) < least:
            return "graph" if self.view == "graph" else "effect"
        few, y = unique[:most], normal_scores(labels[:most])
        said = (foretold(self._describe(few, view), y, trees=self.trees // 2, seed=self.seed) for view in VIEWS[1:])
        effect, graph = (np.minimum(abs(each - y), AT_MOST) ** 2 for each in said)
        better = effect - graph
        return "graph" if better.mean() * np.sqrt(len(y)) > CLEARLY * better.std() else "effect"

    def _describe(self, archs: Sequence[Arch], view: str) -> Matrix:
        return describe_seen(self.space, archs, view, costs=self.costs)

    def _measure(self, columns: Matrix, view: str) -> Standardiser:
        """The standardiser of labelled ``columns`` (n, F) together with random architectures, which carry no labels."""
        if not self.reference:
            return measure(columns)
        rng = np.random.default_rng([self.seed, 1])
        random = self._describe([sample(self.space, rng) for _ in range(self.reference)], view)
        return measure(np.concatenate([columns, random]))

    def _weigh_held_out(self, x: Matrix, y: Matrix) -> Weighing:
        """The judges' weights and the calibration from labels that they had not seen."""
        # A fold of fewer than four labels would be judged by judges of hardly more.
        folds = min(self.folds, len(y) // 4)
        if folds < 2:
            return unweighed()
        part = np.random.default_rng([self.seed, 2]).permutation(len(y)) % folds
        judged = np.zeros(len(y), bool)
        scores, deviation, noise = np.empty((len(y), len(JUDGES))), np.empty(len(y)), np.empty(len(y))
        for fold in range(min(folds, -(-ENOUGH_HELD_OUT * folds // len(y)))):
            out = part == fold
            # Where all labels but a held-out one are equal, no order is left to learn, and nothing to weigh judges by.
            if np.ptp(y[~out]) == 0:
                continue
            judges = fit_judges(x[~out], y[~out], trees=self.trees, seed=self.seed)
            scores[out], deviation[out] = judges.scores(x[out])
            noise[out], judged[out] = judges.process.noise_variance, True
        if not judged.any() or np.ptp(y[judged]) == 0:
            return unweighed()
        return weigh(scores[judged], np.sqrt(deviation**2 + noise)[judged], y[judged])

    def _scores(self, archs: Sequence[Arch], *, deviation: bool) -> tuple[Matrix, Matrix]:
        """(N,) scores and (N,) standard deviations; each distinct architecture is described once."""
        fit = self._require_fit()
        check_archs(self.space, archs)
        unique, index = distinct(archs)
        scores, spread = np.empty(len(unique)), np.zeros(len(unique))
        for start in range(0, len(unique), CHUNK):
            part = slice(start, start + CHUNK)
            x = fit.standardise(self._describe(unique[part], fit.view))
            each, deviations = fit.judges.scores(x, deviation=deviation)
            scores[part] = each @ fit.weighing.weights
            if deviation:
                spread[part] = deviations
        return scores[index], spread[index]

    def _require_fit(self) -> _Fit:
        if self._fit is None:
            raise StateError("the jury has learned nothing yet; call fit first")
        return self._fit

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) normal scores: 0 = as good as the median label, 1 = better than 84 % of them.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        return self._scores(archs, deviation=False)[0]

    def uncertainty(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) calibrated standard deviations of the scores, label noise left out.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        return self._scores(archs, deviation=True)[1] * self._require_fit().weighing.stretch

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> Matrix:
        """(P,) calibrated probabilities that a label of ``first[i]`` is at least that of ``second[i]``.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
            SettingError: for sides of different lengths.
        """
        check_sides(first, second)
        fit = self._require_fit()
        scores, spread = self._scores([*first, *second], deviation=True)
        n = len(first)
        # Two labels are compared, so that the noise of both counts; the two beliefs are taken as independent, which the
        # stretch makes good for on average.
        variance = spread[:n] ** 2 + spread[n:] ** 2 + 2 * fit.judges.process.noise_variance
        return np.asarray(ndtr((scores[:n] - scores[n:]) / (fit.weighing.stretch * np.sqrt(variance))))

    def with_graphs(self) -> Jury:
        """A fresh jury with the same settings for labels that belong to how an architecture is written down."""
        return Jury(self.space, self.costs, folds=self.folds, view="graph", trees=self.trees, reference=self.reference, seed=self.seed)

    def state_dict(self) -> State:
        """The labels that were given; the judges are fitted again from them, with the same result."""
        if self._fit is None:
            return {}
        return {"archs": [str(arch) for arch in self._fit.archs], "scores": self._fit.labels}

    def load_state_dict(self, state: State) -> None:
        """Takes what another with the same settings learned.

        Raises:
            InvalidArchError: if the state is of another space.
        """
        self._fit = None
        if state:
            self.fit([parse(text) for text in state["archs"]], state["scores"])
