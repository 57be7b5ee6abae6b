"""Time of features, fingerprints and counts of cell spaces, in batches and one architecture at a time.

    python benchmarks/cell_spaces.py --repeats 5 --out benchmarks/records/cell_spaces.json

One core, CPU seconds of this process (the fairer ones on a busy machine). Caches are emptied before every repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402 - after the thread counts

from archduel import __version__, count  # noqa: E402
from archduel.core import Scale, enumerate_space, sample  # noqa: E402
from archduel.spaces import DARTS, NASBench201  # noqa: E402
from archduel.spaces.darts import space as darts  # noqa: E402
from archduel.spaces.nasbench201 import function as nasbench201_function  # noqa: E402

N_DARTS = 2_000


def tasks() -> dict[str, tuple[int, Callable[[], Any]]]:
    """Returns name -> (architectures, what is timed)."""
    cells, pairs = NASBench201(), DARTS()
    all_cells = list(enumerate_space(cells))
    rng = np.random.default_rng(0)
    some = [sample(pairs, rng) for _ in range(N_DARTS)]
    scale = Scale()
    few = all_cells[::25]
    return {
        "nasbench201 features, batch": (len(all_cells), lambda: cells.features(all_cells)),
        "nasbench201 features, one at a time": (len(few), lambda: [cells.features([arch]) for arch in few]),
        "nasbench201 graphs, batch": (len(all_cells), lambda: cells.graphs(all_cells)),
        "nasbench201 fingerprints": (len(all_cells), lambda: [cells.fingerprint(arch) for arch in all_cells]),
        "nasbench201 unique_str": (len(all_cells), lambda: [cells.unique_str(arch) for arch in all_cells]),
        "nasbench201 params and macs": (len(all_cells), lambda: [count(arch, scale) for arch in all_cells]),
        "darts features, batch": (N_DARTS, lambda: pairs.features(some)),
        "darts features, one at a time": (N_DARTS // 4, lambda: [pairs.features([a]) for a in some[::4]]),
        "darts fingerprints": (N_DARTS, lambda: [pairs.fingerprint(arch) for arch in some]),
        "darts params and macs (C36 L20)": (N_DARTS, lambda: [count(arch, Scale(36, 20)) for arch in some]),
    }


def measure(n: int, work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Returns CPU seconds of ``repeats`` runs with empty caches, and microseconds an architecture."""
    seconds = []
    for _ in range(repeats):
        nasbench201_function.function.cache_clear()
        darts._genotype.cache_clear()
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    middle = statistics.median(seconds)
    spread = {"min": min(seconds), "max": max(seconds)}
    return {
        "architectures": n,
        "n": repeats,
        "cpu_seconds_median": middle,
        **spread,
        "microseconds_each": 1e6 * middle / n,
    }


def main() -> None:
    """Measures everything and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    parts = {name: measure(n, work, options.repeats) for name, (n, work) in tasks().items()}
    each = {name: part["microseconds_each"] for name, part in parts.items()}
    record = {
        "command": f"python {shlex.join(sys.argv)}",
        "versions": {"archduel": __version__, "python": platform.python_version(), "numpy": np.__version__},
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "system": platform.platform()},
        "threads": 1,
        "batch_over_one_at_a_time": {
            space: each[f"{space} features, one at a time"] / each[f"{space} features, batch"]
            for space in ("nasbench201", "darts")
        },
        "parts": parts,
    }
    text = json.dumps(record, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
