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
    from archduel.fusing.judging import train_together
    from archduel.fusing.networks import fuse
    from archduel.fusing.training import FusedNetworks, evaluate_fused, train_fused
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "FusedNetworks": "archduel.fusing.training",
            "evaluate_fused": "archduel.fusing.training",
            "fuse": "archduel.fusing.networks",
            "train_fused": "archduel.fusing.training",
            "train_together": "archduel.fusing.judging",
        },
    )
