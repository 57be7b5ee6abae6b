"""Time and memory of table files: load, single, cold and vectorised queries, imports; against plain dictionaries and pickle.

    python benchmarks/tables.py --repeats 5 --only108 --work /tmp/tables --out benchmarks/records/tables.json

Tables of the published sizes are made up first (random numbers, real architectures and hashes) and kept in the work folder:
NAS-Bench-201 (15,625 cells x 2 budgets x 3 runs) and NAS-Bench-101 (423,624 cells x 4 budgets x 3 runs), each with
validation, test and training accuracy and seconds. Every measurement runs in a fresh process on one core; memory is the
increase of the process's peak over what it was before. The plain way is what the benchmarks' own readers do: parse every
record into dictionaries; for NAS-Bench-201, unpickle everything.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import pickle
import shlex
import statistics
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from recording import over_processes, write_record

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
WORK = "ARCHDUEL_BENCHMARK_WORK"
BUDGETS = (4, 12, 36, 108)
N_SMALL = 4_000
N_TRIALS = 60


def status_mib(entry: str) -> float:
    """Returns an entry of the process's status: VmRSS is its memory now, VmHWM the most it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry))


class Measure:
    """Seconds and growth of the peak memory since it was made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        self.memory, self.wall, self.cpu = status_mib("VmRSS"), time.perf_counter(), time.process_time()

    def read(self, times: float = 1.0, unit: str = "seconds") -> dict[str, float]:
        """Returns wall and processor time, multiplied by ``times``, and MiB."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {
            unit: times * wall,
            f"cpu_{unit}": times * cpu,
            "increase_mib": status_mib("VmHWM") - self.memory,
        }


def folder() -> Path:
    """Returns the work folder."""
    return Path(os.environ[WORK])


# ---------------------------------------------------------------- made-up sources


def make_tables() -> None:
    """Writes the two tables of published size, unless they are there."""
    from archduel.spaces import NASBench201
    from archduel.spaces.nasbench101.enumeration import enumerate_cells, hash_cells, hash_texts
    from archduel.tables import Fidelity, make_table

    rng = np.random.default_rng(0)
    splits = ("validation", "test", "train", "seconds")
    if not (folder() / "nb201.table").exists():
        space = NASBench201()
        archs = [space.at(i) for i in range(space.size)]
        values = {split: rng.random((2, 3, len(archs))) for split in splits}
        fidelities = [Fidelity("12", 12), Fidelity("200", 200)]
        table = make_table(
            archs, values, fidelities=fidelities, space=space, columns={"params": rng.random(len(archs))}
        )
        table.write(folder() / "nb201.table")
    if not (folder() / "nb101.table").exists():
        cells = enumerate_cells()
        texts = hash_texts(hash_cells(cells))
        values = {split: rng.random((4, 3, len(cells))) for split in splits}
        fidelities = [Fidelity(str(epochs), epochs) for epochs in BUDGETS]
        table = make_table(
            cells.archs(),
            values,
            fidelities=fidelities,
            fingerprints=texts,
            columns={"params": rng.random(len(cells))},
        )
        table.write(folder() / "nb101.table")


def make_tfrecord(name: str, archs: list[Any], budgets: tuple[int, ...]) -> None:
    """Writes a TFRecord file of 3 runs of every cell and budget in the published format, unless it is there."""
    from archduel.spaces import NASBench101
    from archduel.tables.readers.nasbench101 import masked_crc32c

    path, space, rng = folder() / name, NASBench101(), np.random.default_rng(1)
    if path.exists():
        return
    with open(path.with_suffix(".part"), "wb") as file:
        for first in range(0, len(archs), 1000):
            records = [r for arch in archs[first : first + 1000] for r in _records(space, arch, budgets, rng)]
            lengths = [len(record).to_bytes(8, "little") for record in records]
            sums = [masked_crc32c(rows).astype("<u4") for rows in (lengths, records)]
            for length, length_sum, record, record_sum in zip(lengths, sums[0], records, sums[1]):
                file.write(length + length_sum.tobytes() + record + record_sum.tobytes())
    path.with_suffix(".part").rename(path)


