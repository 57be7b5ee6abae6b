"""NAS-Bench-101 from its published TFRecord files and from CTNAS's ``nas_bench.json``, as labels.

Source: Ying et al., "NAS-Bench-101: Towards Reproducible Neural Architecture Search", ICML 2019; Chen et al., "Contrastive
Neural Architecture Search with Neural Architecture Comparators", CVPR 2021 (the JSON file).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch
from archduel.errors import InvalidArchError, TableError
from archduel.estimators.importers.labels import Labels
from archduel.estimators.importers.nasbench101_records import Measured, Record, read_record
from archduel.estimators.importers.tfrecord import read_records
from archduel.estimators.table_header import Fidelity

__all__ = ["ReadCell", "read_ctnas_json", "read_nasbench101"]

ReadCell = Callable[[Sequence[Sequence[int]], Sequence[str]], Arch]
"""Makes an architecture of a matrix and the names of all vertices."""

IMAGES = 40_000
BUDGETS = (4, 12, 36, 108)
RUNS = 3
SPLITS = ("validation", "test", "train", "seconds")
NAN = np.float32(np.nan)
CHUNK = 1 << 20
LONGEST = 1 << 23
"""Characters of the longest entry of a JSON file that is believed."""
_GAP = re.compile(r"[\s,]*")


class _Cells:
    """Collects trainings in arrays that grow; (cells, budgets, halfway or final, runs, splits) float32."""

    def __init__(self, read_cell: ReadCell, fingerprint: Callable[[Arch], str]) -> None:
        self._read_cell, self._fingerprint = read_cell, fingerprint
        self.rows: dict[str, int] = {}
        self.archs: list[Arch] = []
        self.params: list[int] = []
        self.values = np.full((1024, len(BUDGETS), 2, RUNS, len(SPLITS)), NAN, np.float32)
        self.count = np.zeros((1024, len(BUDGETS)), np.uint8)

    def _row(self, record: Record) -> int:
        """Returns the row of a record's cell; a new one is read and its hash compared."""
        row = self.rows.get(record.hash)
        if row is not None:
            return row
        arch = self._read_cell(*record.cell())
        if (own := self._fingerprint(arch)) != record.hash:
            raise ValueError(f"its cell has the hash {own}, the record says {record.hash[:40]!r}")
        row = self.rows[record.hash] = len(self.archs)
        self.archs.append(arch)
        self.params.append(record.params)
        if row == len(self.values):
            self.values = np.concatenate([self.values, np.full_like(self.values, NAN)])
            self.count = np.concatenate([self.count, np.zeros_like(self.count)])
        return row

    def add(self, record: Record) -> None:
        """Takes one training; the runs of a cell are numbered as they come."""
        if record.epochs not in BUDGETS:
            raise ValueError(f"{record.epochs} epochs, expected one of {BUDGETS}")
        row, budget = self._row(record), BUDGETS.index(record.epochs)
        run = int(self.count[row, budget])
        if run == RUNS:
            raise ValueError(
                f"cell {record.hash} was trained more than {RUNS} times for {record.epochs} epochs"
            )
        self.count[row, budget] += 1
        for place, measured in enumerate((record.halfway, record.final)):
            self.values[row, budget, place, run] = _numbers(measured)

    def labels(self, halfway: bool) -> Labels:
        """Returns what was collected: the budgets that occur, with their half-time values if asked for."""
        values = self.values[: len(self.archs)]
        fidelities, parts = [], []
        for budget, epochs in enumerate(BUDGETS):
            if not self.count[:, budget].any():
                continue
            for place, seen in ((0, epochs // 2), (1, epochs))[0 if halfway else 1 :]:
                name = str(epochs) if seen == epochs else f"{seen}/{epochs}"
                fidelities.append(Fidelity(name, seen, seen * IMAGES))
                parts.append(values[:, budget, place].transpose(1, 0, 2))  # (R, N, S)
        stacked = np.stack(parts)  # (F, R, N, S)
        return Labels(
            self.archs,
            {split: stacked[..., i] for i, split in enumerate(SPLITS)},
            fidelities,
            {"params": np.array(self.params, np.float64)},
            {"params": "count"},
            list(self.rows),
            {"dataset": "cifar10", "seconds": "training, as recorded", "runs": "in the order of the file"},
        )


def _numbers(measured: Measured) -> tuple[float, float, float, float]:
    return measured.validation, measured.test, measured.train, measured.seconds


def read_nasbench101(
    path: Path, read_cell: ReadCell, fingerprint: Callable[[Arch], str], *, halfway: bool = False
) -> Labels:
    """Returns the labels of ``nasbench_full.tfrecord`` or ``nasbench_only108.tfrecord``, cells in the file's order.

    Args:
        path: the file; it is read as a stream, every checksum and every cell's hash is compared.
        read_cell: makes architectures.
        fingerprint: the benchmark's hash of an architecture.
        halfway: also keep what was measured after half of the epochs, as fidelities such as ``54/108``.

    Raises:
        TableError: for a damaged file or a record that is not of this benchmark.
    """
    cells = _Cells(read_cell, fingerprint)
    for number, data in enumerate(read_records(path)):
        try:
            cells.add(read_record(data))
        except (ValueError, IndexError, RecursionError) as error:
            raise TableError(f"{path}: record {number}: {str(error)[:200]}") from error
    if not cells.archs:
        raise TableError(f"{path} holds no records")
    return cells.labels(halfway)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a JSON list without ever holding the whole file."""
    decoder = json.JSONDecoder()
    with open(path, encoding="utf-8") as file:
        text, at = file.read(CHUNK), 0
        if not text.lstrip().startswith("["):
            raise ValueError("it does not begin with '['")
        at = text.index("[") + 1
        while True:
            at = _GAP.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty text too
            if text[at : at + 1] == "]":
                return
            try:
                found, at = decoder.raw_decode(text, at)
            except ValueError:
                more = file.read(CHUNK)
                if not more or len(text) - at > LONGEST:
                    raise
                text, at = text[at:] + more, 0
                continue
            yield found


def read_ctnas_json(path: Path, read_cell: ReadCell, fingerprint: Callable[[Arch], str]) -> Labels:
    """Returns the labels of CTNAS's ``nas_bench.json``: means of the three runs at 108 epochs.

    Raises:
        TableError: for a damaged file, an entry of another form or a hash that is not its cell's.
    """
    archs: list[Arch] = []
    rows: list[tuple[float, ...]] = []
    hashes: dict[str, None] = {}
    try:
        for entry in _objects(path):
            arch = read_cell(entry["matrix"], entry["ops"])
            hash_ = entry["hash_"]
            if fingerprint(arch) != hash_ or hash_ in hashes:
                raise ValueError(f"hash {str(hash_)[:40]!r} is not its cell's, or is there twice")
            hashes[hash_] = None
            archs.append(arch)
            rows.append(tuple(float(entry[key]) for key in _JSON_KEYS))
    except (OSError, KeyError, TypeError, ValueError, InvalidArchError, RecursionError) as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise TableError(
            f"{path}, entry {len(archs)} cannot be used as CTNAS's nas_bench.json ({what})"
        ) from error
    if not archs:
        raise TableError(f"{path} holds no entries")
    columns: NDArray[np.float64] = np.array(rows).T
    return Labels(
        archs,
        {split: columns[i].reshape(1, 1, -1) for i, split in enumerate(SPLITS)},
        [Fidelity("108", 108, 108 * IMAGES)],
        {"params": columns[4]},
        {"params": "count"},
        list(hashes),
        {
            "dataset": "cifar10",
            "runs": "each value is the mean of three runs",
            "seconds": "mean training time of a run",
        },
    )


_JSON_KEYS = ("validation_accuracy", "test_accuracy", "train_accuracy", "training_time", "n_params")
