"""Contract suites that every space, strategy, ranker, policy and estimator must pass, and toys to try one on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "EstimatorContract",
    "OneShotContract",
    "PolicyContract",
    "RankerContract",
    "SharedEstimatorContract",
    "SpaceContract",
    "StrategyContract",
    "ToyRanker",
    "ToyShared",
    "ToySpace",
    "ToySupernet",
    "toy_score",
]

if TYPE_CHECKING:
    from archduel.testing.estimators import EstimatorContract, SharedEstimatorContract
    from archduel.testing.strategies import OneShotContract, StrategyContract
    from archduel.testing.suites import PolicyContract, RankerContract, SpaceContract
    from archduel.testing.toy import ToyRanker, ToyShared, ToySpace, ToySupernet, toy_score
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "EstimatorContract": "archduel.testing.estimators",
            "OneShotContract": "archduel.testing.strategies",
            "PolicyContract": "archduel.testing.suites",
            "RankerContract": "archduel.testing.suites",
            "SharedEstimatorContract": "archduel.testing.estimators",
            "SpaceContract": "archduel.testing.suites",
            "StrategyContract": "archduel.testing.strategies",
            "ToyRanker": "archduel.testing.toy",
            "ToyShared": "archduel.testing.toy",
            "ToySpace": "archduel.testing.toy",
            "ToySupernet": "archduel.testing.toy",
            "toy_score": "archduel.testing.toy",
        },
    )
