"""Which of two architectures is better: comparators and regressors, one interface for every space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "GCN",
    "NAC",
    "Boosting",
    "ByScores",
    "ExtraTrees",
    "GaussianProcess",
    "Jury",
    "OneHotMLP",
    "ReNAS",
    "ScikitLearn",
    "SizeBelief",
]

if TYPE_CHECKING:
    from archduel.rankers.best import Jury
    from archduel.rankers.forest import Boosting, ExtraTrees
    from archduel.rankers.gp import GaussianProcess
    from archduel.rankers.nac import NAC
    from archduel.rankers.neural_regression import GCN, OneHotMLP
    from archduel.rankers.renas import ReNAS
    from archduel.rankers.scikit import ScikitLearn
    from archduel.rankers.sized import SizeBelief
    from archduel.rankers.slope import ByScores
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "GCN": "archduel.rankers.neural_regression",
            "NAC": "archduel.rankers.nac",
            "Boosting": "archduel.rankers.forest",
            "ByScores": "archduel.rankers.slope",
            "ExtraTrees": "archduel.rankers.forest",
            "GaussianProcess": "archduel.rankers.gp",
            "Jury": "archduel.rankers.best",
            "OneHotMLP": "archduel.rankers.neural_regression",
            "ReNAS": "archduel.rankers.renas",
            "ScikitLearn": "archduel.rankers.scikit",
            "SizeBelief": "archduel.rankers.sized",
        },
    )
