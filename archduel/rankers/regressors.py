"""Any regressor as a ranker: trees (LightGBM, scikit-learn) and whatever else scikit-learn has, on graph features.

A regressor learns columns that describe architectures; scores are its predictions. A saved state holds architectures, labels
and settings, no model: the regressor is fitted again, with the same result, and nothing has to be unpickled.

Sources: Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017; Geurts et al., "Extremely
Randomized Trees", Machine Learning 63 (2006); graph features after Kadlecova et al., "Surprisingly Strong Performance Prediction
with Neural Graph Features", ICML 2024.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import signature
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Costs, Space, State, parse
from archduel.core.ranks import normal_scores
from archduel.errors import SettingError, StateError, check_at_least, check_positive, check_share, unknown
from archduel.rankers.columns import Standardiser, check_view, describe, graph_view, measure
from archduel.rankers.labels import Pairs, ScoreRanker, WinCurve, check_labels, each_once

__all__ = ["MODULES", "Booster", "Boosting", "ExtraTrees", "Regression", "Regressor", "ScikitLearn"]

Matrix = NDArray[np.float64]
Single = NDArray[np.float32]
# Architectures described at a time, which bounds the memory of a query for a whole space.
CHUNK = 8192
# Settings that no user should change: one thread and a fixed order of sums, so that the same seed gives the same trees on
# any machine; rows are drawn anew for every tree (`bagging_freq`), which LightGBM does not do unless told to.
FIXED = {
    "objective": "regression",
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "bagging_freq": 1,
    "verbosity": -1,
}
# The parts of scikit-learn that regressors are taken from. A list, because a dotted name comes from outside, and importing
# whatever it says would run code.
MODULES = (
    "cross_decomposition", "dummy", "ensemble", "gaussian_process", "isotonic", "kernel_ridge", "linear_model", "neighbors",
    "neural_network", "svm", "tree",
)  # fmt: skip


class Regressor(Protocol):
    """What is asked of a regressor; scikit-learn's have it."""

    def fit(self, x: NDArray[np.float32], y: Matrix) -> Any:
        """Learns labels (n,) of columns (n, F)."""

    def predict(self, x: NDArray[np.float32]) -> Any:
        """(N,) predictions."""


class _Fit(NamedTuple):
    """What was learned."""

    archs: list[Arch]
    labels: Matrix
    regressor: Regressor
    wins: WinCurve


