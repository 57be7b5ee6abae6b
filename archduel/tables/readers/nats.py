"""NAS-Bench-201 and NATS-Bench: the one-file forms, the folders, and tar archives of folders, as labels of one data set.

Source: Dong and Yang, "NAS-Bench-201", ICLR 2020; Dong et al., "NATS-Bench", TPAMI 2021. Rules of the benchmark's own
reader: CIFAR-10 validation is read from trainings on half of the training images (``cifar10-valid``), its test accuracy from
trainings on all of them; a query costs the training time and one evaluation of the validation set.
"""

from __future__ import annotations

import bz2
import math
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from archduel.core import Arch
from archduel.errors import InvalidArchError, TableError, unknown
from archduel.tables.build import Labels
from archduel.tables.file import Fidelity
from archduel.tables.readers.pickle_names import CONTAINERS, NUMPY, WEIGHTS
from archduel.tables.readers.pickles import Limits, Maker, PickleReader, shown

__all__ = ["DATASETS", "Trial", "condense", "read_nats", "read_torch_file"]

# -- One training in NAS-Bench-201 and NATS-Bench: the numbers that a table keeps of it ---------------------------------


SHORT = 8
"""Dicts of more entries are curves; shorter ones are left as they are."""
LONGEST_TEXT = 200
DROPPED = {"dropped": True}
"""What is left of a curve, so that a second training with the very same object would be noticed."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one training of one cell ended with; accuracies are fractions, nan = not recorded.

    Attributes:
        dataset: ``cifar10-valid``, ``cifar10``, ``cifar100`` or ``ImageNet16-120``.
        epochs: how long it was trained.
        train: training accuracy of the last epoch.
        evaluations: set -> accuracy after the last epoch.
        train_seconds: of all epochs together.
        evaluation_seconds: set -> mean of one evaluation.
        params: recorded count of parameters.
        macs: recorded multiply-adds, the classifier's bias included.
        latency_ms: recorded time of a batch of 256.
    """

    dataset: str
    epochs: int
    train: float
    evaluations: Mapping[str, float]
    train_seconds: float
    evaluation_seconds: Mapping[str, float]
    params: float
    macs: float
    latency_ms: float


def _text(value: Any) -> str:
    """Returns a short text; of a list that holds itself a million times there is none."""
    if type(value) is not str or len(value) > LONGEST_TEXT:
        raise ValueError(f"{shown(value)} where a short text is expected")
    return value


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _mean(values: Any) -> float:
    numbers = [float(value) for value in values] if isinstance(values, list) else []
    return sum(numbers) / len(numbers) if numbers else math.nan


def _last(values: Any, last: int) -> dict[str, float]:
    """Returns set -> accuracy of the last epoch, from keys such as ``x-valid@199``."""
    tail = f"@{last}"
    return {key.removesuffix(tail): float(value) / 100 for key, value in values.items() if key.endswith(tail)}


def _mean_times(times: Any) -> dict[str, float]:
    """Returns set -> mean seconds of its evaluations."""
    by_set: dict[str, list[float]] = {}
    for key, value in times.items() if isinstance(times, dict) else ():
        by_set.setdefault(key.partition("@")[0], []).append(float(value))
    return {name: sum(values) / len(values) for name, values in by_set.items()}


def condense(record: dict[Any, Any]) -> int:
    """Replaces the 16 entries of a training, curves and all, by one :class:`Trial`; returns how many values it dropped.

    Any other dict is left as it is.
    """
    if not {"train_acc1es", "eval_acc1es", "epochs", "name"} <= record.keys():
        return 0
    curves = [
        value
        for value in record.values()
        if (isinstance(value, dict) and len(value) > SHORT) or value == DROPPED
    ]
    if DROPPED in curves:
        raise ValueError("two trainings share one learning curve")
    last = int(record["epochs"]) - 1
    times = record.get("train_times")
    trial = Trial(
        dataset=_text(record["name"]),
        epochs=last + 1,
        train=_number(record["train_acc1es"].get(last)) / 100,
        evaluations=_last(record["eval_acc1es"], last),
        train_seconds=sum(map(float, times.values())) if isinstance(times, dict) and times else math.nan,
        evaluation_seconds=_mean_times(record.get("eval_times")),
        params=round(_number(record.get("params")) * 1e6) if "params" in record else math.nan,
        macs=round(_number(record.get("flop")) * 1e6) if "flop" in record else math.nan,
        latency_ms=1000 * _mean(record.get("latency")),
    )
    dropped = 2 * (len(record) + sum(map(len, curves)))
    for curve in curves:
        curve.clear()
        curve.update(DROPPED)
    record.clear()
    record["trial"] = trial
    return dropped


