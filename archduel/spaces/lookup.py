"""Spaces and architectures by name or text, and the sizes at which their networks were published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel import registry
from archduel.core import Arch, Scale, Space, TextSpace, sample
from archduel.core import parse as parse_choices
from archduel.errors import InvalidArchError, SettingError
from archduel.rankers.columns import Costs
from archduel.spaces.family import count
from archduel.spaces.named import find

__all__ = ["DEFAULTS", "LADDERS", "OWN_SIZE", "SCALES", "closed_form_costs", "facts", "open_space", "parse", "resolve", "scale_of", "write"]

SCALES: Mapping[str, Scale] = {
    "nasbench101": Scale(128, 3),
    "nasbench201": Scale(16, 5),
    "natsbench_sss": Scale(16, 1),
    "darts": Scale(36, 20),
    "darts_supercell": Scale(36, 20),
    "mobilenetv3": Scale(16, 5, 224, 3, 1000),
    "resnet": Scale(),
    "resnet4": Scale(),
}
"""Space -> the scale at which its networks were published; parameters and multiply-adds are given for it."""
OWN_SIZE = frozenset({"resnet", "resnet4"})
"""Spaces whose architectures say their width and depth themselves; those of a scale mean nothing there."""
WIDEST: Mapping[str, Mapping[str, Any]] = {"darts": {"preset": "any"}, "darts_supercell": {"none": True}}
"""Settings under which a space holds everything that any paper's variant of it holds."""
DEFAULTS: Mapping[str, Mapping[str, Any]] = {"darts": {"preset": "darts"}, "darts_supercell": {"none": False}}
"""Settings under which random architectures are drawn where nothing is said: the usual variant."""


def open_space(name: str, **settings: Any) -> Space:
    """Returns the space called ``name``; without settings the widest variant, which holds those of all papers.

    Raises:
        UnknownNameError: for an unknown space.
        SettingError: for a setting that it does not have.
    """
    try:
        return registry.make("space", name, **(settings or WIDEST.get(name, {})))  # type: ignore[no-any-return]
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
    return replace(SCALES.get(space_name, Scale()), **changes)


def resolve(text: str, space_name: str = "") -> tuple[Space, Arch]:
    """Returns space and architecture of a text that says its space itself, or belongs to ``space_name``.

    Raises:
        InvalidArchError: if no space is known or the text does not belong to it.
        UnknownNameError: for an unknown space.
    """
    item = find(text)
    name = space_name or (item.space if item else text.strip().partition(":")[0])
    if not space_name and name not in registry.names("space"):
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


LADDERS: dict[str, tuple[tuple[int, int], ...]] = {
    "nasbench201": ((4, 1), (8, 1), (16, 1), (16, 2), (16, 3), (16, 5), (32, 3), (32, 5), (64, 5)),
    "nasbench101": ((16, 1), (32, 1), (32, 2), (64, 2), (64, 3), (128, 3)),
    "darts": ((4, 3), (8, 3), (8, 5), (16, 5), (16, 8), (24, 11), (36, 14), (36, 20)),
    "natsbench_sss": ((8, 1),),
    "mobilenetv3": ((16, 1),),
}
"""(channels, depth) from small to large at which a space's networks are built."""


COST_SCALES: Mapping[str, Scale] = {
    "darts": Scale(channels=36, depth=20),
    "darts_supercell": Scale(channels=36, depth=20),
    "mobilenetv3": Scale(image_size=224, n_classes=1000),
}
"""Size of the networks whose costs rankers are given, in spaces whose features do not tell them."""


def closed_form_costs(space: Space) -> Costs | None:
    """Returns what gives (N, 2) parameters and multiply-adds of architectures of ``space``, None where features tell them."""
    scale = COST_SCALES.get(space.name)
    if scale is None:
        return None
    one = cache(lambda arch: count(arch, scale))

    def costs(archs: Sequence[Arch]) -> NDArray[np.float64]:
        return np.array([one(arch) for arch in archs], np.float64).reshape(-1, 2)

    return costs
