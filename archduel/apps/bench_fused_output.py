"""What the benchmark of fused training hands over."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from archduel.apps.folder import environment

__all__ = ["line", "write_json"]


def line(record: dict[str, Any]) -> str:
    """Returns a record as a line for people."""
    how = f"{record['k']} at once" if record["k"] > 1 else "one by one (a group is not faster)"
    return (
        f"{record['row']:15} {how}: {record['fused_per_second']:.2f} a second, "
        f"{record['sequential_per_second']:.2f} one by one ({record['sequential']}): ratio {record['ratio']:.2f} "
        f"({record['cpu_ratio']:.2f} in processor time), "
        f"largest difference of a weight after 5 steps {record['max_abs_difference']:.1e}"
    )


def write_json(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes the records with command, versions and hardware."""
    ratios = [record["ratio"] for record in records]
    whole = {
        "command": shlex.join(["archduel", *sys.argv[1:]]),
        **environment(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "ratio": {"min": min(ratios), "median": median(ratios)},
        "records": list(records),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n")
