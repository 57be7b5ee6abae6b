"""ReNAS's published tensors: ``data_0.npy`` ... (N, 19, 7, 7) and ``label_0.npy`` ... (N, 8), 10,000 cells of NAS-Bench-101 each.

A tensor's first channel is the adjacency matrix with the type of a vertex in place of each 1; so the cell can be read back:
types 1 input, 2 conv1x1, 3 conv3x3, 4 maxpool, 5 output, written along columns (the type of the edge's target) or along rows
(its source); which of the two is found from the tensors. Cells of fewer than seven vertices have zero rows and columns before
the output. Labels: seconds, train, validation and test accuracy after half of the epochs, then the same four at the end.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from archduel.core import Arch
from archduel.errors import InvalidArchError, TableError
from archduel.tables.build import Labels
from archduel.tables.file import Fidelity

__all__ = ["NAMES", "read_renas_shards"]

NAMES = {2: "conv1x1-bn-relu", 3: "conv3x3-bn-relu", 4: "maxpool3x3"}
INPUT, OUTPUT = 1, 5
ORDER = ("seconds", "train", "validation", "test")
IMAGES = 40_000
LARGEST = 1 << 17
"""Cells of a shard at most; the published ones have 10,000."""


def _read_npy(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """Returns a memory-mapped array (N, *shape) of numbers; objects are refused before anything is read."""
    try:
        with open(path, "rb") as file:
            version = npy.read_magic(file)
            head = file.read(1 << 12)
            stream = io.BytesIO(head)
            found, fortran, dtype = (
                npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)
            )
            start, size = 8 + stream.tell(), file.seek(0, io.SEEK_END)
    except (OSError, ValueError, SyntaxError) as error:
        raise TableError(f"{path} cannot be read as .npy: {str(error)[:150]}") from error
    if dtype.kind not in "fiu" or found[1:] != shape or not 0 < found[0] <= LARGEST or fortran:
        raise TableError(
            f"{path} holds {dtype} of shape {found}, expected numbers of shape (N, {str(shape)[1:]}"
        )
    if size - start != math.prod(found) * dtype.itemsize:
        raise TableError(
            f"{path} has {size - start} bytes of numbers, its shape {found} needs another count; truncated?"
        )
    return np.memmap(path, dtype, "r", start, found)


def _shards(folder: Path) -> list[tuple[Path, Path]]:
    """Returns (features, labels) of each shard, by number."""
    numbers = sorted(
        int(match[1])
        for path in folder.glob("data_*.npy")
        if (match := re.fullmatch(r"data_(\d{1,4})\.npy", path.name))
    )
    if not numbers:
        raise TableError(f"{folder} has no data_0.npy, data_1.npy ...")
    if numbers != list(range(len(numbers))):
        missing = min(set(range(len(numbers))) - set(numbers))
        raise TableError(f"{folder} has {len(numbers)} shards, but data_{missing}.npy is missing")
    pairs = [(folder / f"data_{i}.npy", folder / f"label_{i}.npy") for i in numbers]
    for path in [path for pair in pairs for path in pair]:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise TableError(f"{path} leads out of {folder}")
    return pairs


def _by_column(types: NDArray[np.int64]) -> bool:
    """Whether every column of every matrix has one type (then the targets' types are written, else the sources')."""
    top = types.max(axis=1)  # (N, 7), the type of each column
    return bool(((types == 0) | (types == top[:, None, :])).all())


def _cell(types: NDArray[np.int64], by_column: bool) -> tuple[list[list[int]], list[str]]:
    """Returns matrix and operations of one (7, 7) type matrix."""
    kinds = types.max(axis=0 if by_column else 1)
    kinds[0 if by_column else -1] = INPUT if by_column else OUTPUT
    edges = (types > 0).astype(np.int64)
    inner = [v for v in range(1, 6) if edges[v].any() or edges[:, v].any()]
    kept = [0, *inner, 6]
    if kinds[0] != INPUT or kinds[6] != OUTPUT or any(int(kinds[v]) not in NAMES for v in inner):
        raise ValueError(f"vertex types {kinds.tolist()}, expected 1, some of 2 to 4, and 5")
    return edges[np.ix_(kept, kept)].tolist(), ["input", *(NAMES[int(kinds[v])] for v in inner), "output"]


def read_renas_shards(
    folder: Path,
    read_cell: Callable[[Sequence[Sequence[int]], Sequence[str]], Arch],
    fingerprint: Callable[[Arch], str],
) -> Labels:
    """Returns the labels of all shards: fidelities ``54/108`` and ``108``, one value each.

    Raises:
        TableError: for a missing, truncated or malformed shard, or a cell that is there twice.
    """
    archs: list[Arch] = []
    hashes: dict[str, None] = {}
    labels: list[NDArray[Any]] = []
    for data_path, label_path in _shards(folder):
        data, numbers = _read_npy(data_path, (19, 7, 7)), _read_npy(label_path, (8,))
        if len(data) != len(numbers):
            raise TableError(f"{data_path} has {len(data)} cells, {label_path.name} has {len(numbers)}")
        types = np.asarray(np.rint(data[:, 0])).astype(np.int64)
        by_column = _by_column(types)
        labels.append(np.asarray(numbers, np.float64))
        for row, matrix in enumerate(types):
            try:
                archs.append(read_cell(*_cell(matrix, by_column)))
            except (InvalidArchError, ValueError) as error:
                raise TableError(f"{data_path}, cell {row}: {error}") from error
            if (own := fingerprint(archs[-1])) in hashes:
                raise TableError(f"{data_path}, cell {row} ({own}) is there twice")
            hashes[own] = None
    stacked = np.concatenate(labels).reshape(-1, 2, 1, 4).transpose(3, 1, 2, 0)  # (split, half or end, 1, N)
    return Labels(
        archs,
        dict(zip(ORDER, stacked)),
        [Fidelity("54/108", 54, 54 * IMAGES), Fidelity("108", 108, 108 * IMAGES)],
        fingerprints=list(hashes),
        facts={"dataset": "cifar10", "runs": "one value each; of how many trainings its source does not say"},
    )