def _records(space: Any, arch: Any, budgets: tuple[int, ...], rng: np.random.Generator) -> list[bytes]:
    """Returns the records of one cell."""
    matrix, ops = space.matrix(arch)
    bits, hash_ = "".join(str(bit) for row in matrix for bit in row), space.fingerprint(arch)
    records = []
    for epochs in budgets * 3:
        numbers = rng.random((3, 5)).tolist()
        parts = [b"".join(struct.pack("<Bd", 8 * i + 9, v) for i, v in enumerate(row)) for row in numbers]
        message = b"".join(b"\x0a\x2d" + part for part in parts) + b"\x10\xac\x02\x19" + bytes(8)
        metrics = base64.encodebytes(message).decode()
        records.append(json.dumps([hash_, epochs, bits, ",".join(ops), metrics]).encode())
    return records


def make_tfrecords(only108: bool) -> None:
    """Writes N_SMALL random cells at all budgets, and, if asked for, all cells at 108 epochs."""
    from archduel.spaces.nasbench101.enumeration import enumerate_cells

    archs = enumerate_cells().archs()
    rows = np.random.default_rng(1).choice(len(archs), N_SMALL, replace=False).tolist()
    make_tfrecord("small.tfrecord", [archs[row] for row in rows], BUDGETS)
    if only108:
        make_tfrecord("only108.tfrecord", archs, (108,))


def make_pickle() -> None:
    """Writes a pickle of the trainings of N_TRIALS cells as NAS-Bench-201's file has them (protocol 2, whole curves)."""
    path = folder() / "trials.pickle"
    if path.exists():
        return
    rng = np.random.default_rng(2)

    def trial(name: str, sets: tuple[str, ...]) -> dict[str, Any]:
        def curve() -> dict[Any, float]:
            return dict(enumerate(rng.random(200).tolist()))

        keys = [f"{set_}@{epoch}" for set_ in sets for epoch in (range(200) if set_ == sets[-1] else (199,))]
        accuracy = dict.fromkeys(keys, 50.0)
        return {
            "name": name, "net_state_dict": None, "train_acc1es": curve(), "train_losses": curve(), "train_acc5es": None,
            "train_times": OrderedDict(curve()), "arch_config": {"channel": 16}, "params": np.float64(0.3), "flop": 40.0,
            "seed": "0777", "epochs": 200, "latency": [0.01], "eval_names": list(sets), "eval_acc1es": accuracy,
            "eval_losses": dict.fromkeys(accuracy, 1.0), "eval_times": dict.fromkeys(accuracy, 2.0),
        }  # fmt: skip

    sets = {
        "cifar10-valid": ("ori-test", "x-valid"),
        "cifar10": ("ori-test",),
        "cifar100": ("x-valid", "x-test", "ori-test"),
    }
    cells = {
        i: {
            "full": {
                "all_results": {
                    (name, s): trial(name, some) for name, some in sets.items() for s in (777, 888)
                }
            }
        }
        for i in range(N_TRIALS)
    }
    path.write_bytes(pickle.dumps({"arch2infos": cells}, 2))


# ---------------------------------------------------------------- measurements


def _load(name: str, space: str) -> dict[str, float]:
    from archduel import registry
    from archduel.tables import open_table

    registry.make("space", space)
    measure = Measure()
    table = open_table(folder() / name)
    found = {f"load_{key}": value for key, value in measure.read().items()}
    table.validation(), table.seconds()
    return {
        **found,
        **{f"load_and_read_{key}": value for key, value in measure.read().items()},
        "architectures": len(table),
    }


def load_nb201() -> dict[str, float]:
    """Opens NAS-Bench-201; then reads all validation accuracies and seconds too."""
    return _load("nb201.table", "nasbench201")


def load_nb101() -> dict[str, float]:
    """Opens NAS-Bench-101; then reads all validation accuracies and seconds too."""
    return _load("nb101.table", "nasbench101")


