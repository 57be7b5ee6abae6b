"""A run is a folder: run.toml, journal.jsonl, checkpoints, result.json. The same command continues it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archduel.commands.search.settings import Settings, read_settings
from archduel.core.storage import Journal, environment, lock_folder, read_journal, write_atomic
from archduel.errors import RunError

__all__ = ["RunFolder", "Stage"]


def _differences(old: Settings, new: Settings) -> list[str]:
    before, now = old.model_dump(), new.model_dump()
    return [f"  {key}: the run has {before[key]!r}, the command says {now[key]!r}" for key in now if before[key] != now[key]]


class Stage:
    """The part of a run's journal that one stage wrote; what :func:`archduel.core.search` reads and appends to."""

    def __init__(self, folder: RunFolder, name: str) -> None:
        self.folder = folder
        self.name = name

    @property
    def records(self) -> list[dict[str, Any]]:
        """The stage's records, oldest first."""
        return [record for record in self.folder.journal.records if record.get("stage") == self.name]

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record with the stage's name and the run's clock."""
        self.folder.journal.append({**record, "stage": self.name, "clock": round(self.folder.clock, 3)})


class RunFolder:
    """Opens a run folder for one process at a time and keeps its clock across interruptions."""

    def __init__(self, path: Path, settings: Settings, command: str, *, fsync: bool = True) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; --out wants a folder")
        if path.is_dir() and any(path.iterdir()) and not ((path / "run.toml").exists() or (path / ".lock").exists()):
            raise RunError(f"{path} is not empty and holds no run; give another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}; give another --out") from error
        try:
            self._check(settings, command)
            self.journal = Journal(path / "journal.jsonl", fsync=fsync)
        except BaseException:
            self._lock.close()
            raise
        records = self.journal.records
        self._before = float(records[-1].get("clock", 0.0)) if records else 0.0
        self._began = time.monotonic()

    def _check(self, settings: Settings, command: str) -> None:
        path = self.path / "run.toml"
        if path.exists():
            differences = _differences(read_settings(self.path), settings)
            if differences and self._evaluated():
                raise RunError(
                    f"{self.path} holds another run:\n" + "\n".join(differences) + "\ngive another --out, or the same settings"
                )
            if not differences:
                return
            (self.path / "journal.jsonl").unlink(missing_ok=True)  # nothing was trained yet: these settings take its place
        import tomli_w

        run = {key: value for key, value in settings.model_dump().items() if value is not None}
        text = tomli_w.dumps({"command": command, "run": run, **environment()})
        write_atomic(path, text.encode())

    def _evaluated(self) -> bool:
        return any(record["event"] == "estimate" for record in read_journal(self.path / "journal.jsonl"))

    @property
    def clock(self) -> float:
        """Seconds this run has been worked on, interruptions left out."""
        return self._before + time.monotonic() - self._began

    def note(self, event: str, **values: Any) -> dict[str, Any]:
        """Appends a record with the clock and returns it."""
        record = {"event": event, "clock": round(self.clock, 3), **values}
        self.journal.append(record)
        return record

    def noted(self, event: str, **match: Any) -> dict[str, Any] | None:
        """Returns the last record of ``event`` with these values, or None."""
        for record in reversed(self.journal.records):
            if record["event"] == event and all(record.get(key) == value for key, value in match.items()):
                return record
        return None

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file atomically."""
        write_atomic(self.path / name, json.dumps(value, indent=1, allow_nan=True).encode())

    def close(self) -> None:
        """Closes the journal and lets other processes in."""
        self.journal.close()
        self._lock.close()
