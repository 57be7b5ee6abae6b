"""Going on with a training or a proxy job from its folder alone: the command that it began with, repeated."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from archduel.commands.journals import place_of, settings_of
from archduel.core.job import PROXY, RUN, TRAINING
from archduel.errors import RunError
from archduel.registry import MENUS

__all__ = ["words_of"]

STRANGERS = re.compile(r"[A-Za-z_][\w.]*(\.py)?:[A-Za-z_]\w*")
KNOWN = {"zoo", "idx", "imagefolder", "npz"}


def words_of(folder: Path) -> list[str] | None:
    """Returns the words of the command that a folder's job began with, for this folder; None for a search, which needs no command.

    Raises:
        RunError: where there is no job, it began in Python, or its command names code of somebody else, which is not run by opening a folder.
    """
    if (folder / RUN.file).is_file():
        return None
    if not any((folder / layout.file).is_file() for layout in (TRAINING, PROXY)):
        if folder.is_file() or folder.with_suffix(".trials.jsonl").is_file():
            raise RunError(f"{folder} is a comparison; its command, repeated, goes on")
        raise RunError(f"{folder} holds nothing that can go on: no run.toml, train.toml or settings.json; `archduel ls` lists what there is")
    words = shlex.split(str(settings_of(place_of(folder)).get("command") or ""))
    if len(words) < 2 or words[0] != "archduel":
        raise RunError(f"{folder} began in Python; the same call goes on with it")
    strange = [word for word in words if STRANGERS.fullmatch(word[word.rfind("=") + 1 :]) and word.partition(":")[0] not in KNOWN | set(MENUS["space"])]
    if strange:
        raise RunError(f"the command of {folder} names code ({strange[0]}), which is not run by opening a folder; if it is yours, repeat the command: {shlex.join(words)}")
    return _to(words[1:], str(folder))


def _to(words: list[str], out: str) -> list[str]:
    """Returns the words with another ``--out``: a folder may have been moved or is named from another place."""
    words = [f"--out={out}" if word.startswith("--out=") else word for word in words]
    if "--out" in words[:-1]:
        words[words.index("--out") + 1] = out
    return words
