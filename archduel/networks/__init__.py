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
    from archduel.networks.find import find_architecture
    from archduel.networks.trained import load_trained, network_of, save_trained
    from archduel.networks.zoo import Entry, entries, load
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Entry": "archduel.networks.zoo",
            "entries": "archduel.networks.zoo",
            "find_architecture": "archduel.networks.find",
            "load": "archduel.networks.zoo",
            "load_trained": "archduel.networks.trained",
            "network_of": "archduel.networks.trained",
            "save_trained": "archduel.networks.trained",
        },
    )
