"""Latency on another device: networks to measure there, and what their latencies tell of all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "Device",
    "Expected",
    "LatencyPredictor",
    "add_device",
    "known_devices",
    "open_device",
    "operator_columns",
    "remove_device",
    "spread_out",
    "write_kit",
]

if TYPE_CHECKING:
    from archduel.devices.kit import write_kit
    from archduel.devices.operators import operator_columns
    from archduel.devices.predictor import LatencyPredictor, spread_out
    from archduel.devices.store import (
        Device,
        Expected,
        add_device,
        known_devices,
        open_device,
        remove_device,
    )
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Device": "archduel.devices.store",
            "Expected": "archduel.devices.store",
            "LatencyPredictor": "archduel.devices.predictor",
            "add_device": "archduel.devices.store",
            "known_devices": "archduel.devices.store",
            "open_device": "archduel.devices.store",
            "operator_columns": "archduel.devices.operators",
            "remove_device": "archduel.devices.store",
            "spread_out": "archduel.devices.predictor",
            "write_kit": "archduel.devices.kit",
        },
    )
