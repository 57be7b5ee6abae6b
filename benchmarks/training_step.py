"""Milliseconds of a training step of NAS-Bench-201 networks: memory format, precision, threads, processes, batch size.

    python benchmarks/training_step.py --part sizes --out benchmarks/records/training_step.json

Variants of one size take turns, so that other load on the machine meets them alike. ``wall`` is the time between two
steps, ``cpu`` the processor time of the process meanwhile (steadier where others compute too; waiting threads count, they
spin). ``side_by_side`` counts images a second of all processes together: two of one thread, one of two, one of one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from recording import write_record

ARCH = "nasbench201:3.2.3.1.3.4"  # three 3x3, one 1x1 convolution, a skip and a pool
SIZES = [(8, 8, 64), (8, 16, 128), (8, 32, 128), (16, 8, 64), (16, 16, 128), (16, 32, 128)]
BATCHES = [(8, 16, b) for b in (16, 32, 64, 256, 512)]
BESIDE = [(8, 8, 64), (8, 16, 128), (16, 32, 128)]
VARIANTS: dict[str, dict[str, Any]] = {
    "contiguous, 1 thread": {"channels_last": False},
    "channels last, 1 thread": {"channels_last": True},
    "channels last, bf16, 1 thread": {"channels_last": True, "precision": "bf16"},
}
CHOSEN, PLAIN = "channels last, 1 thread", "contiguous, 1 thread"


def steps(channels: int, size: int, batch: int, n: int, *, threads: int = 1, **changes: Any) -> list[tuple[float, float]]:
    """Returns (wall, cpu) milliseconds of ``n`` steps after one that does not count."""
    import torch

    from archduel import build
    from archduel.core import Scale, parse
    from archduel.training import Pixels, Recipe, seeded_build, train

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2 * batch, 3, size, size), dtype=np.uint8)
    pixels = Pixels(images, rng.integers(0, 10, 2 * batch), (0.5,) * 3, (0.25,) * 3)
    recipe = Recipe(
        epochs=(n + 2) / 2, batch_size=batch, channels=channels, depth=1, image_size=size, lr=0.01, **changes
    )
    model = seeded_build(lambda: build(parse(ARCH), Scale(channels, 1, size)), 0)
    marks: list[tuple[float, float]] = []
    train(model, pixels, recipe, seed=0, stop=lambda: marks.append((time.perf_counter(), time.process_time())) or False)
    return [(1e3 * (b[0] - a[0]), 1e3 * (b[1] - a[1])) for a, b in pairwise(marks[1:])]


def spread(values: list[float]) -> dict[str, float]:
    """Returns median, quartiles, minimum and number."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return {
        "median": round(float(median), 3), "quartiles": [round(float(low), 3), round(float(high), 3)],
        "min": round(min(values), 3), "n": len(values),
    }  # fmt: skip


def compare(channels: int, size: int, batch: int, names: list[str], rounds: int, n: int) -> dict[str, Any]:
    """Returns wall and cpu milliseconds a step of each variant."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            times[name] += steps(channels, size, batch, n, **VARIANTS[name])
    return {
        name: {"wall_ms": spread([t[0] for t in found]), "cpu_ms": spread([t[1] for t in found])}
        for name, found in times.items()
    }


def _count(size: tuple[int, int, int], threads: int, start: Any, answers: Any, seconds: float) -> None:
    steps(*size, 1, threads=threads, channels_last=True)  # imports and warms up
    start.wait()
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        images += size[2] * (2 + len(steps(*size, 10, threads=threads, channels_last=True)))
    answers.put(images / (time.perf_counter() - began))


def throughput(size: tuple[int, int, int], processes: int, threads: int, seconds: float) -> float:
    """Returns images a second of ``processes`` that train at the same time."""
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(processes), context.Queue()
    running = [context.Process(target=_count, args=(size, threads, start, answers, seconds)) for _ in range(processes)]
    for process in running:
        process.start()
    total = sum(answers.get() for _ in running)
    for process in running:
        process.join()
    return total


def side_by_side(size: tuple[int, int, int], rounds: int, seconds: float) -> dict[str, Any]:
    """Returns images a second of the ways to use two cores."""
    ways = {"1 process x 1 thread": (1, 1), "1 process x 2 threads": (1, 2), "2 processes x 1 thread": (2, 1)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (processes, threads) in ways.items():
            found[name].append(throughput(size, processes, threads, seconds))
    return {name: spread(values) for name, values in found.items()}


def label(channels: int, size: int, batch: int) -> str:
    """Returns the name of a size in the record."""
    return f"C={channels}, {size} px, batch {batch}"


def sizes_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compares memory formats and precisions at several sizes."""
    found = {label(*size): compare(*size, list(VARIANTS), arguments.rounds, arguments.steps) for size in SIZES}
    cpu = [{name: row["cpu_ms"]["median"] for name, row in rows.items()} for rows in found.values()]
    return {"milliseconds": found, "channels_last_speedup": spread([row[PLAIN] / row[CHOSEN] for row in cpu])}


def batches_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures the chosen variant at several batch sizes."""
    rows = {label(*size): compare(*size, [CHOSEN], arguments.rounds, arguments.steps) for size in BATCHES}
    return {"milliseconds": rows}


def beside_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compares the ways to use two cores."""
    rows = {label(*size): side_by_side(size, arguments.rounds, arguments.seconds) for size in BESIDE}
    return {"images_a_second": rows}


PARTS = {"sizes": sizes_part, "batches": batches_part, "side_by_side": beside_part}


def main() -> None:
    """Measures a part and writes it into the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    from archduel import environment

    record = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"architecture": ARCH, "depth": 1}
    part: dict[str, Any] = {"command": shlex.join(["python", *sys.argv]), **environment()}
    part["load_average"] = {"before": os.getloadavg()[0]}
    record[arguments.part] = part | PARTS[arguments.part](arguments)
    part["load_average"]["after"] = os.getloadavg()[0]
    write_record(arguments.out, record)
    print(json.dumps(record[arguments.part], indent=1))


if __name__ == "__main__":
    main()
