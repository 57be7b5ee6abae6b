"""Trackers by name, and a training's journal told to one: while it runs, or afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archduel import registry
from archduel.core.disk import read_toml
from archduel.core.storage import read_journal
from archduel.errors import RunError
from archduel.training.tracking import Tracker

__all__ = ["Follower", "followed", "make_tracker", "replay"]


TRACKED = "tracking"
"""Folder in a training folder where a tracker writes."""


def make_tracker(name: str, folder: Path) -> Tracker:
    """Returns the tracker called ``name`` (or ``package.module:Class``), which writes to ``folder``.

    Raises:
        UnknownNameError: for a name that is not on the menu.
        SettingError: if what it needs is not installed.
    """
    tracker: Tracker = registry.make("tracker", name, folder)
    return tracker


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
            self.tracker.begin(self.folder.resolve().name, _settings(self.folder))
            self.begun = True
        self.tracker.note(numbers, numbers["epoch"])

    def end(self) -> None:
        """Tells the result, if there is one, and ends."""
        if self.begun:
            _end(self.tracker, self.folder)


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


def replay(folder: str | Path, tracker: Tracker) -> int:
    """Tells a tracker everything that a training folder holds; returns how many epochs.

    Raises:
        RunError: for a folder without a training.
    """
    folder = Path(folder)
    tracker.begin(folder.resolve().name, _settings(folder))
    lines = read_journal(folder / "journal.jsonl")
    for line in lines:
        tracker.note(line, line["epoch"])
    _end(tracker, folder)
    return len(lines)


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "train.toml"
    if not path.is_file():
        raise RunError(f"{folder} holds no training (no train.toml)")
    return read_toml(path)


def _end(tracker: Tracker, folder: Path) -> None:
    for name in ("model.safetensors", "model.json"):
        if (folder / name).is_file():
            tracker.keep(folder / name)
    path = folder / "result.json"
    tracker.end(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})
