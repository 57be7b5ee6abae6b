"""Which of two architectures is better: comparators and regressors, one interface for every space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "GCN",
    "NAC",
    "Boosting",
    "ExtraTrees",
    "GaussianProcess",
    "Jury",
    "OneHotMLP",
    "ReNAS",
    "ScikitLearn",
    "SizeBelief",
    "WinCurve",
]

# Lazily, because half of these load torch or scikit-learn, and a command that names one ranker needs one.
if TYPE_CHECKING:
    from archduel.rankers.best import Jury
    from archduel.rankers.gp import GaussianProcess
    from archduel.rankers.labels import WinCurve
    from archduel.rankers.nac import NAC
    from archduel.rankers.neural_regression import GCN, OneHotMLP
    from archduel.rankers.regressors import Boosting, ExtraTrees, ScikitLearn
    from archduel.rankers.renas import ReNAS
    from archduel.rankers.size_belief import SizeBelief
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "GCN": "archduel.rankers.neural_regression",
            "NAC": "archduel.rankers.nac",
            "Boosting": "archduel.rankers.regressors",
            "ExtraTrees": "archduel.rankers.regressors",
            "GaussianProcess": "archduel.rankers.gp",
            "Jury": "archduel.rankers.best",
            "OneHotMLP": "archduel.rankers.neural_regression",
            "ReNAS": "archduel.rankers.renas",
            "ScikitLearn": "archduel.rankers.regressors",
            "SizeBelief": "archduel.rankers.size_belief",
            "WinCurve": "archduel.rankers.labels",
        },
    )
