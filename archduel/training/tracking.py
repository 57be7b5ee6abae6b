"""Trackers: where the numbers of a training go besides its own journal. Four functions; TensorBoard is built in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from archduel.errors import SettingError

__all__ = ["TensorBoard", "Tracker"]


class Tracker(Protocol):
    """What a tracker can do; any object with these four methods is one."""

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        """Starts a training called ``name``; ``settings`` are nested JSON values. Called again when it continues."""

    def note(self, numbers: Mapping[str, float], epoch: float) -> None:
        """Takes the numbers of an epoch (from 1; a fraction for a part of one)."""

    def keep(self, path: Path) -> None:
        """Takes a file that the training wrote."""

    def end(self, result: Mapping[str, Any]) -> None:
        """Ends the training; ``result`` is empty if it did not finish."""


class TensorBoard:
    """Writes scalars and settings for TensorBoard; a continued training goes on in the same folder.

    Args:
        folder: of the event files; a subfolder for each name is made.

    Raises:
        SettingError: if TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        from importlib.util import find_spec

        # Asked here, before images are read: the writer itself is imported when the training begins.
        if find_spec("tensorboard") is None:
            raise SettingError("TensorBoard is not installed; install it with `pip install 'archduel[tensorboard]'`")
        self.folder = Path(folder)
        self._writer: Any = None

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        """Opens the event file and writes the settings as text."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder / name))  # type: ignore[no-untyped-call]
        lines = [f"    {key} = {value!r}" for key, value in _flat(settings)]
        self._writer.add_text("settings", "\n".join(lines))

    def note(self, numbers: Mapping[str, float], epoch: float) -> None:
        """Writes a scalar a number; TensorBoard counts whole steps, so a part of an epoch counts as the whole."""
        step = -int(-epoch // 1)
        for name, value in numbers.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, step)

    def keep(self, path: Path) -> None:
        """Writes where the file is."""
        self._writer.add_text("files", str(path))

    def end(self, result: Mapping[str, Any]) -> None:
        """Writes the numbers of the result and closes the file."""
        for name, value in _flat(result):
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._writer.add_scalar(f"result/{name}", value, 0)
        self._writer.close()


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Returns (``section.key``, value) of nested values."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else [(f"{before}{key}", value)]
    return found