def _per_call(name: str, call: Callable[[Any], object], arguments: list[Any]) -> dict[str, float]:
    """Returns the median over ten parts of microseconds a call, on the wall and of this process."""
    wall, cpu = [], []
    for part in (arguments[i::10] for i in range(10)):
        began = time.perf_counter(), time.process_time()
        for argument in part:
            call(argument)
        wall.append(1e6 * (time.perf_counter() - began[0]) / len(part))
        cpu.append(1e6 * (time.process_time() - began[1]) / len(part))
    return {
        f"{name}_microseconds": statistics.median(wall),
        f"{name}_cpu_microseconds": statistics.median(cpu),
    }


def _queries(name: str) -> dict[str, float]:
    from archduel.core import Query
    from archduel.tables import TableEstimator, open_table

    table = open_table(folder() / name)
    estimator = TableEstimator(table)
    rows = np.random.default_rng(3).integers(0, len(table), 20_000).tolist()
    archs = [table.arch(row) for row in rows]
    queries = [[Query(arch)] for arch in archs]
    estimator.estimate(queries[0])
    accuracy = table.values("validation")[-1, 0]

    def value(arch: Any) -> float:
        return float(accuracy[table.find(arch)])

    found = {
        **_per_call("find", table.find, archs),
        **_per_call("value", value, archs),
        **_per_call("estimate", estimator.estimate, queries),
    }
    for what, read in (("mean", table.validation), ("one_run", lambda: table.validation(run=0))):
        found |= _per_call(f"whole_space_{what}", lambda _, read=read: read(), list(range(20)))
    return found


def queries_nb201() -> dict[str, float]:
    """Looks up single architectures and the whole space."""
    return _queries("nb201.table")


def queries_nb101() -> dict[str, float]:
    """The same in NAS-Bench-101, and cells in a vertex order that the table does not have: hashed, then found."""
    from archduel.core import Query
    from archduel.tables import TableEstimator, open_table

    table = open_table(folder() / "nb101.table")
    space: Any = table.space
    other = []
    for row in np.random.default_rng(4).integers(64_542, len(table), 30_000).tolist():
        matrix, ops = space.matrix(table.arch(row))
        order = [0, *(i for i in (2, 1, 4, 3, 5)), 6]
        swapped = [[matrix[a][b] for b in order] for a in order]
        if not any(swapped[a][b] for a in range(7) for b in range(a + 1)):
            arch = space.from_matrix(swapped, [ops[i] for i in order])
            other += [(row, arch)] if arch != table.arch(row) else []
    other = [(row, arch) for row, arch in {arch: (row, arch) for row, arch in other}.values()]
    estimator = TableEstimator(table)
    estimator.estimate([Query(table.arch(0))])
    cold = _per_call("cold_estimate", estimator.estimate, [[Query(arch)] for _, arch in other])
    assert all(table.find(arch) == row for row, arch in other)
    return {**_queries("nb101.table"), **cold, "cold_cells": len(other)}


def _import(name: str) -> dict[str, float]:
    from archduel import registry
    from archduel.tables import ImportPlan, import_published

    registry.make("space", "nasbench101")
    measure = Measure()
    table = import_published(folder() / f"{name}.tfrecord", ImportPlan(folder() / f"{name}.table"))
    n = len(table) * len(table.fidelities) * 3
    return {**measure.read(), "records": n, "mib": os.path.getsize(folder() / f"{name}.tfrecord") / 2**20}


def import_tfrecord() -> dict[str, float]:
    """Imports a small TFRecord file, checksums and hashes included; time for all 5,083,488 records is extrapolated."""
    found = _import("small")
    return {**found, "whole_file_seconds_extrapolated": found["cpu_seconds"] * 5_083_488 / found["records"]}


def import_only108() -> dict[str, float]:
    """Imports a made-up file of the size of ``nasbench_only108.tfrecord``: 423,624 cells, 1,270,872 records."""
    return _import("only108")


