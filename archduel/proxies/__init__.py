"""Cheap recipes that keep the ranking of a full training (BPE)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "Agreement",
    "Importance",
    "Levels",
    "agreement_difference",
    "agreement_of_like_size",
    "forest_importance",
    "rank_agreement",
]

if TYPE_CHECKING:
    from archduel.proxies.agreement import Agreement, agreement_difference, agreement_of_like_size
    from archduel.proxies.agreement import agreement as rank_agreement
    from archduel.proxies.importance import Importance, Levels, forest_importance
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Agreement": "archduel.proxies.agreement",
            "Importance": "archduel.proxies.importance",
            "Levels": "archduel.proxies.importance",
            "agreement_difference": "archduel.proxies.agreement",
            "agreement_of_like_size": "archduel.proxies.agreement",
            "forest_importance": "archduel.proxies.importance",
            "rank_agreement": "archduel.proxies.agreement:agreement",
        },
    )
