"""The append-only record of a run: one JSON object a line. A line cut short by a kill is dropped when reading."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from archduel.core.arch import Arch, parse
from archduel.core.roles import Cost, Estimate, Query, State
from archduel.errors import RunError, StateError
from archduel.version import __version__

__all__ = ["Journal", "Records", "environment", "estimate_record", "load_state", "lock_folder", "read_journal", "read_toml", "record_estimate", "record_query", "save_state", "write_atomic"]

# -- One process a folder: a second one is refused while the first holds the lock ---------------------------------------


def lock_folder(folder: Path) -> IO[str]:
    """Returns the held lock of ``folder``; the system releases it when the process ends, however it ends.

    Raises:
        RunError: if another process holds it; says which.
    """
    import fcntl

    file = open(folder / ".lock", "a+")  # noqa: SIM115 - open as long as the folder is used
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise RunError(f"{folder} is in use by process {holder}; wait for it or stop it") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


# -- States on disk: tensors and JSON in one safetensors file, written atomically; nothing is ever unpickled ------------


def write_atomic(path: Path, data: bytes) -> None:
    """Writes ``data`` to ``path`` so that a reader, or a killed writer, sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _pack(value: Any, tensors: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Returns ``value`` as JSON, its arrays moved to ``tensors``."""
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