def plain_tfrecord() -> dict[str, float]:
    """Parses the same records into nested dictionaries, field by field, without checks, as the benchmark's reader does."""

    def number(data: bytes, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value, at

    measure = Measure()
    data, at = (folder() / "small.tfrecord").read_bytes(), 0
    table: dict[str, dict[int, list[Any]]] = {}
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        hash_, epochs, bits, ops, metrics = json.loads(data[at + 12 : at + 12 + length])
        at += 16 + length
        side = int(len(bits) ** 0.5)
        matrix = np.array([int(bit) for bit in bits]).reshape(side, side)
        message, place, evaluations = base64.b64decode(metrics), 0, []
        while message[place] == 0x0A:
            size, place = number(message, place + 1)
            evaluations.append(
                dict(struct.unpack_from("<Bd", message, i) for i in range(place, place + size, 9))
            )
            place += size
        table.setdefault(hash_, {}).setdefault(epochs, []).append((matrix, ops.split(","), evaluations))
    n = 12 * N_SMALL
    found = measure.read()
    scale = 423_624 / N_SMALL
    return {
        **found, "records": n, "whole_file_seconds_extrapolated": found["cpu_seconds"] * scale,
        "whole_file_mib_extrapolated": found["increase_mib"] * scale,
    }  # fmt: skip


def read_pickle() -> dict[str, float]:
    """Reads the trainings of a few NAS-Bench-201 cells as data, keeping what a table needs."""
    from archduel.tables.readers.nats import condense
    from archduel.tables.readers.pickle_names import CONTAINERS, NUMPY
    from archduel.tables.readers.pickles import Limits, PickleReader

    measure = Measure()
    with open(folder() / "trials.pickle", "rb") as file:
        read = PickleReader(
            file.read, {**CONTAINERS, **NUMPY}, on_dict=condense, limits=Limits(size=1 << 36)
        ).load()
    return {
        **measure.read(),
        "mib": os.path.getsize(folder() / "trials.pickle") / 2**20,
        "cells": len(read["arch2infos"]),
    }


def plain_pickle() -> dict[str, float]:
    """Unpickles the same file, as the benchmark's own reader does."""
    measure = Measure()
    with open(folder() / "trials.pickle", "rb") as file:
        read = pickle.load(file)
    found = measure.read()
    size = os.path.getsize(folder() / "trials.pickle") / 2**20
    return {
        **found,
        "mib": size,
        "cells": len(read["arch2infos"]),
        "mib_of_memory_a_mib_of_file": found["increase_mib"] / size,
    }


PARTS: dict[str, Callable[[], dict[str, float]]] = {
    part.__name__: part
    for part in (
        load_nb201, load_nb101, queries_nb201, queries_nb101, import_tfrecord, import_only108, plain_tfrecord, read_pickle, plain_pickle
    )
}  # fmt: skip


def _measure(name: str, answers: Any) -> None:
    answers.put(PARTS[name]())


def main() -> None:
    """Makes the sources, measures all parts and writes the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--only108", action="store_true", help="also import a file of 423,624 cells, once (minutes)"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    os.environ.update({**dict.fromkeys(THREADS, "1"), WORK: str(arguments.work)})
    from archduel import environment

    make_tables()
    make_tfrecords(arguments.only108)
    make_pickle()
    load_before = os.getloadavg()[0]
    names = [name for name in PARTS if arguments.only108 or name != "import_only108"]
    parts = {name: over_processes(_measure, name, 1 if name == "import_only108" else arguments.repeats) for name in names}
    record = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "threads": 1,
        "load_average": {"before": load_before, "after": os.getloadavg()[0]},
        "ratio_of_plain_to_ours": {
            "import NAS-Bench-101, memory of the whole file": parts["plain_tfrecord"]["whole_file_mib_extrapolated"]["median"]
            / max(1.0, parts["load_nb101"]["load_and_read_increase_mib"]["median"]),
            "load NAS-Bench-101, time": parts["plain_tfrecord"]["whole_file_seconds_extrapolated"]["median"]
            / parts["load_nb101"]["load_cpu_seconds"]["median"],
            "read NAS-Bench-201's pickle, time": parts["plain_pickle"]["cpu_seconds"]["median"]
            / parts["read_pickle"]["cpu_seconds"]["median"],
        },
        "parts": parts,
    }  # fmt: skip
    write_record(arguments.out, record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
