"""Many different networks trained as one computation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "FusedNetworks",
    "evaluate_fused",
    "fuse",
    "train_fused",
    "train_together",
]

if TYPE_CHECKING:
    from archduel.estimators.fused import train_together
    from archduel.nets.fusing.fused import fuse
    from archduel.training.fused import FusedNetworks, evaluate_fused, train_fused
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "FusedNetworks": "archduel.training.fused",
            "evaluate_fused": "archduel.training.fused",
            "fuse": "archduel.nets.fusing.fused",
            "train_fused": "archduel.training.fused",
            "train_together": "archduel.estimators.fused",
        },
    )
