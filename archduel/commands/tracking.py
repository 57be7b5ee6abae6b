"""Trackers by name, and a job's journal told to one: while it works, or afterwards."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archduel import registry
from archduel.commands.candidates import Candidates
from archduel.commands.journals import Place, outcome, place_of, settings_of
from archduel.core.disk import read_toml
from archduel.core.storage import Tail, read_journal
from archduel.errors import RunError, in_one_line
from archduel.text import typed
from archduel.training.tracking import Candidate, CandidateTracker, Tracker

__all__ = ["Follower", "Steps", "Teller", "follow", "followed", "following", "make_tracker", "replay", "tracking_folder"]


TRACKED = "tracking"
"""Folder in a job's folder where a tracker writes."""
FILES = (".json", ".jsonl", ".table")
"""Endings of jobs that are files."""
LOOKS = 2.0
"""Seconds between two looks at a journal that is told while it grows."""


def make_tracker(name: str, folder: Path) -> Tracker:
    """Returns the tracker called ``name`` (or ``package.module:Class``), which writes to ``folder``.

    Raises:
        UnknownNameError: for a name that is not on the menu.
        SettingError: if what it needs is not installed.
    """
    tracker: Tracker = registry.make("tracker", name, folder)
    return tracker


def tracking_folder(path: Path) -> Path:
    """Returns where a tracker writes what it is told of the job at ``path``: in its folder, or beside its file."""
    return path.with_name(f"{path.name.split('.')[0]}.{TRACKED}") if path.suffix in FILES else path / TRACKED


class Follower:
    """Tells a tracker about a training while it runs: give ``tell`` to ``train_network`` as ``on_epoch``.

    Args:
        tracker: who is told.
        folder: the training folder; its ``train.toml`` is there before the first epoch ends.
    """

    def __init__(self, tracker: Tracker, folder: Path) -> None:
        self.tracker, self.folder, self.begun = tracker, folder, False

    @property
    def tell(self) -> Callable[[Mapping[str, float]], None]:
        """The function for ``on_epoch``."""
        return self._tell

    def _tell(self, numbers: Mapping[str, float]) -> None:
        if not self.begun:
            self.tracker.begin(self.folder.resolve().name, read_toml(place_of(self.folder).file))  # type: ignore[arg-type]
            self.begun = True
        self.tracker.note(_numbers(numbers), numbers["epoch"])

    def end(self) -> None:
        """Tells the result, if there is one, and ends."""
        if self.begun:
            _end(self.tracker, place_of(self.folder))


@contextmanager
def followed(name: str, folder: Path) -> Iterator[Callable[[Mapping[str, float]], None] | None]:
    """Yields what to give as ``on_epoch``, None where ``name`` is empty; the tracker is told the end however it comes.

    Raises:
        UnknownNameError: for a name that is not on the menu.
        SettingError: if what the tracker needs is not installed.
    """
    if not name:
        yield None
        return
    follower = Follower(make_tracker(name, folder / TRACKED), folder)
    try:
        yield follower.tell
    finally:
        follower.end()


# -- Any job, by its journal ---------------------------------------------------------------------------------------------


