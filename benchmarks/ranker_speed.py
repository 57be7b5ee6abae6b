"""Seconds and memory of rankers on NAS-Bench-101: all pairs of 1,000 cells, all 423,624 cells, fits on 424 and 4,236 labels.

    archduel table import cells.parquet --space nasbench101 --validation val_acc_108ep --out nb101.table
    python benchmarks/ranker_speed.py --part pairs --table nb101.table --out benchmarks/records/ranker_speed.json

The parts ``pairs``, ``cells``, ``fit_424`` and ``fit_4236`` are written into one record one by one; ``cells`` of NAC may be told fewer
epochs, which changes no scoring time. One thread. Every fit and every
scoring runs in a fresh process, so that its peak memory is its own. ``pairs`` compares with the published way (two graphs through the
network for every pair) and with the honest one (each cell embedded once, in plain PyTorch).
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import json
import multiprocessing
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recording import write_record

from archduel import environment
from archduel.commands.bench.rank import parse_entrants
from archduel.core import Arch
from archduel.rankers import NAC
from archduel.rankers.networks import encode
from archduel.tables import open_table

CELLS, PAIRS = 1000, 2000


def labelled(table: str, n: int) -> tuple[Any, list[Arch], NDArray[np.float64]]:
    """Returns the space, ``n`` random cells of the table and their labels."""
    opened = open_table(table)
    rows = np.random.default_rng(0).permutation(len(opened))[:n]
    return opened.space, [opened.archs[row] for row in rows.tolist()], opened.read("validation")[rows]


def timed(works: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, Any]]:
    """Returns median and spread of the processor seconds of each work, in turns, after calls that do not count."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            began = time.process_time()
            work()
            found[name] += [time.process_time() - began] if turn else []
    return {
        name: {"n": repeats, "median": statistics.median(times), "low": min(times), "high": max(times)}
        for name, times in found.items()
    }


def published_way(nac: NAC, archs: Sequence[Arch], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns (P,) probabilities of pairs: for each, both graphs are encoded and go through the network."""
    found = []
    assert nac._student is not None
    with torch.inference_mode():
        for a, b in places.tolist():
            inputs, _ = encode(nac.space, [archs[a], archs[b]], nac.device)
            first, second = nac._student.model(*inputs)
            found.append(torch.sigmoid(first[0] + second[1]).item())
    return np.array(found)


def embedded_once(nac: NAC, archs: Sequence[Arch]) -> NDArray[np.float64]:
    """Returns (N, N) probabilities in a few lines of PyTorch: encode, embed, two products, a sum, a sigmoid."""
    assert nac._student is not None
    with torch.inference_mode():
        inputs, _ = encode(nac.space, archs, nac.device)
        embedding = nac._student.model.encoder(*inputs)
        first, second = embedding @ nac._student.model.first, embedding @ nac._student.model.second
        return torch.sigmoid(first[:, None] + second + nac._student.model.bias).numpy()


def pairs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures all pairs of 1,000 cells and how far the three ways differ."""
    space, archs, labels = labelled(arguments.table, CELLS)
    nac = NAC(space, epochs=50, antisymmetric=False)
    nac.fit(archs[:424], labels[:424])
    places = np.random.default_rng(1).integers(CELLS, size=(PAIRS, 2))
    works = {"ours": lambda: nac.matrix(archs), "plain": lambda: embedded_once(nac, archs)}
    ours, plain = timed(works, arguments.repeats).values()
    slowly = {"pairs": lambda: published_way(nac, archs, places)}
    (single,) = timed(slowly, max(1, arguments.repeats // 3)).values()
    matrix = nac.matrix(archs)
    one_by_one = matrix[tuple(places.T)] - published_way(nac, archs, places)
    return {
        "cells": CELLS,
        "all_pairs_seconds": ours,
        "embedded_once_in_plain_pytorch_seconds": plain,
        "pair_by_pair_microseconds_a_pair": {
            k: v if k == "n" else 1e6 * v / PAIRS for k, v in single.items()
        },
        "times_faster_than_pair_by_pair": single["median"] / PAIRS * CELLS**2 / ours["median"],
        "times_faster_than_embedded_once": plain["median"] / ours["median"],
        "largest_difference_to_pair_by_pair": float(np.abs(one_by_one).max()),
        "largest_difference_to_embedded_once": float(np.abs(matrix - embedded_once(nac, archs)).max()),
    }


def peak_mib() -> float:
    """Returns the largest resident memory of this process (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def clocked(work: Callable[[], Any]) -> dict[str, float]:
    """Returns seconds on the wall and of the process that ``work`` took."""
    began = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}


def _one(table: str, ranker: str, n: int, everything: bool, answers: Any) -> None:
    """Fits a ranker to ``n`` labels; with ``everything``, scores all cells of the space as well."""
    torch.set_num_threads(1)
    space, archs, labels = labelled(table, n)
    fresh = parse_entrants(ranker)[0].make(space, 0)
    found = {"fit": clocked(lambda: fresh.fit(archs, labels))}
    if everything:
        from archduel.spaces.nasbench101.enumeration import enumerate_cells

        cells = enumerate_cells().archs()
        found["score"] = clocked(lambda: fresh.predict(cells)) | {"cells": len(cells)}
    answers.put({**found, "peak_mib": peak_mib()})


def in_fresh_process(table: str, ranker: str, n: int, everything: bool = False) -> dict[str, Any]:
    """Returns what :func:`_one` measured in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_one, args=(table, ranker, n, everything, answers))
    process.start()
    found: dict[str, Any] = answers.get()
    process.join()
    return found


def cells(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures scoring all 423,624 cells after learning from 424 labels."""
    return {name: in_fresh_process(arguments.table, name, 424, True) for name in arguments.rankers.split(",")}


def fit_424(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures fits to 424 labels (NAC 1,000 epochs, ReNAS 200, as they are by default)."""
    return {name: in_fresh_process(arguments.table, name, 424) for name in arguments.rankers.split(",")}


def fit_4236(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures fits to 4,236 labels."""
    return {name: in_fresh_process(arguments.table, name, 4236) for name in arguments.rankers.split(",")}


PARTS = {"pairs": pairs, "cells": cells, "fit_424": fit_424, "fit_4236": fit_4236}


def main() -> None:
    """Measures a part and writes it into the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=list(PARTS), required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("--rankers", default="best,nac,renas,boosting", help="others in the record are kept")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    part = {"command": shlex.join(["python", *sys.argv]), **environment(), "threads": 1}
    part["load_average"] = os.getloadavg()[0]
    record[arguments.part] = record.get(arguments.part, {}) | part | PARTS[arguments.part](arguments)
    write_record(arguments.out, record)
    print(json.dumps(record[arguments.part], indent=1))


if __name__ == "__main__":
    main()
