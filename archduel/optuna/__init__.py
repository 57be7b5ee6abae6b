"""archduel's strategies inside a study of Optuna (``pip install 'archduel[optuna]'``): ``optuna.create_study(sampler=archduel.optuna.Sampler("best"))``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = ["Sampler", "suggest"]

if TYPE_CHECKING:
    from archduel.optuna.sampler import Sampler, suggest
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Sampler": "archduel.optuna.sampler",
            "suggest": "archduel.optuna.sampler",
        },
    )
