"""States on disk: tensors and JSON in one safetensors file, written atomically; nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from archduel.core.protocols import State
from archduel.errors import StateError

__all__ = ["load_state", "save_state", "write_atomic"]


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