class Regression(ScoreRanker[_Fit]):
    """A regressor on the space's graph features, and on closed-form costs if given.

    Args:
        space: describes architectures.
        costs: gives closed-form costs; None = not used.
        fresh: makes an unfitted regressor.
        target: what is regressed: the ``label``, or the normal score of its ``rank``, which networks that failed to train
            cannot stretch.
        view: what is seen of an architecture: its ``graph`` (operations and edges), or its ``effect`` (all that the space says of
            it, such as what a cell computes: what ``best`` sees).
        seed: of the split that calibrates win probabilities.

    Raises:
        SettingError: for another target or view.
    """

    noun = "regressor"

    def __init__(
        self,
        space: Space,
        costs: Costs | None = None,
        *,
        fresh: Callable[[], Regressor],
        target: str = "label",
        view: str = "graph",
        seed: int = 0,
    ) -> None:
        check_view(view)
        self.view = view
        if target not in ("label", "rank"):
            raise SettingError(f"target is {target!r}, expected 'label' or 'rank'")
        self.space, self.costs, self.fresh, self.target, self.seed = space, costs, fresh, target, seed
        self._fit: _Fit | None = None

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None
    ) -> Mapping[str, float]:
        """``error``, the root mean square error on the targets in standard deviations, after learning from scratch.

        ``pairs`` are not used. An architecture that is given several times counts once, with the mean of its labels.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        unique, labels = check_labels(self.space, archs, scores)
        x, y = self._columns(unique), self._targets(labels)
        regressor = self.fresh()
        regressor.fit(x, y)
        error = _flat(regressor.predict(x)) - y
        self._fit = _Fit(unique, labels, regressor, WinCurve(self.predict, self._relearn, labels, seed=self.seed))
        return {"error": float(np.sqrt((error**2).mean()))}

    def _columns(self, archs: Sequence[Arch]) -> Single:
        return describe(self.space, archs, costs=self.costs, view=graph_view(self.space) if self.view == "graph" else "features").astype(np.float32)

    def _targets(self, labels: Matrix) -> Matrix:
        """(n,) what is regressed: standardised labels or normal scores."""
        if self.target == "rank":
            return normal_scores(labels)
        return np.asarray((labels - labels.mean()) / labels.std())

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) scores, in the unit of the labels or as normal scores; each distinct architecture is described once.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        fit = self._require_fit()
        scores = each_once(self.space, archs, lambda part: _flat(fit.regressor.predict(self._columns(part))), CHUNK)
        return np.asarray(scores if self.target == "rank" else fit.labels.mean() + fit.labels.std() * scores)

    def _relearn(self, learned: NDArray[np.int64], out: NDArray[np.int64]) -> Matrix:
        """Scores of the labelled places ``out`` by a regressor that saw those of ``learned`` alone."""
        fit = self._require_fit()
        # Targets are those of all labels, so that scores have the unit of `predict`, where the curve is used.
        x, y = self._columns(fit.archs), self._targets(fit.labels)
        regressor = self.fresh()
        regressor.fit(x[learned], y[learned])
        unit = 1.0 if self.target == "rank" else fit.labels.std()
        return np.asarray(unit * _flat(regressor.predict(x[out])))

    def state_dict(self) -> State:
        """The architectures and labels that were learned."""
        if self._fit is None:
            return {}
        return {"archs": [str(arch) for arch in self._fit.archs], "labels": self._fit.labels}

    def load_state_dict(self, state: State) -> None:
        """Learns again what another with the same settings learned.

        Raises:
            InvalidArchError: if the state is of another space.
        """
        self._fit = None
        if state:
            self.fit([parse(text) for text in state["archs"]], state["labels"])


def _flat(predictions: Any) -> Matrix:
    """(N,) predictions in double precision: some regressors answer in single, or with a column."""
    return np.asarray(predictions, np.float64).reshape(-1)


class Booster:
    """LightGBM's boosted trees with squared error, as a :class:`Regressor`; needs the extra ``predictors``.

    Args:
        rounds: number of trees.
        settings: LightGBM parameters.
    """

    def __init__(self, rounds: int, settings: Mapping[str, Any]) -> None:
        self.rounds, self.settings = rounds, {**settings, **FIXED}
        self._model: Any = None

    def fit(self, x: Single, y: Matrix) -> None:
        """Learns labels (n,) of columns (n, F)."""
        import lightgbm

        # LightGBM's own minima are made for thousands of rows: of fifty labels they would leave trees nothing to split.
        few = {
            "min_data_in_leaf": max(1, min(self.settings["min_data_in_leaf"], len(y) // 8)),
            "min_data_in_bin": 1,
        }
        settings = {**self.settings, **few}
        self._model = lightgbm.train(settings, lightgbm.Dataset(x, y, params=settings), self.rounds)

    def predict(self, x: Single) -> Matrix:
        """(N,) predictions."""
        return np.asarray(self._model.predict(x, num_threads=1), np.float64)


class Boosting(Regression):
    """LightGBM on graph features, one thread; needs the extra ``predictors``.

    Args:
        space: describes architectures.
        costs: gives closed-form costs; None = not used.
        trees: boosting rounds.
        lr: shrinkage of each.
        leaves: leaves of a tree at most.
        min_leaf: labels in a leaf at least.
        rows: share of the labels each tree sees.
        columns: share of the columns each tree sees.
        target: the ``label``, or its ``rank``; see :class:`Regression`.
        view: its ``graph`` or its ``effect``; see :class:`Regression`.
        seed: of what the trees see.

    Raises:
        SettingError: for settings out of range.
    """

    def __init__(
        self,
        space: Space,
        costs: Costs | None = None,
        *,
        trees: int = 300,
        lr: float = 0.03,
        leaves: int = 15,
        min_leaf: int = 5,
        rows: float = 0.8,
        columns: float = 0.3,
        target: str = "label",
        view: str = "graph",
        seed: int = 0,
    ) -> None:
        check_at_least(1, trees=trees, min_leaf=min_leaf)
        check_at_least(2, leaves=leaves)
        check_positive(lr=lr)
        check_share(rows=rows, columns=columns)
        self.trees, self.lr, self.leaves, self.min_leaf = trees, lr, leaves, min_leaf
        self.rows, self.columns = rows, columns
        super().__init__(space, costs, fresh=self._booster, target=target, view=view, seed=seed)

    def _booster(self) -> Regressor:
        try:
            # Looked for here, where the message can name the extra that brings it.
            import lightgbm  # noqa: F401
        except ImportError as error:
            raise SettingError(
                "the ranker 'boosting' needs LightGBM; install it with `pip install 'archduel[predictors]'`"
            ) from error
        settings = {
            "learning_rate": self.lr,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.min_leaf,
            "bagging_fraction": self.rows,
            "feature_fraction": self.columns,
            "seed": self.seed,
        }
        return Booster(self.trees, settings)


class ExtraTrees(Regression):
    """scikit-learn's extremely randomised trees on graph features, one thread.

    Args:
        space: describes architectures.
        costs: gives closed-form costs; None = not used.
        trees: how many.
        columns: share of the columns looked at in each split.
        target: the ``label``, or its ``rank``; see :class:`Regression`.
        view: its ``graph`` or its ``effect``; see :class:`Regression`.
        seed: of the trees.

    Raises:
        SettingError: for settings out of range.
    """

    def __init__(
        self,
        space: Space,
        costs: Costs | None = None,
        *,
        trees: int = 300,
        columns: float = 0.4,
        target: str = "label",
        view: str = "graph",
        seed: int = 0,
    ) -> None:
        check_at_least(1, trees=trees)
        check_share(columns=columns)
        self.trees, self.columns = trees, columns
        super().__init__(space, costs, fresh=self._forest, target=target, view=view, seed=seed)

    def _forest(self) -> Regressor:
        from sklearn.ensemble import ExtraTreesRegressor

        # One thread: comparisons fit several rankers side by side.
        return ExtraTreesRegressor(self.trees, max_features=self.columns, random_state=self.seed, n_jobs=1)


class ScikitLearn(Regression):
    """A regressor such as ``sklearn.svm.SVR`` on standardised graph features.

    A saved state holds architectures, labels, name, settings and seed; loading it fits the regressor again. Nothing else is
    imported by name: only regressors of scikit-learn's own modules (``MODULES``).

    Args:
        space: describes architectures.
        costs: gives closed-form costs; None = not used.
        regressor: dotted name.
        settings: of that class, JSON values.
        target: the ``label``, or its ``rank``; see :class:`Regression`.
        view: its ``graph`` or its ``effect``; see :class:`Regression`.
        seed: handed over as ``random_state`` where the class has one.

    Raises:
        SettingError: for another name, or settings that the class does not have.
    """

    def __init__(
        self,
        space: Space,
        costs: Costs | None = None,
        *,
        regressor: str = "sklearn.ensemble.RandomForestRegressor",
        settings: Mapping[str, Any] | None = None,
        target: str = "label",
        view: str = "graph",
        seed: int = 0,
    ) -> None:
        self.regressor, self.settings = regressor, dict(settings or {})
        self._class = _regressor_class(regressor)
        known = signature(self._class).parameters
        for name in self.settings:
            if name not in known:
                raise SettingError(str(unknown(f"setting of {regressor}:", name, known)))
        try:
            json.dumps(self.settings)
        except TypeError as error:
            raise SettingError(f"settings of {regressor} must be JSON values: {error}") from error
        self._given = {"random_state": seed, "n_jobs": 1}
        self._given = {name: value for name, value in self._given.items() if name in known} | self.settings
        super().__init__(space, costs, fresh=self._on_standardised, target=target, view=view, seed=seed)

    def _on_standardised(self) -> Regressor:
        return _OnStandardised(self._class(**self._given))

    def state_dict(self) -> State:
        """What was learned, and by which regressor."""
        state = super().state_dict()
        about = {"regressor": self.regressor, "settings": self.settings, "seed": self.seed}
        return {**state, **about} if state else {}

    def load_state_dict(self, state: State) -> None:
        """Learns again what another with the same settings learned.

        Raises:
            StateError: if the state is of another regressor, or of other settings.
            InvalidArchError: if the state is of another space.
        """
        mine = {"regressor": self.regressor, "settings": self.settings, "seed": self.seed}
        other = {name: state[name] for name in mine if name in state}
        if state and other != mine:
            raise StateError(
                f"the saved ranker is {other}, this one is {mine}; make one with the same settings"
            )
        super().load_state_dict(state)


class _OnStandardised:
    """A regressor that sees standardised columns: support vectors and neighbours go by distances."""

    def __init__(self, regressor: Regressor) -> None:
        self.regressor = regressor
        self.standardise: Standardiser | None = None

    def fit(self, x: Single, y: Matrix) -> None:
        # A column that is constant among the labels may vary elsewhere; how often a forest draws from the others must not
        # depend on that.
        self.standardise = measure(x.astype(np.float64), drop_constant=False)
        self.regressor.fit(self._standardised(x), y)

    def predict(self, x: Single) -> Any:
        return self.regressor.predict(self._standardised(x))

    def _standardised(self, x: Single) -> Single:
        assert self.standardise is not None  # fit comes first, and nobody else holds this object
        return self.standardise(x)


def _regressor_class(dotted: str) -> Any:
    """The regressor class of that name, from scikit-learn's own modules only."""
    module, _, name = dotted.rpartition(".")
    package, _, part = module.partition(".")
    if package != "sklearn" or part not in MODULES or name.startswith("_"):
        raise SettingError(
            f"regressor is {dotted!r}, expected sklearn.PART.NAME with PART one of {', '.join(MODULES)}, such as sklearn.svm.SVR"
        )
    from sklearn.base import RegressorMixin

    regressor = getattr(import_module(module), name, None)
    if not (isinstance(regressor, type) and issubclass(regressor, RegressorMixin)):
        raise SettingError(f"regressor is {dotted!r}, expected a regressor of scikit-learn, such as sklearn.svm.SVR")
    return regressor
