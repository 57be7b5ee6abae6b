"""Which columns of a file spell an architecture of a space, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archduel.core import Arch, parse
from archduel.errors import SettingError
from archduel.estimators.importers.cells import read_integers, read_matrix, read_words

__all__ = ["PARTS", "arch_columns", "row_reader"]

PARTS: dict[str, dict[str, str]] = {
    "nasbench101": {"adjacency": "adjacency", "ops": "ops"},
    "nasbench201": {"arch": "arch_str"},
    "natsbench_sss": {"arch": "channels"},
    "darts": {"arch": "genotype"},
    "mobilenetv3": {
        "kernels": "kernel_sizes",
        "expansions": "expand_ratios",
        "depths": "depths",
        "resolution": "resolution",
    },
}
"""Space -> part of an architecture -> usual name of its column."""


def arch_columns(space_name: str, given: Mapping[str, str], available: Sequence[str] = ()) -> dict[str, str]:
    """Returns part -> column for a space: those given, and the usual names of the others.

    ``arch`` alone is enough in every space: a column of the space's own text or of ``space:1.0.4`` texts. A mobile network's
    ``resolution`` is a part only if it is given or there is such a column.

    Raises:
        SettingError: for a part that architectures of this space do not have.
    """
    usual = {"arch": ""} if "arch" in given else PARTS.get(space_name, {"arch": "arch"})
    wrong = sorted(set(given) - set(usual))
    if wrong:
        raise SettingError(
            f"{space_name}: no column {wrong[0]!r} is needed here, it reads {', '.join(usual)}"
        )
    named = {**usual, **given}
    if "resolution" not in given and named.get("resolution") not in available:
        named.pop("resolution", None)
    return named


def row_reader(space: Any, columns: Mapping[str, str]) -> Callable[[Mapping[str, str]], Arch]:
    """Returns a function that makes an architecture of one row's texts (column name -> text).

    It raises InvalidArchError for text that is none.
    """
    if "arch" in columns:
        column = columns["arch"]
        return lambda row: _read(space, row[column])
    if "adjacency" in columns:
        adjacency, ops = columns["adjacency"], columns["ops"]
        return lambda row: _matrix(space, row[adjacency], row[ops])
    return lambda row: _mobile(space, {part: read_integers(row[name]) for part, name in columns.items()})


def _read(space: Any, text: str) -> Arch:
    if text.strip().startswith(f"{space.name}:"):
        arch = parse(text)
        space.validate(arch)
        return arch
    arch = space.read(text)
    return arch  # type: ignore[no-any-return]


def _matrix(space: Any, adjacency: str, ops: str) -> Arch:
    matrix, names = read_matrix(adjacency), read_words(ops)
    if len(names) == len(matrix) - 2:
        names = ["input", *names, "output"]
    return space.from_matrix(matrix, names)  # type: ignore[no-any-return]


def _mobile(space: Any, parts: Mapping[str, list[int]]) -> Arch:
    spec = {
        "ks": parts["kernels"],
        "e": parts["expansions"],
        "d": parts["depths"],
        "r": parts.get("resolution"),
    }
    return space.read(json.dumps(spec))  # type: ignore[no-any-return]
