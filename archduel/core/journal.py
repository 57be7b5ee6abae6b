"""The append-only record of a run: one JSON object a line. A line cut short by a kill is dropped when reading."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from archduel.core.arch import Arch, parse
from archduel.core.protocols import Cost, Estimate, Query
from archduel.errors import RunError

__all__ = ["Journal", "Records", "estimate_record", "read_journal", "record_estimate", "record_query"]


class Records(Protocol):
    """What a search needs of a journal."""

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, oldest first."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record; it is on disk when this returns."""


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Returns the whole records of a journal, also while another process writes it; a torn last line is left out.

    Raises:
        RunError: for a damaged line.
    """
    data = path.read_bytes() if path.exists() else b""
    records = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise RunError(f"{path} line {number} is not JSON ({error}); the run cannot be continued") from error
    return records


class Journal:
    """Appends records to a file; ``fsync`` makes each survive a power cut."""

    def __init__(self, path: Path, *, fsync: bool = True) -> None:
        self.path = path
        self.fsync = fsync
        path.parent.mkdir(parents=True, exist_ok=True)
        self._records = read_journal(path)
        whole = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
        if path.exists() and path.stat().st_size > whole:
            with open(path, "r+b") as file:
                file.truncate(whole)
        self._file = open(path, "ab")  # noqa: SIM115 - open as long as the journal

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, oldest first."""
        return self._records

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record; it is on disk when this returns."""
        self._records.append(dict(record))
        self._file.write(json.dumps(record, allow_nan=True).encode() + b"\n")
        self._file.flush()
        if self.fsync:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def estimate_record(ordinal: int, query: Query, estimate: Estimate) -> dict[str, Any]:
    """Returns the journal record of an evaluation."""
    return {
        "event": "estimate",
        "ordinal": ordinal,
        "arch": str(query.arch),
        "fidelity": query.fidelity,
        "group": query.group,
        "score": None if estimate.failed else estimate.score,
        "seconds": estimate.cost.seconds,
        "images": estimate.cost.images,
        "values": dict(estimate.values),
        "reason": estimate.reason,
    }


def record_query(record: Mapping[str, Any]) -> Query:
    """Returns the query of an ``estimate`` record."""
    arch: Arch = parse(record["arch"])
    return Query(arch, record["fidelity"], record["group"])


def record_estimate(record: Mapping[str, Any]) -> Estimate:
    """Returns the estimate of an ``estimate`` record."""
    score = math.nan if record["score"] is None else float(record["score"])
    return Estimate(score, Cost(record["seconds"], record["images"]), record["values"], record["reason"])
