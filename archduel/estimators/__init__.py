"""How good an architecture is: trained alone, with shared weights, or measured untrained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "Latency",
    "SharedWeights",
    "TrainingEstimator",
    "ZeroCost",
    "latency_ms",
]

if TYPE_CHECKING:
    from archduel.estimators.shared import SharedWeights
    from archduel.estimators.timing import Latency, latency_ms
    from archduel.estimators.training import TrainingEstimator
    from archduel.estimators.zero_cost import ZeroCost
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Latency": "archduel.estimators.timing",
            "SharedWeights": "archduel.estimators.shared",
            "TrainingEstimator": "archduel.estimators.training",
            "ZeroCost": "archduel.estimators.zero_cost",
            "latency_ms": "archduel.estimators.timing",
        },
    )
