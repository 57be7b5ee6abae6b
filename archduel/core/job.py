"""A job is finished work on disk: what was asked, a journal, what else it wrote. The same call continues it, another is refused.

    with Job(folder, RUN, {"run": settings}, command=line) as job:
        plan = job.once("plan", make_plan)                            # decided once, then read
        for estimate in job.paid(executor.run, queries, ordinals): ...   # paid once, then read
        job.write("result.json", result)
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from archduel.core.disk import (
    HARMLESS,
    TEMPORARY,
    clear_temporaries,
    lock,
    read_json,
    read_toml,
    write_atomic,
)
from archduel.core.roles import Estimate, Query
from archduel.core.storage import (
    Journal,
    environment,
    estimate_record,
    if_whole,
    read_journal,
    record_estimate,
    record_query,
)
from archduel.errors import RunError

__all__ = ["COMPARISON", "JOURNAL", "PROXY", "RESULT", "RUN", "STUDY", "TABLE", "TRAINING", "WORK", "Job", "Layout", "Part", "differences", "foreign_names", "last_command", "read_result"]

JOURNAL, RESULT = "journal.jsonl", "result.json"


@dataclass(frozen=True)
class Layout:
    """How a kind of job is called and where its settings lie.

    Attributes:
        kind: what messages call it.
        file: of the settings, in the job's folder (``.toml`` or ``.json``); empty = the job is a single journal, beside
            what is made of it, whose first record has the settings.
        sections: of that file that a continued job must have in common with the first call; others are for the record.
        option: that names the place.
        free: dotted names of settings that a continued job may have others of: results do not depend on them, or what they mean is
            compared.
    """

    kind: str
    file: str = ""
    sections: tuple[str, ...] = ()
    option: str = "--out"
    free: tuple[str, ...] = ()


RUN = Layout(
    "run", "run.toml", ("run",),
    free=("data", "workers", "executor", "cpus_per_task", "gpus_per_task", *(f"set.executor.{name}" for name in ("beat", "lease", "limit", "patience"))),
)  # fmt: skip
"""Another spelling of the same images' place, another number of cores, other machines: the same run. Images are compared by their fingerprint."""
WORK = "work"
"""Folder of a job in which workers of other machines meet."""
TRAINING = Layout("training", "train.toml", ("architecture", "recipe", "data", "scale", "start"), free=("data.name",))
"""The hardware and the number of processes may differ."""
STUDY = Layout("study", "study.toml", ("study",), "out")
PROXY = Layout("job", "settings.json", ("settings",))
COMPARISON = Layout("comparison")
TABLE = Layout("table")
COMMAND = "command"
"""Event of a single journal that holds the line that was typed."""
PAID = ("", "estimate", "epoch", "one-shot step", "rung", "trial")
"""Records that cost something; a job without any may still get other settings. Epochs of a training have no event."""
LOGS = re.compile(r"slurm-[\w.%-]*\.(out|err)|[\w.-]+\.[oe]\d+|nohup\.out|.*\.log|\.nfs[0-9a-f]+")
"""Logs that batch systems and shells open in the folder of a job before it begins."""
# Letters of a value in a message; recipes and texts of architectures are longer, and a message of ten lines is not read.
SHORT = 80


def foreign_names(folder: Path) -> list[str]:
    """Returns what a folder holds that neither systems, tools and batch systems put into an unused one nor half-written files are, in order."""
    names = sorted(entry.name for entry in folder.iterdir())
    return [name for name in names if name not in HARMLESS and not TEMPORARY.fullmatch(name) and not LOGS.fullmatch(name)]


def last_command(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns the line that last worked on a job that is a single journal, empty where none is known."""
    return next((str(record["command"]) for record in reversed(records) if record.get("event") == COMMAND), "")


def read_result(folder: str | Path) -> dict[str, Any] | None:
    """Returns the content of ``result.json``, or None while there is none.

    Raises:
        DamagedError: if it cannot be read.
    """
    path = Path(folder) / RESULT
    return read_json(path, remedy="delete it, and the same command writes it again") if path.is_file() else None


def differences(kind: str, before: Mapping[str, Any], now: Mapping[str, Any], free: Sequence[str] = ()) -> list[str]:
    """Returns a line for each setting that differs, ``recipe.lr: the training has 0.1, the command says 0.2``; ``free`` ones may."""
    old, new = _leaves(before), _leaves(now)
    keys = [key for key in {**new, **old} if old.get(key) != new.get(key) and key not in free]
    return [f"  {key}: the {kind} has {_short(old.get(key))}, the command says {_short(new.get(key))}" for key in keys]


def _leaves(values: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """Returns the values of nested mappings under dotted names; None is as good as not there."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            leaves |= _leaves(value, f"{start}{key}.")
        elif value is not None:
            leaves[f"{start}{key}"] = value
    return leaves


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 4]} ..."


