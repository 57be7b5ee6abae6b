"""Where data lie: the same place in other words, and found again when a folder was moved or copied together with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["found_again", "place_of", "same_place"]

PREFIX = "imagefolder:"


def _path(text: str) -> Path | None:
    """Returns the path that a text names if there is something at it, absolute and without links."""
    try:
        path = Path(text.removeprefix(PREFIX)).expanduser()
        return path.resolve() if text and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # no path at all, no home
        return None


def place_of(text: str, folder: Path) -> dict[str, str]:
    """Returns where ``text`` leads, for the record of what is kept in ``folder``; empty for a name that is no path.

    Args:
        text: as somebody typed it.
        folder: of the job or network.

    Returns:
        ``path``, absolute, and ``relative`` to the folder.
    """
    path = _path(text)
    if path is None:
        return {}
    try:
        relative = os.path.relpath(path, folder.resolve())
    except ValueError:  # on another drive
        relative = str(path)
    return {"path": str(path), "relative": relative}


def _candidates(place: Mapping[str, Any], folder: Path) -> list[Path]:
    """Returns where the data of a record may lie now: where they lay, or as they lay beside the folder."""
    path, relative = place.get("path"), place.get("relative")
    places = [Path(path)] if isinstance(path, str) else []
    return [*places, folder / relative] if isinstance(relative, str) else places


def same_place(before: str, now: str, place: Mapping[str, Any], folder: Path) -> bool:
    """Returns whether ``now`` leads where ``before`` led when ``place`` was recorded; a name that is no path must be the same."""
    path = _path(now)
    if path is None or not place:
        return before == now or (path is not None and path == _path(before))
    return any(path == _path(str(candidate)) for candidate in _candidates(place, folder))


def found_again(text: str, place: Mapping[str, Any], folder: Path) -> str:
    """Returns what data are to be opened by: where they lay, else as they lay beside the folder, else what was typed."""
    start = PREFIX if text.startswith(PREFIX) else ""
    for candidate in _candidates(place, folder):
        path = _path(str(candidate))
        if path is not None:
            return f"{start}{path}"
    return text
