"""Time and memory of enumerating NAS-Bench-101 with all hashes, against a plain-Python equivalent; single-cell costs.

    python benchmarks/enumerate_nasbench101.py --repeats 3 --out benchmarks/records/enumerate_nasbench101.json

Every measurement runs in a fresh process on one core. The reference does what the benchmark's own script does (test every
matrix, hash every labelled cell, keep the first of each hash) on evenly spaced slices, extrapolated to the whole; its
hashes are compared with ours.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from recording import over_processes, write_record

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
N_LABELLED = 1_293_208
SHA256 = "53e1438d11675d9eb3899166c29ca07fe0c4b81af9d99d5aec3ecd31bd5bca7f"


class Clock:
    """Seconds since it was made: on the wall and of this process (the fairer ones on a busy machine)."""

    def __init__(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def read(self, times: float = 1.0, unit: str = "seconds") -> dict[str, float]:
        """Returns both, multiplied by ``times``."""
        now = time.perf_counter(), time.process_time()
        return {name: times * (b - a) for name, a, b in zip((unit, f"cpu_{unit}"), self.began, now)}


def graphs() -> dict[str, float]:
    """Enumerates the distinct cells, without hashes."""
    from archduel.spaces.nasbench101.enumeration import enumerate_cells

    clock = Clock()
    cells = enumerate_cells()
    return {**clock.read(), "cells": len(cells)}


def hashes() -> dict[str, float]:
    """Enumerates the distinct cells and hashes them."""
    from archduel.spaces.nasbench101.enumeration import enumerate_cells, hash_cells, hash_texts

    clock = Clock()
    texts = hash_texts(hash_cells(enumerate_cells()))
    seconds = clock.read()
    text = "".join(f"{line}\n" for line in sorted(texts))
    assert hashlib.sha256(text.encode()).hexdigest() == SHA256
    return {**seconds, "cells": len(texts)}


def features() -> dict[str, float]:
    """Computes the features of all cells from packed arrays."""
    from archduel.spaces.nasbench101.enumeration import enumerate_cells
    from archduel.spaces.nasbench101.features import features_of

    cells = enumerate_cells()
    clock = Clock()
    shape = features_of(cells).shape
    return {**clock.read(), "cells": shape[0], "features": shape[1]}


def single() -> dict[str, float]:
    """Microseconds a call for distinct architectures, each seen for the first time."""
    import numpy as np

    from archduel import count
    from archduel.core import Scale
    from archduel.spaces import NASBench101
    from archduel.spaces.nasbench101.cell import neighbours_of

    space, rng = NASBench101(), np.random.default_rng(0)
    archs = list(dict.fromkeys(space.draw(rng) for _ in range(5000)))
    calls: dict[str, Callable[[Any], object]] = {
        "hash": space.fingerprint, "canonical": space.canonical, "validate": space.validate,
        "count": lambda arch: count(arch, Scale(128, 3)), "draw": lambda _: space.draw(rng),
    }  # fmt: skip
    found: dict[str, float] = {}
    for name, call in calls.items():
        neighbours_of.cache_clear()
        clock = Clock()
        for arch in archs:
            call(arch)
        found |= clock.read(1e6 / len(archs), f"{name}_microseconds")
    return found


def plain_hash(matrix: list[list[int]], labels: list[int]) -> str:
    """Returns the hash as the published rules say it, vertex by vertex."""
    n = len(matrix)
    state = [
        hashlib.md5(str((sum(matrix[v]), sum(row[v] for row in matrix), labels[v])).encode()).hexdigest()
        for v in range(n)
    ]
    for _ in range(n):
        new = []
        for v in range(n):
            into = "".join(sorted(state[w] for w in range(n) if matrix[w][v]))
            out = "".join(sorted(state[w] for w in range(n) if matrix[v][w]))
            new.append(hashlib.md5(f"{into}|{out}|{state[v]}".encode()).hexdigest())
        state = new
    return hashlib.md5(str(sorted(state)).encode()).hexdigest()


def plain(every_mask: int = 100, every_cell: int = 250) -> dict[str, float]:
    """Runs the plain enumeration on slices and extrapolates; checks the slice's hashes against ours."""
    from archduel.spaces.nasbench101.cell import OPS, cell_hash, cell_of_matrix

    def matrix_of(n: int, bits: int) -> list[list[int]]:
        return [[bits >> (x + y * (y - 1) // 2) & 1 if x < y else 0 for y in range(n)] for x in range(n)]

    def kept(m: list[list[int]]) -> bool:
        return (
            all(map(any, m[:-1]))
            and all(any(row[y] for row in m) for y in range(1, len(m)))
            and sum(map(sum, m)) <= 9
        )

    clock = Clock()
    for bits in range(0, 1 << 21, every_mask):
        kept(matrix_of(7, bits))
    matrices = clock.read(every_mask)
    todo, position = [], 0
    for n in range(2, 8):
        for m in filter(kept, (matrix_of(n, bits) for bits in range(1 << n * (n - 1) // 2))):
            for ops in product(range(3), repeat=n - 2):
                todo += [(m, [-1, *ops, -2])] if position % every_cell == 0 else []
                position += 1
    assert position == N_LABELLED
    clock = Clock()
    found = {plain_hash(m, labels): (m, labels) for m, labels in todo}
    hashing = clock.read(N_LABELLED / len(todo))
    for value, (m, labels) in found.items():
        assert (
            cell_hash(cell_of_matrix(m, ["input", *(OPS[label] for label in labels[1:-1]), "output"]))
            == value
        )
    return {
        **{key: matrices[key] + hashing[key] for key in hashing},
        "cells_hashed": len(todo),
        "of": N_LABELLED,
    }


PARTS: dict[str, Callable[[], dict[str, float]]] = {
    "graphs": graphs, "hashes": hashes, "features": features, "single": single, "plain": plain
}  # fmt: skip


def _measure(name: str, answers: Any) -> None:
    import numpy  # noqa: F401 - so that its memory counts as there before

    before = peak_mib()
    found = PARTS[name]()
    peak = peak_mib()
    answers.put({**found, "peak_mib": peak, "increase_mib": peak - before})


def peak_mib() -> float:
    """Returns the largest resident memory of this process (Linux); that of ``getrusage`` counts the starting process too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Measures all parts and writes the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    from archduel import environment

    load_before = os.getloadavg()[0]
    parts = {name: over_processes(_measure, name, arguments.repeats) for name in PARTS}
    ratio = parts["plain"]["cpu_seconds"]["median"] / parts["hashes"]["cpu_seconds"]["median"]
    record = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "threads": 1,
        "load_average": {"before": load_before, "after": os.getloadavg()[0]},
        "ratio_to_plain_python_cpu": ratio, "plain_is": "extrapolated from slices, see the script", "parts": parts,
    }  # fmt: skip
    write_record(arguments.out, record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
