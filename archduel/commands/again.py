"""Going on with a training, a proxy job, a comparison or a table from its place alone: the command that it began with, repeated."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from archduel.commands.journals import Place, place_of, settings_of
from archduel.core.disk import read_toml
from archduel.core.job import RUN, STUDY, last_command
from archduel.core.storage import read_journal
from archduel.errors import RunError
from archduel.registry import MENUS

__all__ = ["words_of"]

STRANGERS = re.compile(r"(.*/)?[A-Za-z_~.][\w.-]*:[A-Za-z_][\w.]*")
PARTS = re.compile(r"[,;=\[\]{}\s]")
"""What stands between names in a word such as ``--strategies=random,best[ranker=mine:Mine]``."""
KNOWN = {"zoo", "idx", "imagefolder", "npz"}


def words_of(path: Path) -> list[str] | None:
    """Returns the words of the command that a job last ran with, for the place where it lies now; None for a search, which needs no command.

    Args:
        path: a folder, or the file of a comparison or a table.

    Raises:
        RunError: where there is no job, it began in Python, or its command names code of somebody else, which is not run by opening a folder.
    """
    if (path / RUN.file).is_file():
        return None
    try:
        place = place_of(path)
    except RunError as error:
        raise RunError(f"{path} holds nothing that can go on: no run.toml, train.toml, settings.json or journal of a comparison; `archduel ls` lists what there is") from error
    if (path / STUDY.file).is_file():
        begun = str(read_toml(path / STUDY.file).get("command") or "")
        raise RunError(f"{path} is a study, whose evaluations are code: run {f'`{begun}`' if begun else 'your script'} again, the same call of archduel.search_space goes on")
    words = shlex.split(last_command(read_journal(place.journal, skip_damaged=True)) if place.file is None else str(settings_of(place).get("command") or ""))
    if len(words) < 2 or words[0] != "archduel":
        raise RunError(f"{path} began in Python, or with an older version that wrote no command down; the same call or command goes on with it")
    strange = [word for word in words if any(map(_is_strange, PARTS.split(word)))]
    if strange:
        raise RunError(f"the command of {path} names code ({strange[0]}), which is not run by opening a folder; if it is yours, repeat the command: {shlex.join(words)}")
    return _to(words[1:], place)


def _is_strange(text: str) -> bool:
    """Whether a text names code from outside: ``module:Class`` or ``folder/file.py:Class``."""
    return bool(STRANGERS.fullmatch(text)) and text.partition(":")[0] not in KNOWN | set(MENUS["space"])


def _to(words: list[str], place: Place) -> list[str]:
    """Returns the words with another ``--out``: a job may have been moved, or is named from another place."""
    words = [part for word in words for part in (("--out", word[len("--out=") :]) if word.startswith("--out=") else (word,))]
    at = words.index("--out") + 1 if "--out" in words[:-1] else 0
    if at:
        ending = "".join(place.path.suffixes) if place.kind == "table" else ".trials.jsonl"
        words[at] = str(place.path if place.file is not None else place.path.with_name(place.path.name.removesuffix(ending) + Path(words[at]).suffix))
    return words
