"""Published searches by name, as data: what a paper's search was run with, what it cost its authors, where ours differs.

A preset is a TOML file in this folder: settings of ``archduel search`` (section ``run``, and one section below ``set`` for each part of
a run: ``set.strategy``, ``set.supernet`` ...), or of ``archduel proxy search`` where its ``command`` says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from archduel.errors import SettingError, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["COMMANDS", "Preset", "names", "open_preset", "summaries"]

COMMANDS = ("search", "proxy search")
"""Whose settings a preset holds: those of a run that ends in a network, or of BPE's searches, which end in a cell."""


@dataclass(frozen=True)
class Preset:
    """A paper's search.

    Attributes:
        name: as it is asked for.
        about: one line.
        source: where the values are from.
        published: what it cost its authors, in words.
        command: one of :data:`COMMANDS`.
        run: settings of the command.
        set: section (``strategy``, ``supernet`` ...) -> settings of that part.
        deviations: where the search differs from the paper or its code, in the order of their numbers.
    """

    name: str
    about: str
    source: str
    published: str
    command: str
    run: Mapping[str, Any]
    set: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()

    @property
    def changes(self) -> dict[str, Any]:
        """Settings of the parts under the names of ``--set``, such as ``strategy.lr``."""
        return {f"{section}.{key}": value for section, values in self.set.items() for key, value in values.items()}

    def introduction(self, further: Iterable[str] = ()) -> list[str]:
        """Returns lines that say what the search is, what it cost its authors, and its numbered deviations, ``further`` ones last."""
        found = [*self.deviations, *further]
        lines = [f"preset {self.name}: {self.about}", f"  source     {self.source}", f"  published  {self.published}", "  where it differs from paper and released code:"]
        return lines + [f"  {number:2}. {text}" for number, text in enumerate(found, 1)]


def names() -> list[str]:
    """Returns every name that :func:`open_preset` takes, in alphabetical order."""
    return sorted(item.name.removesuffix(".toml") for item in files(__name__).iterdir() if item.name.endswith(".toml"))


def summaries() -> list[str]:
    """Returns one line a preset: its name and what it is."""
    return [f"{name:14}{open_preset(name).about}" for name in names()]


@cache
def open_preset(name: str) -> Preset:
    """Returns the preset of this name.

    Raises:
        UnknownNameError: for a name that there is not.
        SettingError: for a file that is no preset.
    """
    if name not in names():
        raise unknown("preset", name, names(), command="archduel list presets")
    content = tomllib.loads((files(__name__) / f"{name}.toml").read_text(encoding="utf-8"))
    try:
        preset = Preset(name, **{**content, "deviations": tuple(content.get("deviations", ()))})
    except TypeError as error:
        raise SettingError(f"preset {name}: {error}") from error
    if preset.command not in COMMANDS:
        raise SettingError(f"preset {name}: command is {preset.command!r}, expected one of {', '.join(COMMANDS)}")
    return preset