def _plain(value: Any) -> Any:
    """Returns ``value`` as TOML and JSON hold it: no None, lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


class Job:
    """Opens a job for one process at a time and keeps its clock across interruptions.

    Args:
        path: a folder, or the file of a job that is a single journal; made if it is not there.
        layout: what kind of job it is.
        settings: what decides the results, in the sections of the layout.
        command: the line that was typed, for the record.
        defaults: of settings that an older version did not write down.
        older: finds the settings in the records of a single journal that an older version wrote.
        fsync: let each record survive a power cut.
        gone: seconds of this call that passed before, such as the start of the program; a new job's clock counts them.

    Attributes:
        begun_now: whether there was no job before, or one that had paid for nothing and had other settings.

    Raises:
        RunError: for a place that is in use, cannot be written, or holds something else or other settings.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        settings: Mapping[str, Any],
        *,
        command: str = "",
        defaults: Mapping[str, Any] | None = None,
        older: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any] | None] | None = None,
        fsync: bool = True,
        gone: float = 0.0,
    ) -> None:
        self.path, self.layout, self.settings = path, layout, _plain(settings)
        self._defaults, self._older = _plain(defaults or {}), older
        try:
            self._check_place()
            (path if layout.file else path.parent).mkdir(parents=True, exist_ok=True)
            self._lock = lock(path / ".lock" if layout.file else path.with_name(f".{path.name}.lock"), path)
            try:
                self._clear()
                self.journal = self._open(command, fsync)
            # Ctrl-C included: nobody could close a job that was not made
            except BaseException:
                self._lock.release()
                raise
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}; give another {layout.option}") from error
        last = self.journal.records[-1] if self.journal.records else {}
        # the last record's clock goes on; a wall clock would count the night between two calls, and may be set back
        self._before, self.gone = float(last.get("clock", 0.0)), gone
        # what the start of a second program takes was not in the budget; counted, it would eat the rest of one that was nearly finished
        self._began = time.monotonic() - (0.0 if self.journal.records else gone)

    def _check_place(self) -> None:
        """Refuses what is no job, before anything is written to it."""
        path, layout = self.path, self.layout
        if layout.file and path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; {layout.option} wants a folder")
        if not layout.file and path.is_dir():
            raise RunError(f"{path} is a folder; give another {layout.option}")
        # what a process that was killed at once may leave is a lock, half-written settings
        if layout.file and path.is_dir() and not (path / layout.file).exists() and (foreign := foreign_names(path)):
            some = ", ".join(foreign[:3]) + (" ..." if len(foreign) > 3 else "")
            raise RunError(f"{path} is not empty and holds no {layout.kind} but {some}; give another {layout.option}")

    def _clear(self) -> None:
        """Removes what killed processes left half-written, now that no other one works here."""
        if self.layout.file:
            # where workers of other machines have joined, one of them may be writing: its number says nothing here
            shared = (self.path / WORK).exists()
            for folder in (self.path, *([] if shared else [self.path / "checkpoints"]), *(self.path / "networks").glob("*")):
                clear_temporaries(folder)
        else:
            clear_temporaries(self.path.parent, of=self.path.name)

    def _open(self, command: str, fsync: bool) -> Journal:
        """Returns the journal of a job whose settings agree; a new job's settings are written down first."""
        path, single = self.path / JOURNAL if self.layout.file else self.path, not self.layout.file
        records = read_journal(path, skip_damaged=single)
        before = self._settings_before(records)
        if before is not None:
            old, now = {**self._compared(self._defaults), **before}, self._compared(self.settings)
            paid = self._paid_for(records)
            lines = differences(self.layout.kind, old, now, self.layout.free if paid else ())
            if lines and (paid or not self._ours()):
                listed = "\n".join(lines)
                hand = "" if paid else f" ({self.layout.file} was written by hand: --config {self.path / self.layout.file} says the same as it)"
                raise RunError(f"{self.path} holds another {self.layout.kind}{hand}:\n{listed}\ngive another {self.layout.option}, or the same settings")
            # nothing was paid for yet: these settings take its place
            if lines:
                path.unlink(missing_ok=True)
                records, before = [], None
        self.begun_now = before is None
        if self.begun_now and not single:
            self._write_settings(command)
        journal = Journal(path, fsync=fsync, records=records)
        if single and not any(record.get("event") == "settings" for record in journal.records):
            journal.append({"event": "settings", "settings": self.settings})
        if single and command and command != last_command(journal.records):
            journal.append({"event": COMMAND, "command": command})  # with more to do than the one before
        return journal

    def _settings_before(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """Returns what must agree of the settings on disk, None for a new job."""
        if not self.layout.file:
            written = next((record["settings"] for record in records if record.get("event") == "settings"), None)
            older = self._older(records) if written is None and self._older else written
            return None if older is None else dict(older)
        path = self.path / self.layout.file
        if not path.exists():
            return None
        content = read_toml(path) if path.suffix == ".toml" else read_json(path)
        if not any(section in content for section in self.layout.sections):
            raise RunError(f"{path} is not a {self.layout.kind} of this version of archduel; give another {self.layout.option}")
        return self._compared(content)

    def _ours(self) -> bool:
        """Returns whether the settings on disk were written by a job: by hand nobody writes versions down."""
        path = self.path / self.layout.file
        if not self.layout.file or path.suffix != ".toml":
            return True
        content = read_toml(path)
        return "versions" in content or "hardware" in content

    def _compared(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the sections that must agree; of a single one its settings."""
        sections = {name: content.get(name, {}) for name in self.layout.sections}
        return dict(content) if not sections else sections.popitem()[1] if len(sections) == 1 else sections

    def _paid_for(self, records: Sequence[Mapping[str, Any]]) -> bool:
        """Returns whether there is anything that other settings would lose: a paid record, or the state of a training."""
        states = self.path.rglob("*.safetensors") if self.layout.file else iter(())
        return any(record.get("event", "") in PAID for record in records) or next(states, None) is not None

    @property
    def has_paid(self) -> bool:
        """Whether anything was trained or measured here that another job would have to pay for again."""
        return self._paid_for(self.journal.records)

    def _write_settings(self, command: str) -> None:
        path = self.path / self.layout.file
        content = {"command": command, **self.settings, **_plain(environment())}
        text = tomli_w.dumps(content) if path.suffix == ".toml" else json.dumps(content, indent=1)
        write_atomic(path, text.encode())

    @property
    def clock(self) -> float:
        """Seconds this job has been worked on, interruptions left out."""
        return self._before + time.monotonic() - self._began

    @property
    def called(self) -> float:
        """What the clock would have said when the program of this call was started."""
        return self._before - (self.gone if self._before else 0.0)

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of ``result.json``, None until the job is finished; a damaged one is put aside, since the journal makes it again."""
        return if_whole(self.path / RESULT, lambda path: read_result(path.parent))

    def note(self, event: str, **values: Any) -> dict[str, Any]:
        """Adds a record with the clock; it is on disk when this returns it."""
        record = {"event": event, "clock": round(self.clock, 3), **values}
        self.journal.append(record)
        return record

    def noted(self, event: str, **match: Any) -> dict[str, Any] | None:
        """Returns the last record of ``event`` with these values, or None."""
        # the last one counts: a record that replaces another is written behind it, since nothing is taken back
        for record in reversed(self.journal.records):
            if record.get("event") == event and all(record.get(key) == value for key, value in match.items()):
                return record
        return None

    def once(self, event: str, make: Callable[[], Mapping[str, Any]], **match: Any) -> dict[str, Any]:
        """Returns what was noted under ``event``; the first time ``make()`` is noted."""
        return self.noted(event, **match) or self.note(event, **match, **make())

    def part(self, stage: str) -> Part:
        """Returns the part of the journal that one stage writes: what :func:`archduel.core.search` reads and appends to."""
        return Part(self, stage)

    def paid(
        self,
        run: Callable[[Sequence[Query], Sequence[int]], Iterator[Estimate]],
        queries: Sequence[Query],
        ordinals: Sequence[int],
        *,
        stage: str = "",
        values: Sequence[Mapping[str, Any]] = (),
        retry: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> Generator[Estimate, None, None]:
        """Yields one estimate a query; those in the journal are not run again, new ones are there before they are yielded.

        Args:
            run: such as an executor's.
            queries: what to judge.
            ordinals: one a query; they decide the seeds.
            stage: whose records they are.
            values: more for the record of each query.
            retry: whether to run what a record is of again, such as a training that failed or whose weights are gone.
        """
        part = self.part(stage)
        # by ordinal too, because it decides the seed: one query asked twice is two evaluations
        known = {
            (record["ordinal"], record_query(record)): record_estimate(record)
            for record in part.records
            if record.get("event") == "estimate" and not (retry and retry(record))
        }
        wanted = list(zip(ordinals, queries))
        new = list(dict.fromkeys(key for key in wanted if key not in known))
        answers = run([query for _, query in new], [ordinal for ordinal, _ in new]) if new else iter(())
        try:
            for i, key in enumerate(wanted):
                if key not in known:
                    known[key] = next(answers)
                    part.append({**estimate_record(*key, known[key]), **(values[i] if values else {})})
                yield known[key]
        finally:
            # ends the workers of a generator that is not read to its end
            getattr(answers, "close", lambda: None)()

    def write(self, name: str, value: Any) -> Path:
        """Writes a JSON file into the job's folder, whole or not at all, and returns its path."""
        write_atomic(self.path / name, json.dumps(value, indent=1, allow_nan=True).encode() + b"\n")
        return self.path / name

    def close(self) -> None:
        """Closes the journal and lets other processes in."""
        self.journal.close()
        self._lock.release()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Part:
    """The records of one stage; those without a stage make up the part called by the empty text."""

    def __init__(self, job: Job, stage: str) -> None:
        self.job, self.stage = job, stage

    @property
    def records(self) -> list[dict[str, Any]]:
        """The stage's records, oldest first."""
        return [record for record in self.job.journal.records if record.get("stage", "") == self.stage]

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record with the stage's name and the clock."""
        self.job.note(**{**record, **({"stage": self.stage} if self.stage else {})})
