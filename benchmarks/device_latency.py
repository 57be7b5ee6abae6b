"""Latency on a device left out of the prior: foretold from 10 and 20 measured networks, with and without the devices measured before.

Every setting of the public tables is left out in turn, and with it all settings of the same physical device (other batch sizes, the other data
set). 10 or 20 networks that are far from each other are measured on it; all others are foretold. Columns: Spearman's rank correlation with the
truth, the share of networks above the upper bound and below the lower one (0.05 each is what they are made for), and what a search makes of
them: under limits at the 10th, 25th, 50th and 75th percentile of the device's latencies, the share of networks admitted by the upper bound
that are over the limit, of all and of the ten of best validation accuracy.

    python benchmarks/device_latency.py --data /path/to/data --draws 5 --out benchmarks/records/device_latency.json
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from recording import write_record
from scipy.stats import spearmanr

from archduel import Scale, environment
from archduel.devices import LatencyPredictor, operator_columns, spread_out
from archduel.spaces import open_space

Matrix = NDArray[np.float64]
LEAST_MS = 1e-3  # below this a runtime has left all of a network out
PERCENTILES = (10, 25, 50, 75)
TOP = 10


@dataclass(frozen=True)
class Table:
    """Networks and their latencies on many devices.

    Attributes:
        name: of the benchmark.
        columns: (N, C) what the networks consist of.
        ms: setting -> (N,) milliseconds, not finite where a device failed.
        accuracy: (N,) validation accuracies, None where there are none.
        n_all: networks that the published file has.
    """

    name: str
    columns: Matrix
    ms: dict[str, Matrix]
    accuracy: Matrix | None
    n_all: int


def device_of(setting: str) -> str:
    """Returns the physical device of a column: without data set and batch size."""
    name = re.sub(r"^(help_|cifar100_|cifar10_|latency_)|(_latency_ms|_latency)$", "", setting)
    name = re.sub(r"^(help_|cifar100_|cifar10_)|(_latency_ms|_latency)$", "", name)
    return name if name.startswith(("silver", "gold")) else re.sub(r"(_\d+)+$", "", name)


def settings_of(names: Sequence[str]) -> list[str]:
    """Returns the columns of latencies, without those that a second publication repeats."""
    found = [name for name in names if "latency" in name]
    first = {device_of(name) for name in found if name.startswith("cifar")}
    return [name for name in found if not (name.startswith("help_") and device_of(name) in first)]


def nasbench201(folder: Path, n: int, rng: np.random.Generator) -> Table:
    """Returns cells of NAS-Bench-201 with HW-NAS-Bench's and HELP's latencies."""
    hardware = pq.read_table(folder / "nasbench201_hardware.parquet")
    cells = pq.read_table(folder / "nasbench201.parquet", columns=["arch_str", "cifar10_val"])
    rows = np.sort(rng.permutation(hardware.num_rows)[:n])
    space, texts = open_space("nasbench201"), cells["arch_str"].to_pylist()
    columns = np.array([operator_columns(space.read(texts[i]), Scale(16, 5, 32, 3, 10)) for i in rows])
    ms = {name: np.asarray(hardware[name].to_pylist(), float)[rows] for name in settings_of(hardware.column_names)}
    return Table("NAS-Bench-201", columns, ms, np.asarray(cells["cifar10_val"])[rows], hardware.num_rows)


def fbnet(folder: Path, n: int, rng: np.random.Generator) -> Table:
    """Returns networks of the FBNet space, which archduel does not build: what they consist of is how many blocks of each of nine kinds."""
    table = pq.read_table(folder / "fbnet_latency.parquet")
    rows = np.sort(rng.permutation(table.num_rows)[:n])
    ops = np.array([[int(x) for x in table["ops"][int(i)].as_py().split(",")] for i in rows])
    ms = {name: np.asarray(table[name], float)[rows] for name in settings_of(table.column_names)}
    return Table("FBNet", (ops[:, :, None] == np.arange(9)).sum(1).astype(float), ms, None, table.num_rows)


def ofa(folder: Path, n: int, rng: np.random.Generator) -> Table:
    """Returns networks of the once-for-all MobileNetV3 space; a third as many, as they take longest to look at."""
    table = pq.read_table(folder / "ofa_mbv3_latency.parquet")
    rows = np.sort(rng.permutation(table.num_rows)[: n // 3])
    space = open_space("mobilenetv3")
    names = {"ks": "kernel_sizes", "e": "expand_ratios", "d": "depths"}
    columns = []
    for i in rows:
        spec: dict[str, Any] = {part: [int(x) for x in table[name][int(i)].as_py().split(",")] for part, name in names.items()}
        side = int(table["resolution"][int(i)].as_py())
        arch = space.read(json.dumps({**spec, "r": None}))
        columns.append(operator_columns(arch, Scale(16, 1, side, 3, 1000)))
    ms = {name: np.asarray(table[name], float)[rows] for name in settings_of(table.column_names)}
    return Table("once-for-all MobileNetV3", np.array(columns), ms, None, table.num_rows)


def foretold(table: Table, setting: str, n: int, seed: int, *, prior: bool) -> dict[str, float]:
    """Returns the figures of one device left out, one draw of measured networks."""
    rng = np.random.default_rng([seed, n])
    truth = np.maximum(table.ms[setting], LEAST_MS)
    there = np.flatnonzero(np.isfinite(table.ms[setting]))
    others = None
    if prior:
        kept = [name for name, ms in table.ms.items() if device_of(name) != device_of(setting) and np.isfinite(ms).all()]
        others = np.log(np.maximum(np.stack([table.ms[name] for name in kept], 1), LEAST_MS))
    apart = np.log1p(table.columns) if others is None else others
    apart = (apart - apart.mean(0)) / np.maximum(apart.std(0), 1e-9)
    measured = there[spread_out(apart[there], n, rng)]
    rest = np.setdiff1d(there, measured)
    part = (lambda rows: None) if others is None else (lambda rows: others[rows])
    predictor = LatencyPredictor(table.columns[measured], truth[measured], part(measured), reference=(table.columns[there], part(there)))
    found, real = predictor.predict(table.columns[rest], part(rest)), truth[rest]
    return {
        "spearman": float(spearmanr(found.ms, real)[0]), "above": float((real > found.high).mean()), "below": float((real < found.low).mean()),
        "width": float(np.median(found.high / found.ms)),
        **_under_limits(found.high, real, None if table.accuracy is None else table.accuracy[rest]),
    }  # fmt: skip


def _under_limits(high: Matrix, real: Matrix, accuracy: Matrix | None) -> dict[str, float]:
    """Returns how many networks are admitted under limits, how many of them are over, and the same of the most accurate ones."""
    counts = {"admitted": 0, "over": 0, "chosen": 0, "chosen_over": 0}
    for share in PERCENTILES:
        limit = float(np.percentile(real, share))
        admitted = np.flatnonzero(high <= limit)
        counts["admitted"] += len(admitted)
        counts["over"] += int((real[admitted] > limit).sum())
        if accuracy is not None:
            best = admitted[np.argsort(-accuracy[admitted], kind="stable")[:TOP]]
            counts["chosen"] += len(best)
            counts["chosen_over"] += int((real[best] > limit).sum())
    return {name: float(value) for name, value in counts.items()}


def summary(rows: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Returns the figures over all settings and draws."""
    means = {name: float(np.mean([row["spearman"] for row in draws])) for name, draws in rows.items()}
    every = [row for draws in rows.values() for row in draws]
    total = {name: sum(row[name] for row in every) for name in ("admitted", "over", "chosen", "chosen_over")}
    return {
        "spearman_mean": round(float(np.mean(list(means.values()))), 4), "spearman_median": round(float(np.median(list(means.values()))), 4),
        "settings_at_0.95": sum(value >= 0.95 for value in means.values()), "settings": len(means), "draws": len(every) // len(means),
        "above_high": round(float(np.mean([row["above"] for row in every])), 4), "below_low": round(float(np.mean([row["below"] for row in every])), 4),
        "high_over_value": round(float(np.median([row["width"] for row in every])), 3),
        "admitted": int(total["admitted"]), "over_limit": round(total["over"] / max(1, total["admitted"]), 4),
        "chosen": int(total["chosen"]), "chosen_over_limit": round(total["chosen_over"] / total["chosen"], 4) if total["chosen"] else None,
        "by_setting": {name: [round(value, 3), round(max(row["over"] / max(1, row["admitted"]) for row in rows[name]), 3)] for name, value in means.items()},
    }  # fmt: skip


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--draws", type=int, default=5, help="sets of measured networks a setting")
    parser.add_argument("--networks", type=int, default=1500, help="networks of each table, drawn at random")
    parser.add_argument("--tables", default="nasbench201,fbnet,ofa")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/device_latency.json"))
    arguments = parser.parse_args()
    makers = {"nasbench201": (nasbench201, "nasbench201"), "fbnet": (fbnet, "device_latency"), "ofa": (ofa, "device_latency")}
    record: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment(), "tables": {}}
    for name in arguments.tables.split(","):
        make, folder = makers[name]
        table = make(arguments.data / folder, arguments.networks, np.random.default_rng(7))
        entry: dict[str, Any] = {"networks": len(table.columns), "of": table.n_all, "settings": len(table.ms), "devices": len({device_of(s) for s in table.ms})}
        for n in (10, 20):
            for prior in (True, False):
                began = time.process_time()
                rows = {s: [foretold(table, s, n, seed, prior=prior) for seed in range(arguments.draws)] for s in table.ms}
                title = f"{n} measured, {'other devices known' if prior else 'no other device'}"
                entry[title] = {**summary(rows), "processor_seconds": round(time.process_time() - began, 1)}
                print(table.name, title, {key: value for key, value in entry[title].items() if key != "by_setting"}, flush=True)
        record["tables"][table.name] = entry
        write_record(arguments.out, record)


if __name__ == "__main__":
    main()
