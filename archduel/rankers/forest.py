"""Tree baselines on graph features: boosting (LightGBM) and extremely randomised trees (scikit-learn).

Source: Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017; Geurts et al., "Extremely
Randomized Trees", Machine Learning 63 (2006); graph features after Kadlecova et al., "Surprisingly Strong Performance
Prediction with Neural Graph Features", ICML 2024.
"""

from __future__ import annotations

from archduel.core import Space
from archduel.errors import SettingError
from archduel.rankers.columns import Costs
from archduel.rankers.regression import Regression, Regressor

__all__ = ["Boosting", "ExtraTrees"]


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
        target: the ``label``, or its ``rank``; see :class:`~archduel.rankers.regression.Regression`.
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
        seed: int = 0,
    ) -> None:
        if min(trees, leaves - 1, min_leaf) < 1 or lr <= 0 or not 0 < rows <= 1 or not 0 < columns <= 1:
            raise SettingError(
                "trees and min_leaf must be at least 1, leaves at least 2, lr above 0, rows and columns above 0 and at most 1"
            )
        self.trees, self.lr, self.leaves, self.min_leaf = trees, lr, leaves, min_leaf
        self.rows, self.columns = rows, columns
        super().__init__(space, costs, fresh=self._booster, target=target, seed=seed)

    def _booster(self) -> Regressor:
        try:
            from archduel.rankers.booster import Booster
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
        target: the ``label``, or its ``rank``; see :class:`~archduel.rankers.regression.Regression`.
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
        seed: int = 0,
    ) -> None:
        if trees < 1 or not 0 < columns <= 1:
            raise SettingError(
                f"trees must be at least 1, columns above 0 and at most 1; got {trees} and {columns}"
            )
        self.trees, self.columns = trees, columns
        super().__init__(space, costs, fresh=self._forest, target=target, seed=seed)

    def _forest(self) -> Regressor:
        from sklearn.ensemble import ExtraTreesRegressor

        return ExtraTreesRegressor(self.trees, max_features=self.columns, random_state=self.seed, n_jobs=1)
