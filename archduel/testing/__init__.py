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
    from archduel.testing.estimators import EstimatorContract
    from archduel.testing.one_shot import OneShotContract
    from archduel.testing.policies import PolicyContract
    from archduel.testing.rankers import RankerContract
    from archduel.testing.shared_estimators import SharedEstimatorContract
    from archduel.testing.spaces import SpaceContract
    from archduel.testing.strategies import StrategyContract
    from archduel.testing.toy import ToyRanker, ToySpace, toy_score
    from archduel.testing.toy_shared import ToyShared, ToySupernet
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "EstimatorContract": "archduel.testing.estimators",
            "OneShotContract": "archduel.testing.one_shot",
            "PolicyContract": "archduel.testing.policies",
            "RankerContract": "archduel.testing.rankers",
            "SharedEstimatorContract": "archduel.testing.shared_estimators",
            "SpaceContract": "archduel.testing.spaces",
            "StrategyContract": "archduel.testing.strategies",
            "ToyRanker": "archduel.testing.toy",
            "ToyShared": "archduel.testing.toy_shared",
            "ToySpace": "archduel.testing.toy",
            "ToySupernet": "archduel.testing.toy_shared",
            "toy_score": "archduel.testing.toy",
        },
    )
