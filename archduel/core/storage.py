"""The append-only record of a run: one JSON object a line. A line cut short by a kill is dropped when reading."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from archduel.core.arch import Arch, parse
from archduel.core.disk import lacking, lock, write_atomic
from archduel.core.roles import Cost, Estimate, Query, State
from archduel.errors import DamagedError, RunError, StateError, in_one_line
from archduel.version import __version__

__all__ = [
    "Journal", "Records", "Tail", "append_shared", "environment", "estimate_record", "if_whole", "load_state", "query_record", "read_journal",
    "record_estimate", "record_query", "save_state", "write_records",
]  # fmt: skip

# -- States on disk: tensors and JSON in one safetensors file, written atomically; nothing is ever unpickled ------------


def _pack(value: Any, tensors: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Returns ``value`` as JSON, its arrays moved to ``tensors``."""
    # every container gets a tag, because JSON has no tuples and no keys but texts, and a state must come back as it went
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {"d": {key: _pack(item, tensors) for key, item in value.items()}}
        return {"m": [[_pack(key, tensors), _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"t": [_pack(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_pack(item, tensors) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        tensors[name := f"{len(tensors)}"] = np.ascontiguousarray(value).reshape(value.shape)
        return {"n": name}
    # by its module's name: a strategy without tensors saves its state without importing PyTorch
    if type(value).__module__.startswith("torch") and hasattr(value, "detach"):
        tensors[name := f"{len(tensors)}"] = np.ascontiguousarray(value.detach().cpu().numpy()).reshape(
            tuple(value.shape)
        )
        return {"p": name}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise StateError(f"a state may hold JSON values, arrays and tensors, got {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, body),) = value.items()
    if tag == "d":
        return {key: _unpack(item, tensors) for key, item in body.items()}
    if tag == "m":
        return {_unpack(key, tensors): _unpack(item, tensors) for key, item in body}
    if tag == "t":
        return tuple(_unpack(item, tensors) for item in body)
    if tag == "n":
        return tensors[body]
    import torch

    return torch.from_numpy(tensors[body])


def _checksum(text: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Returns what tells a changed file: safetensors knows only whether the length is right."""
    total = zlib.crc32(text.encode())
    for name in sorted(tensors):
        total = zlib.crc32(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"


def save_state(path: Path, state: State) -> None:
    """Writes ``state`` atomically.

    Raises:
        OSError: if it cannot be written.
        StateError: if it holds anything but JSON values, NumPy arrays and torch tensors.
    """
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray[Any, Any]] = {}
    text = json.dumps(_pack(state, tensors))
    write_atomic(path, save(tensors, metadata={"state": text, "crc32": _checksum(text, tensors)}))


def load_state(path: Path) -> State:
    """Returns the state in ``path``.

    Raises:
        DamagedError: if the file is not such a state, or not the one that was written.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # states of older versions have no checksum
        if facts.get("crc32", checked := _checksum(facts["state"], tensors)) != checked:
            raise ValueError("its bytes are not those that were written")
        return dict(_unpack(json.loads(facts["state"]), tensors))
    except MemoryError:
        raise
    # safetensors has errors of its own, and what stands in a changed file may be anything
    except Exception as error:
        raise DamagedError(f"{path} is not a saved state: {in_one_line(error)}; remove it, and what it is of is made again") from error


T = TypeVar("T")


def if_whole(path: Path, read: Callable[[Path], T], say: Callable[[str], None] = lambda text: None) -> T | None:
    """Returns ``read(path)``, or None where there is no such file or it is damaged; a damaged one is put aside, so that it is made again.

    Args:
        path: of a file that can be made again, such as a checkpoint.
        read: raises DamagedError for a file that is not as it was written.
        say: is told of a damaged file.
    """
    if not path.exists():
        return None
    try:
        return read(path)
    except DamagedError as error:
        aside = path.with_name(f"{path.name}.damaged")
        with contextlib.suppress(FileNotFoundError):  # another process of the same training was first
            os.replace(path, aside)
        say(f"warning: {error.args[0].partition(';')[0]}; it lies as {aside.name} now, and what it is of is made again")
        return None


class Records(Protocol):
    """What a search needs of a journal."""

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, oldest first."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record; it is on disk when this returns."""


NUMBER = (int, float)
# An evaluation is read back into values; the others are read by whoever wrote them.
ESTIMATE: dict[str, type | tuple[type, ...]] = {
    "ordinal": int, "arch": str, "fidelity": (str, type(None)), "group": (str, int, type(None)), "score": (float, type(None)), "seconds": NUMBER,
    "images": NUMBER, "values": dict, "reason": str,
}  # fmt: skip
CHECKED = re.compile(rb', "crc32": "([0-9a-f]{8})"\}$')


def write_records(path: Path, records: Sequence[Mapping[str, Any]], *, durable: bool = True) -> None:
    """Writes a file of records, as :func:`read_journal` reads them, whole or not at all.

    Args:
        path: of the file.
        records: what it holds.
        durable: as for :func:`archduel.core.disk.write_atomic`.

    Raises:
        OSError: if it cannot be written.
        TypeError: for a value that is no JSON.
    """
    write_atomic(path, b"".join(map(_line, records)), durable=durable)


def _line(record: Mapping[str, Any]) -> bytes:
    """Returns the line of a record, with a checksum: a flipped bit may leave good JSON, and another score."""
    text = json.dumps(record, allow_nan=True).encode()
    return text[:-1] + (b', ' if len(record) else b'') + f'"crc32": "{zlib.crc32(text):08x}"}}'.encode() + b"\n"


def _record(line: bytes) -> dict[str, Any]:
    """Returns the record of a line.

    Raises:
        ValueError: saying what is wrong with it.
    """
    if match := CHECKED.search(line):
        line = line[: match.start()] + b"}"
        if zlib.crc32(line) != int(match[1], 16):
            raise ValueError("it is not as it was written")
    try:
        record = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    needed: dict[str, type | tuple[type, ...]] = {"event": str} if isinstance(record, dict) and "event" in record else {}
    if isinstance(record, dict) and "clock" in record:
        needed["clock"] = NUMBER
    if needed.get("event") and record["event"] == "estimate":
        needed |= ESTIMATE
    if reason := lacking(record, needed):
        raise ValueError(reason)
    return dict(record)


def read_journal(path: Path, *, skip_damaged: bool = False) -> list[dict[str, Any]]:
    """Returns the whole records of a journal, also while another process writes it; a torn last line is left out.

    Args:
        path: of the journal; none there = no records.
        skip_damaged: leave out damaged lines, where each record can be made again on its own.

    Raises:
        RunError: for a damaged line, saying what can be kept.
    """
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    records = []
    # a line is a record once its line break is there: what follows the last one is being written, or was cut off
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(_record(line.rstrip(b"\r")))
        except ValueError as error:
            if not skip_damaged:
                raise RunError(
                    f"{path} line {number} is damaged ({error}), so the run cannot be continued from there; the lines before it are whole: "
                    f"keep these alone (`head -n {number - 1}`), and the same command does the rest again"
                ) from error
    return records


SEAM = 64
"""Bytes before the place that was read up to: other ones there mean that the journal was made anew."""


class Tail:
    """Follows a journal that another process may be writing: each record is read once.

    Args:
        path: of the journal; it need not be there yet.

    Attributes:
        records: the whole records so far, oldest first; a torn last line is read once it is whole.
        damaged: lines that are left out because they are no records.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin()

    def _begin(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.damaged, self._at, self._seam = 0, 0, b""

    def read(self) -> bool:
        """Reads what was added, or all of a journal that was made anew; returns whether there was anything.

        Raises:
            RunError: if the file cannot be read.
        """
        before = (len(self.records), self.damaged, self._at)
        try:
            with open(self.path, "rb") as file:
                file.seek(self._at - len(self._seam))
                if file.read(len(self._seam)) != self._seam:
                    self._begin()
                    file.seek(0)
                data = file.read()
        except FileNotFoundError:
            self._begin()
            data = b""
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror}") from error
        whole = data[: data.rfind(b"\n") + 1]
        for line in filter(bytes.strip, whole.split(b"\n")):
            try:
                self.records.append(_record(line.rstrip(b"\r")))
            except ValueError:
                self.damaged += 1
        self._at, self._seam = self._at + len(whole), (self._seam + whole)[-SEAM:]
        return before != (len(self.records), self.damaged, self._at)


TAIL = 1 << 16
"""Bytes in which the last line break of a journal is looked for at a time."""


def _whole(path: Path) -> int:
    """Returns the bytes of a file up to its last line break, for which its end alone is read."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - TAIL)
            file.seek(start)
            if (at := file.read(end - start).rfind(b"\n")) >= 0:
                return start + at + 1
            end = start
    return 0


class Journal:
    """Appends records to a file, which a kill in the middle of a line does not spoil.

    Args:
        path: of the file; it and its folder are made.
        fsync: let each record survive a power cut.
        skip_damaged: as for :func:`read_journal`.
        records: those of the file, where the caller has read them already; 10^5 of them take a second.
    """

    def __init__(
        self, path: Path, *, fsync: bool = True, skip_damaged: bool = False, records: list[dict[str, Any]] | None = None
    ) -> None:
        self.path, self.fsync = path, fsync
        path.parent.mkdir(parents=True, exist_ok=True)
        self._records = read_journal(path, skip_damaged=skip_damaged) if records is None else records
        self._open()

    def _open(self) -> None:
        """Opens the file without a buffer, so that a line which a full disk refused is not written again on closing."""
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - open as long as the journal
        self._whole = _whole(self.path)
        # cut off by the first append, not here: whoever only reads changes nothing
        self._torn = self.path.stat().st_size > self._whole

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, oldest first."""
        return self._records

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record; it is on disk when this returns.

        Raises:
            RunError: if it cannot be written; the journal is then as it was.
        """
        line = _line(record)
        try:
            if self._torn:
                self._file.truncate(self._whole)
            # torn until all of it is there: a write that fails half-way leaves the rest for the next append to cut off
            self._torn, rest = True, line
            while rest:
                rest = rest[self._file.write(rest) :]
            if self.fsync:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise RunError(f"{self.path} cannot be written: {error.strerror}; the same command continues once that is mended") from error
        self._torn, self._whole = False, self._whole + len(line)
        self._records.append(dict(record))

    def drop(self, unwanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Takes out the records for which ``unwanted`` is true."""
        left = [record for record in self._records if not unwanted(record)]
        if len(left) < len(self._records):
            self._file.close()
            # the whole file anew, because a kill while lines are taken out in place would leave neither the old nor the new one
            write_atomic(self.path, b"".join(map(_line, left)))
            self._records = left
            self._open()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def append_shared(path: Path, record: Mapping[str, Any]) -> None:
    """Appends a record to a file to which several processes add, one after the other.

    Raises:
        RunError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = lock(path.with_name(f".{path.name}.lock"), path, wait=True)
    try:
        # without what the file holds already: read before each record of many, it would be read a square number of times
        journal = Journal(path, fsync=False, records=[])
        try:
            journal.append(record)
        finally:
            journal.close()
    finally:
        held.release()


def estimate_record(ordinal: int, query: Query, estimate: Estimate) -> dict[str, Any]:
    """Returns the journal record of an evaluation."""
    return {
        "event": "estimate",
        "ordinal": ordinal,
        **query_record(query),
        # nan is no JSON, and other programs read these lines
        "score": None if estimate.failed else estimate.score,
        "seconds": estimate.cost.seconds,
        "images": estimate.cost.images,
        "values": dict(estimate.values),
        "reason": estimate.reason,
    }


def query_record(query: Query) -> dict[str, Any]:
    """Returns a query as the record of its evaluation has it, the inverse of :func:`record_query`."""
    return {"arch": str(query.arch), "fidelity": query.fidelity, "group": query.group}


def record_query(record: Mapping[str, Any]) -> Query:
    """Returns the query of an ``estimate`` record."""
    arch: Arch = parse(record["arch"])
    return Query(arch, record["fidelity"], record["group"])


def record_estimate(record: Mapping[str, Any]) -> Estimate:
    """Returns the estimate of an ``estimate`` record."""
    score = math.nan if record["score"] is None else float(record["score"])
    return Estimate(score, Cost(record["seconds"], record["images"]), record["values"], record["reason"])


def environment() -> dict[str, Any]:
    """Returns versions and hardware, for the record."""
    import numpy
    import torch

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "versions": {
            "archduel": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        },
        "hardware": {"cpu": cpu, "cores": os.cpu_count() or 1, "gpu": gpu, "system": platform.platform()},
    }
