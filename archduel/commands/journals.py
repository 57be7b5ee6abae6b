"""Jobs as they lie on disk: what kind, where the journal is, what was asked, who works on it. Nothing of them is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archduel.core.disk import is_alive, lock, read_json, read_toml
from archduel.core.job import JOURNAL, PROXY, RESULT, RUN, STUDY, TRAINING, read_result
from archduel.core.storage import Tail
from archduel.errors import RunError

__all__ = ["FOLDERS", "Place", "going_on", "outcome", "place_of", "settings_of", "winner_facts"]

FOLDERS = {RUN.file: "search", TRAINING.file: "training", STUDY.file: "study", PROXY.file: "proxy job"}
"""File that a folder is known by -> what it is."""
TRIALS = ".trials.jsonl"


@dataclass(frozen=True)
class Place:
    """A job on disk.

    Attributes:
        path: its folder, or the file of a job that is a single journal.
        kind: search, training, study, proxy job, comparison or table.
        journal: what it writes while it works.
        file: of its settings, None where the journal holds them.
    """

    path: Path
    kind: str
    journal: Path
    file: Path | None = None

    @property
    def name(self) -> str:
        """What people call it: the folder's name, or the file's without endings."""
        return self.path.resolve().name if self.file is not None else self.path.name.split(".")[0]

    @property
    def lock(self) -> Path:
        """The file that who works on it has locked."""
        return self.path / ".lock" if self.file is not None else self.path.with_name(f".{self.path.name}.lock")

    @property
    def finished(self) -> bool:
        """Whether it wrote what it works for; of a comparison nobody knows, since more can be asked for."""
        if self.file is None:
            return self.kind == "table" and self.path.with_suffix(".table").is_file()
        return (self.path / (RESULT if self.kind != "training" else "model.json")).is_file()

    def holder(self) -> str | None:
        """Returns the process that works on it, None where nobody does."""
        if not self.lock.is_file():
            return None
        holder = self.lock.read_text(errors="replace").strip()  # before the lock is tried, which would write our own number
        try:
            lock(self.lock, self.path).release()
        except RunError:
            return holder or "unknown"
        except OSError:  # a folder that we may only read
            return holder if holder.isdecimal() and is_alive(int(holder)) else None
        return None


def place_of(path: Path) -> Place:
    """Returns the job at ``path``: a folder, a journal, or the file that a comparison or a table is written to.

    Raises:
        RunError: if there is none.
    """
    if path.is_dir():
        name = next((name for name in FOLDERS if (path / name).is_file()), None)
        if name is None:
            raise RunError(f"{path} holds no job (no {', '.join(FOLDERS)}); `archduel ls` lists searches and trainings")
        return Place(path, FOLDERS[name], path / JOURNAL, path / name)
    for file in (path, path.with_suffix(TRIALS), path.with_suffix(".jsonl")):
        if file.name.endswith(".jsonl") and file.is_file():
            return place_of(path.parent) if file.name == JOURNAL else Place(file, "comparison" if file.name.endswith(TRIALS) else "table", file)
    raise RunError(f"{path} is no job: expected the folder of a search, a training or a study, or the --out file of a comparison")


def settings_of(place: Place, records: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Returns what was asked of a job, as its file has it; of a single journal the first of its records.

    Raises:
        DamagedError: if the file cannot be read.
    """
    if place.file is not None:
        return read_toml(place.file) if place.file.suffix == ".toml" else read_json(place.file)
    if records is None:
        tail = Tail(place.path)
        tail.read()
        records = tail.records
    return dict(next((record["settings"] for record in records if record.get("event") == "settings"), {}))


def winner_facts(result: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns what came out of a search, in few words; empty where there is no such result."""
    winner = (result or {}).get("networks", {}).get("search", {})
    known = {key: winner[key] for key in ("arch", "text", "params", "macs", "latency_ms") if key in winner}
    scores, data = winner.get("test", {}).get("accuracy"), (result or {}).get("data", {})
    read = {"test_images": data.get("splits", {}).get("test"), "test_of": data.get("facts", {}).get("test_of")}
    return {**known, **({"test_accuracy": sum(scores) / len(scores)} if scores else {}), **{key: n for key, n in read.items() if n is not None}}


def going_on(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the record of the ``--time +30m`` that a search is in the middle of, None where it is in none."""
    last = next((record for record in reversed(records) if record.get("event") == "more"), None)
    over = last is None or any(r.get("event") == "more ends" and r.get("number") == last["number"] for r in records)
    return None if over or last is None else dict(last)


def outcome(place: Place) -> dict[str, Any]:
    """Returns what a finished job came to, empty for others: of a search the facts of its network, else ``result.json``.

    Raises:
        DamagedError: if it cannot be read.
    """
    result = read_result(place.path) if place.file is not None and place.finished else None
    return winner_facts(result) if place.kind == "search" else dict(result or {})
