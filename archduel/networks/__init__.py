"""Networks with weights, wherever they lie: training folders and the zoo of published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "Entry",
    "TrainedNetwork",
    "entries",
    "find_architecture",
    "load",
    "load_trained",
    "network_of",
    "open_network",
    "save_trained",
]

if TYPE_CHECKING:
    from archduel.networks.find import find_architecture
    from archduel.networks.trained import TrainedNetwork, load_trained, network_of, open_network, save_trained
    from archduel.networks.zoo import Entry, entries, load
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Entry": "archduel.networks.zoo",
            "TrainedNetwork": "archduel.networks.trained",
            "entries": "archduel.networks.zoo",
            "find_architecture": "archduel.networks.find",
            "load": "archduel.networks.zoo",
            "load_trained": "archduel.networks.trained",
            "network_of": "archduel.networks.trained",
            "open_network": "archduel.networks.trained",
            "save_trained": "archduel.networks.trained",
        },
    )
