"""What a table says about itself, checked before anything else reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from archduel.errors import TableError

__all__ = ["SPLITS", "Fidelity", "TableHeader", "check_arrays"]

SPLITS = ("validation", "test", "train", "seconds")


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One way in which every architecture was trained.

    Attributes:
        name: what a query calls it, such as ``108``.
        epochs: passes over the training images, 0 = not known.
        images: training images that one training sees, 0 = not known.
    """

    name: str
    epochs: float = 0.0
    images: int = 0


@dataclass(frozen=True)
class TableHeader:
    """The facts in a table's header; see :class:`~archduel.estimators.table.Table` for what they mean."""

    name: str
    space: str
    fidelities: tuple[Fidelity, ...]
    runs: int
    splits: tuple[str, ...]
    space_settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "validation_accuracy"
    columns: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, header: Mapping[str, Any]) -> TableHeader:
        """Returns the facts of a JSON header.

        Raises:
            TableError: that names the first entry of a wrong kind.
        """
        if header.get("format") != "archduel-table" or header.get("version") != 1:
            got = f"{header.get('format')!r:.80} version {header.get('version')!r:.80}"
            raise TableError(f"the header says {got}, this program reads 'archduel-table' version 1")
        for name, kind in _KINDS.items():
            if not isinstance(header.get(name), kind):
                raise TableError(
                    f"header entry {name!r} is {header.get(name)!r:.200}, expected {kind.__name__}"
                )
        splits = tuple(header["splits"])
        known = all(split in SPLITS for split in splits)
        if not known or "validation" not in splits or len(set(splits)) < len(splits):
            raise TableError(
                f"the header's splits are {splits!r:.200}, expected validation and some of {SPLITS}"
            )
        fidelities = tuple(_fidelity(item) for item in header["fidelities"])
        if len({fidelity.name for fidelity in fidelities}) < len(fidelities):
            raise TableError(f"{len(fidelities)} fidelities in the header do not have as many names")
        return cls(
            name=header["name"],
            space=header["space"],
            fidelities=fidelities,
            runs=header["runs"],
            splits=splits,
            space_settings=header["space_settings"],
            metric=header["metric"],
            columns={str(name): str(unit) for name, unit in header["columns"].items()},
            provenance=header["provenance"],
        )

    def write(self) -> dict[str, Any]:
        """Returns the facts as a JSON header."""
        return {
            "format": "archduel-table",
            "version": 1,
            "name": self.name,
            "space": self.space,
            "space_settings": dict(self.space_settings),
            "metric": self.metric,
            "fidelities": [{"name": f.name, "epochs": f.epochs, "images": f.images} for f in self.fidelities],
            "runs": self.runs,
            "splits": list(self.splits),
            "columns": dict(self.columns),
            "provenance": dict(self.provenance),
        }


_KINDS: dict[str, type] = {
    "name": str,
    "space": str,
    "space_settings": dict,
    "metric": str,
    "fidelities": list,
    "runs": int,
    "splits": list,
    "columns": dict,
    "provenance": dict,
}


def _fidelity(item: Any) -> Fidelity:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise TableError(f"fidelity {item!r:.200} in the header has no name")
    epochs, images = item.get("epochs", 0), item.get("images", 0)
    if not all(isinstance(n, (int, float)) and math.isfinite(n) and n >= 0 for n in (epochs, images)):
        raise TableError(f"fidelity {item!r:.200} in the header: epochs and images must be numbers from 0")
    return Fidelity(item["name"], float(epochs), int(images))


def check_arrays(facts: TableHeader, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises TableError unless ``arrays`` are exactly those that the header speaks of, with the right shapes."""
    choices = arrays.get("choices")
    if choices is None or choices.ndim != 2 or choices.dtype.str != "|u1" or not choices.size:
        raise TableError("the table has no architectures")
    n = len(choices)
    expected: dict[str, tuple[str, tuple[int, ...]]] = {"choices": ("|u1", choices.shape)}
    for split in facts.splits:
        expected[f"value/{split}"] = ("<f4", (len(facts.fidelities), facts.runs, n))
    for column in facts.columns:
        expected[f"column/{column}"] = ("<f8", (n,))
    if "fingerprints" in arrays:
        expected["fingerprints"] = ("|u1", (n, 16))
    for index in ("index", "fingerprint_index")[: 1 + ("fingerprints" in arrays)]:
        length = arrays[index].size if index in arrays else 0
        if length <= n or length & (length - 1):
            raise TableError(f"the {index} has {length} slots for {n} rows, expected a larger power of two")
        expected[index] = ("<u4", (length,))
    got = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    if got != expected or not facts.fidelities or facts.runs < 1:
        odd = sorted(name for name in {*got, *expected} if got.get(name) != expected.get(name))
        raise TableError(f"header and arrays disagree in {', '.join(odd) or 'fidelities or runs'}"[:300])
