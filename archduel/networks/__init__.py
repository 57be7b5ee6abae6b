"""Networks with weights, wherever they lie: training folders and the zoo of published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "Entry",
    "entries",
    "find_architecture",
    "load",
    "load_trained",
    "network_of",
    "save_trained",
]

if TYPE_CHECKING:
    from archduel.apps.architecture import find_architecture
    from archduel.apps.trained import load_trained, network_of, save_trained
    from archduel.apps.zoo import Entry, entries, load
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Entry": "archduel.apps.zoo",
            "entries": "archduel.apps.zoo",
            "find_architecture": "archduel.apps.architecture",
            "load": "archduel.apps.zoo",
            "load_trained": "archduel.apps.trained",
            "network_of": "archduel.apps.trained",
            "save_trained": "archduel.apps.trained",
        },
    )