# -- The objects in a file of ``torch.save``, read without torch and without unpickling; tensors are left out -----------


MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
MAKERS: Mapping[str, Maker] = {**CONTAINERS, **NUMPY, **WEIGHTS}


def read_torch_file(
    path: Path, *, on_dict: Callable[[dict[Any, Any]], int] | None = None, limits: Limits | None = None
) -> Any:
    """Returns the object in a file of ``torch.save``: the zip form or the older one.

    Args:
        path: the file.
        on_dict: see :class:`PickleReader`.
        limits: what reading may cost.

    Raises:
        TableError: if the file is neither, is damaged, or holds anything but plain data and tensors.
    """
    with _data(path) as (read, old):
        bounded = _bounded(limits or Limits(), path.stat().st_size)
        reader = PickleReader(read, MAKERS, on_dict=on_dict, limits=bounded, what=str(path))
        if old:
            if reader.load() != MAGIC or reader.load() != VERSION:
                raise TableError(
                    f"{path} is no file of torch.save: it does not begin with its number and version"
                )
            reader.load()  # facts about the machine that wrote it
        return reader.load()


@contextmanager
def _data(path: Path) -> Iterator[tuple[Callable[[int], bytes], bool]]:
    """Yields how the pickles are read, and whether it is the form before the zip."""
    try:
        with open(path, "rb") as file:
            if file.read(2) != b"PK":
                file.seek(0)
                yield file.read, True
                return
        with zipfile.ZipFile(path) as archive:
            names = [
                name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1
            ]
            if len(names) != 1:
                raise TableError(
                    f"{path} is a zip file with {len(names)} data.pkl, a file of torch.save has one"
                )
            with archive.open(names[0]) as member:
                yield member.read, False
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise TableError(f"{path} cannot be read: {error}") from error


DATASETS = {
    "cifar10": (("cifar10-valid", "x-valid"), ("cifar10", "ori-test"), "cifar10", 25_000),
    "cifar100": (("cifar100", "x-valid"), ("cifar100", "x-test"), "cifar100", 50_000),
    "ImageNet16-120": (
        ("ImageNet16-120", "x-valid"),
        ("ImageNet16-120", "x-test"),
        "ImageNet16-120",
        151_700,
    ),
}
"""Data set -> where validation and test accuracy are, where training accuracy is, images of one epoch."""
LEAST, MOST_RATIO = 1 << 22, 200
"""Bytes that any compressed pickle may have, and those for one packed byte: each may be an operation that does nothing."""
ONE_CELL = Limits(size=1 << 28, containers=1 << 16, items=1 << 20, text=1 << 24)
ALL_CELLS = Limits(size=1 << 36, containers=1 << 23, items=1 << 23, text=1 << 20, memo=1 << 27)
CELL_FILE = re.compile(r"(\d{1,6})(?:\.pickle\.pbz2|-FULL\.pth)")
HYPERPARAMETERS = {"less": "12", "full": "200"}
"""Names in NAS-Bench-201 -> epochs, as NATS-Bench calls them."""

Cell = Mapping[str, Mapping[str, Any]]
"""Epochs -> what was recorded for a cell under that schedule."""


def _bounded(limits: Limits, packed: int) -> Limits:
    """Returns limits that a file of ``packed`` bytes cannot reach by being a bomb."""
    return replace(limits, size=min(limits.size, LEAST + MOST_RATIO * packed))


