"""Spaces and architectures by name or text, and the sizes at which their networks were published."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel import registry
from archduel.core import Arch, Scale, Space, TextSpace, sample
from archduel.core import parse as parse_choices
from archduel.errors import InvalidArchError, SettingError, UnknownNameError, unknown
from archduel.spaces.family import count, family
from archduel.spaces.named import find

__all__ = ["check_space_name", "closed_form_costs", "facts", "has_own_size", "open_space", "parse", "published_costs", "resolve", "scale_of", "write"]

def open_space(name: str, **settings: Any) -> Space:
    """Returns the space called ``name``; without settings the widest variant, which holds those of all papers.

    Raises:
        UnknownNameError: for an unknown space.
        SettingError: for a setting that it does not have.
    """
    try:
        return registry.make("space", name, **(settings or family(name).widest))  # type: ignore[no-any-return]
    except TypeError as error:
        raise SettingError(f"space {name!r}: {error}") from error


def parse(space: Space, text: str) -> Arch:
    """Returns the architecture of ``text``: ``space:1.0.4``, the name of a published one, or the space's own text.

    Raises:
        InvalidArchError: that shows the offending part.
    """
    text = text.strip()
    if text.startswith(f"{space.name}:"):
        arch = parse_choices(text)
        space.validate(arch)
        return arch
    if item := find(text):
        if item.space != space.name:
            raise InvalidArchError(
                f"{item.name} belongs to {item.space or 'no space'}, expected {space.name}"
            )
        text = item.text
    if not isinstance(space, TextSpace):
        raise InvalidArchError(
            f"{text!r} is not an architecture of {space.name}; expected {space.name}:CHOICE.CHOICE..."
        )
    return space.read(text)


def write(space: Space, arch: Arch) -> str:
    """Returns the space's own text of ``arch``, or ``space:1.0.4`` where there is none."""
    return space.write(arch) if isinstance(space, TextSpace) else str(arch)


def scale_of(space_name: str, changes: Mapping[str, int]) -> Scale:
    """Returns the scale at which a space's networks were published, with some values changed."""
    return replace(family(space_name).scale, **changes)


def has_own_size(arch: object) -> bool:
    """Whether an architecture, or its text ``SPACE:1.0``, says its width and depth itself; a text without a space does not."""
    name = str(arch or "").partition(":")[0]
    return name in registry.names("space") and family(name).own_size


CHOICES = re.compile(r"(?P<space>[\w:]+):\d+(\.\d+)*")
"""An architecture by its choices, with the space that it says."""


def check_space_name(text: str) -> None:
    """Raises UnknownNameError for ``space:1.0.4`` of a space that nobody here knows; says how one of one's own is named."""
    found = CHOICES.fullmatch(text.strip())
    if found and found["space"] not in registry.names("space"):
        error = unknown("space", found["space"], registry.names("space"), command="archduel list spaces")
        raise UnknownNameError(f"{error}; a space of your own is named by --space MODULE:FAMILY, with the architecture as it is")


def resolve(text: str, space_name: str = "") -> tuple[Space, Arch]:
    """Returns space and architecture of a text that says its space itself, or belongs to ``space_name``.

    Raises:
        InvalidArchError: if no space is known or the text does not belong to it.
        UnknownNameError: for an unknown space.
    """
    item = find(text)
    name = space_name or (item.space if item else text.strip().partition(":")[0])
    if not space_name and name not in registry.names("space"):
        check_space_name(text)
        raise InvalidArchError(
            f"{text!r} is no name (`archduel list architectures`) and does not say its space; say `--space NAME`, "
            "or write SPACE:CHOICE.CHOICE..."
        )
    space = open_space(name)
    return space, parse(space, text)


def facts(space: Space) -> dict[str, Any]:
    """Returns what is known of a space: size (number of encodings where the docstring says so), decisions, features."""
    arch = sample(space, np.random.default_rng(0))
    return {
        "space": space.name,
        "size": getattr(space, "size", None),
        "kinds": dict(space.kinds),
        "features": int(space.features([arch]).shape[1]),
        "graphs": hasattr(space, "graphs"),
        "about": (type(space).__doc__ or "").strip().splitlines()[0],
        "example": str(arch),
    }


def closed_form_costs(space: Space) -> Callable[[Sequence[Arch]], NDArray[np.float64]] | None:
    """Returns what gives (N, 2) parameters and multiply-adds of architectures of ``space``, None where features tell them."""
    return published_costs(space) if family(space.name).costs_for_rankers else None


def published_costs(space: Space) -> Callable[[Sequence[Arch]], NDArray[np.float64]] | None:
    """Returns what gives (N, 2) parameters and multiply-adds at the size at which networks were published, None for a space without networks."""
    around = family(space.name)
    if around.count is None:
        return None
    scale = around.scale
    one = cache(lambda arch: count(arch, scale))

    def costs(archs: Sequence[Arch]) -> NDArray[np.float64]:
        return np.array([one(arch) for arch in archs], np.float64).reshape(-1, 2)

    return costs
