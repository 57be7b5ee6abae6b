"""The append-only record of a run: one JSON object a line. A line cut short by a kill is dropped when reading."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from archduel.core.arch import Arch, parse
from archduel.core.roles import Cost, Estimate, Query, State
from archduel.errors import RunError, StateError
from archduel.version import __version__

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["Journal", "Records", "append_shared", "environment", "estimate_record", "load_state", "lock", "read_journal", "read_toml", "record_estimate", "record_query", "save_state", "write_atomic"]

# -- One process at a time: a second one is refused while the first holds the lock -------------------------------------


def lock(path: Path, what: Path) -> BaseFileLock:
    """Returns the held lock in the file ``path``; the system releases it when the process ends, however it ends.

    Args:
        path: of the lock, which holds the number of the process and stays when the lock is released.
        what: what is locked, for the message.

    Raises:
        OSError: if the file cannot be written.
        RunError: if another process holds it; says which.
    """
    from filelock import FileLock, Timeout

    holder = ""
    # before the attempt, because some versions of filelock empty the file; there may be none yet, or Windows lets nobody read it
    with contextlib.suppress(OSError):
        holder = path.read_text().strip()
    # not of a thread: a job may be closed by another one than opened it
    lock_file = FileLock(path, thread_local=False)
    try:
        lock_file.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"{what} is in use by process {holder or 'unknown'}; wait for it or stop it") from error
    # who holds it is for the message alone
    with contextlib.suppress(OSError):
        path.write_text(str(os.getpid()))
    return lock_file


# -- States on disk: tensors and JSON in one safetensors file, written atomically; nothing is ever unpickled ------------


def write_atomic(path: Path, data: bytes) -> None:
    """Writes ``data`` to ``path`` so that a reader, or a killed writer, sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder, since a rename is atomic only within a file system; by process, so that two writers do not share it
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        # without it, a power cut may keep the rename and lose the content
        os.fsync(file.fileno())
    os.replace(temporary, path)


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


def save_state(path: Path, state: State) -> None:
    """Writes ``state`` atomically.

    Raises:
        StateError: if it holds anything but JSON values, NumPy arrays and torch tensors.
    """
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray[Any, Any]] = {}
    text = json.dumps(_pack(state, tensors))
    write_atomic(path, save(tensors, metadata={"state": text}))


def load_state(path: Path) -> State:
    """Returns the state in ``path``.

    Raises:
        StateError: if the file is not such a state.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {})["state"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, OSError) as error:
        raise StateError(f"{path} is not a saved state: {error}") from error
    return _unpack(json.loads(text), tensors)  # type: ignore[no-any-return]


class Records(Protocol):
    """What a search needs of a journal."""

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, oldest first."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record; it is on disk when this returns."""


def read_journal(path: Path, *, skip_damaged: bool = False) -> list[dict[str, Any]]:
    """Returns the whole records of a journal, also while another process writes it; a torn last line is left out.

    Args:
        path: of the journal; none there = no records.
        skip_damaged: leave out damaged lines, where each record can be made again on its own.

    Raises:
        RunError: for a damaged line.
    """
    data = path.read_bytes() if path.exists() else b""
    records = []
    # a line is a record once its line break is there: what follows the last one is being written, or was cut off
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"a record is an object, got {record!r}")
            records.append(record)
        except ValueError as error:
            if not skip_damaged:
                raise RunError(f"{path} line {number} is not JSON ({error}); the run cannot be continued") from error
    return records


class Journal:
    """Appends records to a file, which a kill in the middle of a line does not spoil.

    Args:
        path: of the file; it and its folder are made.
        fsync: let each record survive a power cut.
        skip_damaged: as for :func:`read_journal`.
    """

    def __init__(self, path: Path, *, fsync: bool = True, skip_damaged: bool = False) -> None:
        self.path, self.fsync = path, fsync
        path.parent.mkdir(parents=True, exist_ok=True)
        self._records = read_journal(path, skip_damaged=skip_damaged)
        self._open()

    def _open(self) -> None:
        """Opens the file without a buffer, so that a line which a full disk refused is not written again on closing."""
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - open as long as the journal
        data = self.path.read_bytes()
        self._whole = data.rfind(b"\n") + 1
        # cut off by the first append, not here: whoever only reads changes nothing
        self._torn = len(data) > self._whole

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, oldest first."""
        return self._records

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record; it is on disk when this returns.

        Raises:
            RunError: if it cannot be written; the journal is then as it was.
        """
        line = json.dumps(record, allow_nan=True).encode() + b"\n"
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
            write_atomic(self.path, b"".join(json.dumps(record).encode() + b"\n" for record in left))
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
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        journal = Journal(path, fsync=False, skip_damaged=True)
        try:
            journal.append(record)
        finally:
            journal.close()


def estimate_record(ordinal: int, query: Query, estimate: Estimate) -> dict[str, Any]:
    """Returns the journal record of an evaluation."""
    return {
        "event": "estimate",
        "ordinal": ordinal,
        "arch": str(query.arch),
        "fidelity": query.fidelity,
        "group": query.group,
        # nan is no JSON, and other programs read these lines
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


def read_toml(path: Path) -> dict[str, Any]:
    """Returns the content of a TOML file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


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
