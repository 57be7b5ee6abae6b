"""The folder of a training: ``train.toml`` (what was asked), ``journal.jsonl`` (a line an epoch), ``result.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from archduel.core.storage import environment, lock_folder, read_journal, read_toml, write_atomic
from archduel.errors import RunError

__all__ = ["CHECKPOINT", "JOURNAL", "TrainFolder", "read_result"]

CHECKPOINT = "checkpoint.safetensors"
SPEC, JOURNAL, RESULT = "train.toml", "journal.jsonl", "result.json"
COMPARED = ("architecture", "recipe", "data", "scale", "start")
"""The sections that a continued training must have in common with the first call; the hardware may differ."""


def read_result(folder: str | Path) -> dict[str, Any] | None:
    """Returns the content of ``result.json``, or None while there is none."""
    path = Path(folder) / RESULT
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _cleaned(value: Any) -> Any:
    """Returns ``value`` as TOML can hold it: no None, lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): _cleaned(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    return value


class TrainFolder:
    """Opens the folder for one training at a time; the same training continues, another one is refused.

    Args:
        path: made if it is not there.
        spec: sections ``architecture``, ``recipe``, ``data``, ``scale`` and ``start``, and anything else for the record.
        command: the line that was typed.

    Raises:
        RunError: for a folder that is in use, belongs to something else, or holds another training.
    """

    def __init__(self, path: Path, spec: Mapping[str, Any], command: str) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; --out wants a folder")
        if path.is_dir() and any(path.iterdir()) and not ((path / SPEC).exists() or (path / ".lock").exists()):
            raise RunError(f"{path} is not empty and holds no training; give another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}; give another --out") from error
        try:
            self._check(_cleaned(spec), command)
        except BaseException:
            self._lock.close()
            raise
        self._records = read_journal(path / JOURNAL)

    def _check(self, spec: dict[str, Any], command: str) -> None:
        path = self.path / SPEC
        if path.exists():
            before = read_toml(path)
            if differences := list(_differences(before, spec)):
                raise RunError(
                    f"{self.path} holds another training:\n" + "\n".join(differences) + "\ngive another --out, or the same settings"
                )
            return
        write_atomic(path, tomli_w.dumps({"command": command, **spec, **_cleaned(environment())}).encode())

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of ``result.json``, None until the training is finished."""
        return read_result(self.path)

    @property
    def checkpoint(self) -> Path:
        """Where the training continues from."""
        return self.path / CHECKPOINT

    def note(self, numbers: Mapping[str, Any]) -> None:
        """Writes the line of an epoch; those of later epochs, which a killed training left, go."""
        before = len(self._records)
        self._records = [line for line in self._records if line["epoch"] < numbers["epoch"]]
        self._records.append(dict(numbers))
        if len(self._records) == before + 1:
            with open(self.path / JOURNAL, "ab") as file:
                file.write(json.dumps(self._records[-1]).encode() + b"\n")
        else:
            text = "".join(json.dumps(line) + "\n" for line in self._records)
            write_atomic(self.path / JOURNAL, text.encode())

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes ``result.json``; the checkpoint, needed no more, goes."""
        write_atomic(self.path / RESULT, json.dumps(result, indent=1).encode())
        self.checkpoint.unlink(missing_ok=True)

    def close(self) -> None:
        """Lets other processes in."""
        self._lock.close()


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Any:
    for section in COMPARED:
        old, new = before.get(section, {}), now.get(section, {})
        for key in [*new, *(key for key in old if key not in new)]:
            if old.get(key) != new.get(key) and not (key == "text" and old.get("arch") != new.get("arch")):
                yield f"  {section}.{key}: the training has {_short(old.get(key))}, the command says {_short(new.get(key))}"


def _short(value: Any, most: int = 80) -> str:
    """Returns a value as it is said; of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 4]} ..."
