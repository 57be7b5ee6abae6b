"""A device that was never there: what its measurements would look like."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np

from archduel.core import Scale, sample
from archduel.devices import operator_columns
from archduel.devices.measurements import Kit, KitNetwork
from archduel.devices.operators import COLUMNS
from archduel.devices.store import remember_kit
from archduel.spaces.family import family

__all__ = ["N", "Rows", "kit", "right", "simulated_device", "written"]

N = 14
Rows = list[dict[str, str]]


def kit() -> Kit:
    """Returns a kit whose files were never written."""
    rng, space, entries = np.random.default_rng(0), family("stages")(), []
    for number in range(N):
        scale = Scale(int(rng.choice([8, 16, 32, 64])), 1, 32, 3, 10)
        entries.append(KitNetwork(f"network{number + 1:02d}", f"{number:064x}", str(sample(space, rng)), asdict(scale)))
    return Kit("0123456789ab", tuple(entries), {})


def right(made: Kit) -> Rows:
    """Returns the rows of a device that makes ten thousand million multiply-adds a second."""
    macs = [i for i, name in enumerate(COLUMNS) if name.endswith("/macs")]
    ms = [0.1 + operator_columns(*entry.built)[macs].sum() / 1e7 for entry in made.networks]
    return [
        {"kit": made.kit, "network": entry.network, "sha256": entry.sha256, "median_ms": f"{value:.6g}", "iqr_ms": f"{value / 20:.3g}",
         "threads": "1", "machine": "Linux aarch64 Cortex-A72, 4 cores", "onnxruntime": "1.20.0"}
        for entry, value in zip(made.networks, ms)
    ]  # fmt: skip


def written(rows: Rows, path: Path) -> Path:
    """Returns the path of a CSV file with these rows."""
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def simulated_device(path: Path) -> Path:
    """Returns a file of measurements whose kit is known here."""
    remember_kit(kit())
    return written(right(kit()), path)