def _read_bz2(file: IO[bytes], packed: int, what: str, limits: Limits) -> Any:
    """Returns the object in a compressed pickle of ``packed`` bytes."""
    limits = _bounded(limits, packed)
    try:
        with bz2.BZ2File(file) as data:
            reader = PickleReader(
                data.read, {**CONTAINERS, **NUMPY, **WEIGHTS}, on_dict=condense, limits=limits, what=what
            )
            return reader.load()
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{what} cannot be decompressed: {error}") from error


def _cells_of_folder(folder: Path) -> Iterator[tuple[int, Any]]:
    """Yields (index, cell) of the files of a folder that are cells; a link to somewhere else is refused."""
    root = folder.resolve()
    found = {int(match[1]): path for path in folder.iterdir() if (match := CELL_FILE.fullmatch(path.name))}
    for index, path in sorted(found.items()):
        if not path.resolve().is_relative_to(root) or not path.is_file():
            raise TableError(f"{path} leads out of {folder}; a benchmark folder holds its own files")
        if path.suffix == ".pth":
            yield index, read_torch_file(path, on_dict=condense, limits=ONE_CELL)
        else:
            with open(path, "rb") as file:
                yield index, _read_bz2(file, path.stat().st_size, str(path), ONE_CELL)


def _cells_of_tar(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields (index, cell) of the members that are cells; nothing is extracted, so no member can land anywhere."""
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                match = re.fullmatch(r"(\d{1,6})\.pickle\.pbz2", member.name.rpartition("/")[2])
                file = archive.extractfile(member) if match and member.isreg() else None
                if match and file is not None:
                    yield int(match[1]), _read_bz2(file, member.size, f"{path}: {member.name}"[:300], ONE_CELL)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise TableError(f"{path} cannot be read as a tar archive: {error}") from error


def _cells_of_file(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields (index, cell) of a one-file form."""
    if path.suffix == ".pth":
        whole = read_torch_file(path, on_dict=condense, limits=ALL_CELLS)
    else:
        with open(path, "rb") as file:
            whole = _read_bz2(file, path.stat().st_size, str(path), ALL_CELLS)
    cells = whole.get("arch2infos") if isinstance(whole, dict) else None
    if not isinstance(cells, dict):
        raise TableError(f"{path} holds no 'arch2infos'; it is not a file of NAS-Bench-201 or NATS-Bench")
    for index in sorted(key for key in cells if isinstance(key, int)):
        yield index, cells[index]


def _cells(path: Path) -> Iterator[tuple[int, Any]]:
    if path.is_dir():
        return _cells_of_folder(path)
    return _cells_of_tar(path) if ".tar" in path.suffixes else _cells_of_file(path)


def _trials(state: Mapping[str, Any], dataset: str) -> dict[int, Trial]:
    """Returns seed -> training of one data set."""
    found = {}
    for (name, seed), record in state["all_results"].items():
        if name == dataset:
            found[int(seed)] = record["trial"]
    return dict(sorted(found.items()))


def _pick(trials: Mapping[int, Trial], what: str) -> float:
    """Returns a recorded count; where trainings disagree (a known mix-up), that of seed 888."""
    values = {seed: getattr(trial, what) for seed, trial in trials.items()}
    known = {seed: value for seed, value in values.items() if not math.isnan(value)}
    if len(set(known.values())) > 1 and 888 in known:
        return float(known[888])
    return float(next(iter(known.values()), math.nan))


def _runs(state: Mapping[str, Any], dataset: str) -> list[dict[str, float]]:
    """Returns what each seed gives for a data set: split -> value."""
    (valid_name, valid_set), (test_name, test_set), train_name, _ = DATASETS[dataset]
    valid, test, train = (_trials(state, name) for name in (valid_name, test_name, train_name))
    runs = []
    for seed in sorted({*valid, *test}):
        run = {}
        if seed in valid:
            trial = valid[seed]
            run["validation"] = trial.evaluations.get(valid_set, math.nan)
            run["seconds"] = trial.train_seconds + trial.evaluation_seconds.get(valid_set, math.nan)
        if seed in test:
            run["test"] = test[seed].evaluations.get(test_set, math.nan)
        if seed in train:
            run["train"] = train[seed].train
        runs.append(run)
    return runs


class _Rows:
    """Collects cells until all are read."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self.texts: list[str] = []
        self.runs: list[dict[str, list[dict[str, float]]]] = []
        self.columns: dict[str, list[float]] = {"params": [], "macs": [], "latency_ms": []}

    def add(self, index: int, cell: Cell) -> None:
        """Takes one cell."""
        states = {HYPERPARAMETERS.get(name, name): state for name, state in cell.items()}
        if not states or not all(name.isdecimal() for name in states):
            raise ValueError(
                f"schedules {', '.join(map(shown, list(states)[:5])) or 'none'}, expected numbers of epochs"
            )
        first = next(iter(states.values()))
        if first.get("arch_index", index) != index:
            raise ValueError(f"it says it is cell {shown(first['arch_index'])}")
        self.texts.append(_text(first["arch_str"]))
        self.runs.append({name: _runs(state, self.dataset) for name, state in states.items()})
        trials = [_trials(state, DATASETS[self.dataset][0][0]) for state in states.values()]
        for what, column in self.columns.items():
            column.append(
                next((v for t in reversed(trials) if not math.isnan(v := _pick(t, what))), math.nan)
            )

    def labels(self, archs: list[Arch]) -> Labels:
        """Returns what was collected; a schedule under which this data set was never evaluated is left out."""
        seen = {
            name
            for row in self.runs
            for name, runs in row.items()
            if any("validation" in run for run in runs)
        }
        names = sorted(seen, key=int)
        n_runs = max((len(runs) for row in self.runs for runs in row.values()), default=0)
        shape = (len(names), max(n_runs, 1), len(archs))
        values = {split: np.full(shape, np.nan) for split in ("validation", "test", "train", "seconds")}
        for place, row in enumerate(self.runs):
            for position, name in enumerate(names):
                for number, run in enumerate(row.get(name, ())):
                    for split, value in run.items():
                        values[split][position, number, place] = value
        images = DATASETS[self.dataset][3]
        return Labels(
            archs,
            values,
            [Fidelity(name, float(int(name)), int(name) * images) for name in names],
            {name: np.array(column) for name, column in self.columns.items()},
            {
                "params": "count, as recorded",
                "macs": "count, classifier bias included",
                "latency_ms": "ms, batch 256",
            },
            facts={"dataset": self.dataset, "seconds": "training and one evaluation of the validation set"},
        )


def read_nats(path: Path, dataset: str, read_arch: Callable[[str], Arch]) -> Labels:
    """Returns the labels of one data set, cells in the benchmark's order.

    Args:
        path: a ``.pth`` or ``.pickle.pbz2`` file, a folder of cells, or a tar archive of one.
        dataset: ``cifar10``, ``cifar100`` or ``ImageNet16-120``.
        read_arch: makes an architecture of the benchmark's text.

    Raises:
        TableError: if the file is damaged, holds anything but plain data, or has no such data set.
        UnknownNameError: for another data set.
    """
    if dataset not in DATASETS:
        raise unknown("data set", dataset, DATASETS)
    rows = _Rows(dataset)
    archs: list[Arch] = []
    for index, cell in _cells(path):
        try:
            rows.add(index, cell)
            archs.append(read_arch(rows.texts[-1]))
        except InvalidArchError as error:
            raise TableError(f"{path}, cell {index}: {error}") from error
        except (AttributeError, KeyError, TypeError, ValueError, StopIteration) as error:
            raise TableError(
                f"{path}, cell {index} is no record of this benchmark: {str(error)[:100]}"
            ) from error
    if not archs:
        raise TableError(f"{path} holds no cells; a folder has files such as 000011.pickle.pbz2")
    labels = rows.labels(archs)
    if not labels.fidelities or np.isnan(labels.values["validation"]).all():
        raise TableError(f"{path} has no validation accuracy on {dataset}")
    return labels