class Steps:
    """From a journal's records to numbers at steps: the epochs of a training, the answers of other jobs, counted from 1."""

    def __init__(self) -> None:
        self._step, self._best = 0, -math.inf

    def __call__(self, record: Mapping[str, Any]) -> tuple[dict[str, float], float] | None:
        """Returns numbers and step of a record, None for one that is no answer."""
        if "event" not in record:
            return _numbers(record), float(record["epoch"])
        numbers = _ANSWERS.get(record["event"], _nothing)(record)
        if not numbers:
            return None
        self._step += 1
        for name in ("validation accuracy", "score"):
            if name in numbers:
                self._best = max(self._best, numbers[name])
                numbers[f"best {name}"] = self._best
                break
        return {**numbers, **_numbers({"clock": record.get("clock")})}, float(self._step)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns what is a finite number among the values."""
    return {
        str(name): value for name, value in values.items() if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def _nothing(record: Mapping[str, Any]) -> dict[str, float]:
    return {}


def _rung(record: Mapping[str, Any]) -> dict[str, float]:
    point = record["point"]
    known = {"validation accuracy": point.get("accuracy"), "validation loss": point.get("loss"), "seconds of training": point.get("seconds")}
    return _numbers({**known, "rung": record["rung"], "network": record["number"]}) if point else {}


def _estimate(record: Mapping[str, Any]) -> dict[str, float]:
    if record["score"] is None:
        return {}
    values = record["values"]
    known = {"score": record["score"], "seconds": record["seconds"], "params": values.get("params"), "macs": values.get("macs")}
    measured = values.get("val_metric", values.get("val_accuracy"))
    return _numbers({**({} if measured is None else {"validation accuracy": measured}), **known})


def _trial(record: Mapping[str, Any]) -> dict[str, float]:
    title = str(record.get("title", record.get("ranker", record.get("sampling", "trial"))))
    scores = [score for score in record.get("scores", ()) if score is not None and math.isfinite(score)]
    known = {f"{title}/{name}": value for name, value in {**record, **record.get("quality", {})}.items() if name not in ("event", "clock")}
    return _numbers({**known, **({f"{title}/best score": max(scores)} if scores else {})})


def _step(record: Mapping[str, Any]) -> dict[str, float]:
    return _numbers({**record.get("metrics", {}), **{name: value for name, value in record.items() if name not in ("clock", "number")}})


_ANSWERS = {"rung": _rung, "estimate": _estimate, "trial": _trial, "one-shot step": _step, "epoch": _step}
"""Event -> the numbers of such a record."""


class Teller:
    """Tells a tracker what a job's journal holds, each record once.

    Args:
        tracker: who is told.
        place: of the job.
    """

    def __init__(self, tracker: Tracker, place: Place) -> None:
        self.tracker, self.place, self.steps = tracker, place, 0
        self._tail, self._numbers, self._done, self._begun = Tail(place.journal), Steps(), 0, False
        self._candidates = Candidates()

    def catch_up(self) -> int:
        """Tells what is new; returns how many answers were told in all."""
        self._tail.read()
        if not self._begun:
            self.tracker.begin(self.place.name, settings_of(self.place, self._tail.records))
            self._begun = True
        if len(self._tail.records) < self._done:  # the journal was made anew
            self._numbers, self._candidates, self._done = Steps(), Candidates(), 0
        for record in self._tail.records[self._done :]:
            self._show(self._candidates(record))
            told = self._numbers(record)
            if told is not None:
                self.tracker.note(*told)
                self.steps += 1
        self._done = len(self._tail.records)
        return self.steps

    def _show(self, candidates: Iterable[Candidate]) -> None:
        if isinstance(self.tracker, CandidateTracker):
            for candidate in candidates:
                self.tracker.candidate(candidate)

    def end(self) -> None:
        """Tells what is left, the files and the result."""
        self.catch_up()
        if self.place.finished:
            self._show(self._candidates.rest())
        _end(self.tracker, self.place)


def _end(tracker: Tracker, place: Place) -> None:
    names = {"training": ("model.safetensors", "model.json"), "search": ("result.json", "report.html")}.get(place.kind, ())
    for name in names:
        if (place.path / name).is_file():
            tracker.keep(place.path / name)
    tracker.end(outcome(place))


def replay(folder: str | Path, tracker: Tracker) -> int:
    """Tells a tracker everything that a job's journal holds; returns how many epochs or answers.

    Raises:
        RunError: where there is no job, or its journal is damaged.
    """
    place = place_of(Path(folder))
    read_journal(place.journal, skip_damaged=place.file is None)  # a damaged line of a run is an error, not a gap in a curve
    teller = Teller(tracker, place)
    teller.end()
    return teller.steps


def follow(path: Path, tracker: Tracker) -> int:
    """Tells a tracker what a job writes until it is finished, stopped, or Ctrl-C is pressed; returns how many epochs or answers.

    Raises:
        RunError: where there is no job.
    """
    place = place_of(path)
    teller = Teller(tracker, place)
    try:
        teller.catch_up()
        while place.holder() is not None:
            time.sleep(LOOKS)
            teller.catch_up()
    except KeyboardInterrupt:
        pass  # what was told stays
    teller.end()
    return teller.steps


@contextmanager
def following(name: str, path: Path | None, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Tells a tracker about the job at ``path`` while the body works on it, from a thread that reads the journal; nothing where ``name`` is empty.

    A tracker that fails is given up with a warning: the job goes on.

    Args:
        name: of the tracker.
        path: of the job, which the body may begin.
        say: takes the warning.

    Raises:
        RunError: where a job without a journal is to be tracked.
        UnknownNameError: for a name that is not on the menu.
        SettingError: if what the tracker needs is not installed.
    """
    if not name:
        yield
        return
    if path is None:
        raise RunError("what is tracked is what the journal holds; give --out (in Python out or trials), so that there is one")
    tracker, over = make_tracker(name, tracking_folder(path)), threading.Event()
    thread = threading.Thread(target=_follow, args=(tracker, path, over, say), daemon=True, name="tracker")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _follow(tracker: Tracker, path: Path, over: threading.Event, say: Callable[[str], None]) -> None:
    teller: Teller | None = None
    try:
        while not over.wait(LOOKS):
            teller = teller or _teller(tracker, path)
            if teller is not None:
                teller.catch_up()
        teller = teller or _teller(tracker, path)
        if teller is not None:
            teller.end()
    except Exception as error:  # of somebody else's service: the job shall not end because of it
        say(f"warning: the tracker is given up: {in_one_line(error)}; `archduel track {typed(path)}` tells it everything afterwards")


def _teller(tracker: Tracker, path: Path) -> Teller | None:
    """Returns who tells of the job, None before it has begun."""
    try:
        place = place_of(path)
    except RunError:
        return None
    return Teller(tracker, place) if place.journal.is_file() else None
