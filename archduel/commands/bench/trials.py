"""The finished trials of a comparison, in memory and in a file from which the same command goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import MISSING, asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from archduel.commands.tracking import following
from archduel.core.job import COMPARISON, Job
from archduel.execution import as_they_finish
from archduel.text import print_line
from archduel.version import __version__

__all__ = ["Kept", "Keyed", "Trials", "read_trials"]

Key = tuple[Any, ...]


class Keyed(Protocol):
    """A trial: a frozen dataclass of JSON values."""

    @property
    def key(self) -> Key:
        """What tells it from the other trials of a comparison."""


T = TypeVar("T", bound=Keyed)


def _settings(protocol: Any, free: Sequence[str]) -> dict[str, Any]:
    """Returns what decides the trials of a protocol as JSON holds it; another version may compute something else."""
    values = {**asdict(protocol), "archduel": __version__}
    return {name: value for name, value in json.loads(json.dumps(values)).items() if name not in free and value is not None}


def _older(record: Mapping[str, Any], protocol: Any, free: Sequence[str]) -> dict[str, Any]:
    """Returns the protocol in a trial of a file whose lines each have one, an object or its text."""
    value = record["protocol"]
    values = json.loads(value) if isinstance(value, str) else value
    defaults = {field.name: field.default for field in fields(protocol) if field.default is not MISSING}
    whole = {**defaults, "archduel": __version__, **values}
    return {name: value for name, value in whole.items() if name not in free and value is not None}


def read_trials(records: Sequence[Mapping[str, Any]], trial: type[T], protocol: Any, free: Sequence[str] = ()) -> dict[Key, T]:
    """Returns the trials of ``protocol`` among the records of a file, by key.

    Args:
        records: of the file.
        trial: what they are.
        protocol: a dataclass of JSON values.
        free: its fields that may differ, since a trial says them itself.
    """
    names, wanted = {field.name for field in fields(trial)}, _settings(protocol, free)  # type: ignore[arg-type]
    mine = [
        record
        for record in records
        if record.get("event") == "trial" or ("protocol" in record and _older(record, protocol, free) == wanted)
    ]
    trials = [trial(**{name: record[name] for name in names if name in record}) for record in mine]
    return {each.key: each for each in trials}


@dataclass(frozen=True)
class Kept:
    """What becomes of a comparison's trials.

    Attributes:
        path: of the file that keeps them; None = none is written.
        track: a tracker that is told of them too (`archduel list trackers`), empty for none.
        command: how the comparison was started, for `archduel resume`; empty from Python.
    """

    path: Path | None = None
    track: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        """Takes the path as text too."""
        object.__setattr__(self, "path", None if self.path is None else Path(self.path))


class Trials(Generic[T]):
    """The trials of a comparison; those in its file are not run again, new ones are added to it.

    Args:
        kept: where.
        trial: the dataclass of a trial.
        protocol: what all trials share; a file of another protocol is refused.
        free: see :func:`read_trials`.
        fsync: let each trial survive a power cut.

    Attributes:
        done: the finished trials by key.

    Raises:
        RunError: for a file that is in use, cannot be written, or holds something else; for a tracker without a file.
        SettingError, UnknownNameError: for a tracker that there is not.
    """

    def __init__(self, kept: Kept, trial: type[T], protocol: Any, *, free: Sequence[str] = (), fsync: bool = False) -> None:
        settings = _settings(protocol, free)

        def older(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
            """Returns this protocol if a trial of it is among them (others were allowed beside it), else that of the last."""
            protocols = [_older(record, protocol, free) for record in records if "protocol" in record]
            return settings if settings in protocols else protocols[-1] if protocols else None

        self._job: Job | None = None
        self.done: dict[Key, T] = {}
        with ExitStack() as stack:
            stack.enter_context(following(kept.track, kept.path, partial(print_line, error=True)))
            if kept.path is not None:
                self._job = Job(kept.path, COMPARISON, settings, command=kept.command, older=older, fsync=fsync)
                stack.callback(self._job.close)  # before the tracker is told the end
                self.done = read_trials(self._job.journal.records, trial, protocol, free)
            self._open = stack.pop_all()

    def add(self, trial: T) -> None:
        """Adds a finished trial; it is on disk when this returns."""
        self.done[trial.key] = trial
        if self._job is not None:
            self._job.note("trial", **asdict(trial))  # type: ignore[call-overload]

    def finish(
        self,
        work: Callable[..., T],
        jobs: Mapping[Key, tuple[Any, ...]],
        *,
        workers: int,
        on_trial: Callable[[int, int], None] | None = None,
    ) -> dict[Key, T]:
        """Runs the jobs whose trials are missing and returns all trials.

        Args:
            work: what makes a trial; can be pickled.
            jobs: key of a trial -> arguments of ``work``.
            workers: processes; 0 = this one. Trials do not depend on it.
            on_trial: called with (finished, all) after each trial.
        """
        left = [arguments for key, arguments in jobs.items() if key not in self.done]
        trials = as_they_finish(work, left, workers=min(workers, len(left)))
        for n, trial in enumerate(trials, len(jobs) - len(left) + 1):
            self.add(trial)
            if on_trial is not None:
                on_trial(n, len(jobs))
        return self.done

    def __enter__(self) -> Trials[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
