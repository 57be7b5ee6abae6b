"""Which architecture a text, a file or a folder means, whatever code base it comes from."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archduel import registry
from archduel.core import Arch, Counts, Scale
from archduel.core import parse as parse_choices
from archduel.errors import InvalidArchError, brief
from archduel.networks.trained import counts_of, facts_at
from archduel.spaces.family import free_text, with_text
from archduel.spaces.lookup import check_space_name, open_space, parse, write
from archduel.spaces.named import NAMED, find

__all__ = ["Architecture", "arch_text", "architecture_at", "find_architecture"]

LONGEST_FILE = 200_000


@dataclass(frozen=True)
class Architecture:
    """An architecture that can be built.

    Attributes:
        arch: the value, or None for a genotype that no space holds.
        text: in its space's own words.
        name: as it was asked for, short.
        options: of its network.
        trained: whether it was read beside weights, which have these options.
        size: ``channels`` and ``depth`` of those weights.
    """

    arch: Arch | None
    text: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = False
    size: Mapping[str, int] = field(default_factory=dict)

    @property
    def space(self) -> str:
        """The name of its space, empty for none."""
        return self.arch.space if self.arch is not None else ""

    @property
    def family(self) -> str:
        """The name of the family that builds its network: that of its space, or that of others which are written like it."""
        return self.space or with_text(self.text)[0].name

    @property
    def facts(self) -> dict[str, Any]:
        """What :func:`archduel.networks.trained.network_of` needs besides the scale."""
        arch = None if self.arch is None else str(self.arch)
        return {"arch": arch, "text": self.text, "name": self.name, "options": dict(self.options)}

    def counts(self, scale: Scale) -> Counts:
        """Returns parameters and multiply-adds of its network."""
        return counts_of({**self.facts, "scale": scale})


def arch_text(value: object) -> str:
    """Returns what was given for an architecture as a text; a path is one.

    Raises:
        InvalidArchError: for anything else.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise InvalidArchError(f"{brief(value)} is not an architecture; expected the text of one, a name, a file or a folder")
    return text


def find_architecture(text: str, space: str = "") -> Architecture:
    """Returns the architecture of a name, ``space:1.0.4``, a space's own text, a genotype of any code base, a file or a folder.

    A folder is one of ``archduel search`` (its winner) or of ``archduel train``. A file holds one of the texts, or JSON with
    the key ``arch``.

    Args:
        text: what a person gave.
        space: of the text, where it does not say so itself.

    Raises:
        InvalidArchError: for a text that is no architecture.
        RunError: for a folder without one.
        UnknownNameError: for an unknown space.
    """
    text = arch_text(text).strip()
    path = Path(text) if text and len(text) < 1000 and "\n" not in text and "\0" not in text else None
    try:
        if path is not None and path.is_dir() and find(text) is None:
            return architecture_at(path)
        if path is not None and path.is_file():
            return _from_file(path, space)
    except OSError:  # a text that is no name of a file
        pass
    return _from_text(text, space)


def _from_text(text: str, space: str) -> Architecture:
    if item := find(text):
        if not item.space:
            return Architecture(None, item.text, item.name, item.options)
        opened = open_space(item.space)
        arch = parse(opened, item.text)
        return Architecture(arch, item.text, item.name, item.options)
    head = text.partition(":")[0]
    name = space or (head if head in registry.names("space") else "")
    if not name and with_text(text):
        return _from_own_text(text)
    if not name:
        check_space_name(text)
        short = text if len(text) <= 60 else text[:57] + "..."
        near = difflib.get_close_matches(text.lower().replace("-", "_"), NAMED, n=1)
        hint = f"did you mean {near[0]!r}? It is" if near else "it is"
        raise InvalidArchError(
            f"{short!r} is no architecture; {hint} no name (`archduel list architectures`), no SPACE:CHOICE.CHOICE..., no genotype, "
            "no file and no folder; a space's own text needs --space NAME"
        )
    opened = open_space(name)
    arch = parse(opened, text)
    return Architecture(arch, write(opened, arch), str(arch))


def _from_own_text(text: str) -> Architecture:
    """Returns the architecture of a text whose form tells its space; where none of several holds it, that of no space."""
    known = with_text(text)
    shown = free_text(text).canonical(text) if known[0].free_text else text
    for each in known:
        try:
            arch = parse(space := open_space(each.name), shown)
        except InvalidArchError:
            if not each.free_text:
                raise
            continue
        return Architecture(arch, shown if each.free_text else write(space, arch), str(arch))
    return Architecture(None, shown, "genotype")


def _from_file(path: Path, space: str) -> Architecture:
    if path.stat().st_size > LONGEST_FILE:
        raise InvalidArchError(f"{path} has {path.stat().st_size:,} bytes; an architecture is a short text")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise InvalidArchError(f"{path} is no text; expected an architecture in words") from error
    if text.startswith("{"):
        try:
            value = json.loads(text)
        except ValueError:
            value = {}
        if isinstance(value.get("arch"), str):
            text = value["arch"]
    return _from_text(text, space)


def _size(scale: Mapping[str, int]) -> dict[str, int]:
    return {name: scale[name] for name in ("channels", "depth") if name in scale}


def architecture_at(where: str | Path) -> Architecture:
    """Returns the architecture of the network of a training, a finished search (its winner) or ``zoo:NAME``.

    Raises:
        RunError: if there is no trained network.
        UnknownNameError: for a name that the zoo has not, or has no weights for.
    """
    facts = facts_at(where)
    arch = None if facts["arch"] is None else parse_choices(facts["arch"])
    name, text = facts.get("name") or str(arch), facts.get("text") or ""
    return Architecture(arch, text, name, facts.get("options") or {}, True, _size(facts["scale"]))
