"""Which networks a kit holds: those of the space that will be searched, at the sizes at which a search builds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from archduel.core import Arch, Scale
from archduel.devices.kit import Source, choose, write_kit
from archduel.devices.measurements import FEWEST, Kit
from archduel.devices.store import remember_kit
from archduel.errors import SettingError, check_at_least
from archduel.pretrained.weights import here
from archduel.race.sizes import depths, widths
from archduel.spaces.family import family
from archduel.spaces.lookup import open_space
from archduel.spaces.pretrained.backbones import BACKBONES

__all__ = ["make_kit"]

KNOWN = "pretrained"
KNOWN_SHARE = 0.3
"""Part of the networks that are of pretrained ones where both may be handed over."""


def make_kit(
    folder: Path, *, space: str = "", sides: Sequence[int] = (32,), in_channels: int = 3, classes: int = 10, n: int = 20, seed: int = 0,
    quiet: bool = False,
) -> Kit:  # fmt: skip
    """Writes a kit and remembers it for what comes back.

    Args:
        folder: where to; new or empty.
        space: name of the space; empty = the usual one, and parts of pretrained networks where weights are here.
        sides: of the images in pixels.
        in_channels: 1 or 3.
        classes: outputs.
        n: networks.
        seed: of the choice.
        quiet: print nothing.

    Raises:
        SettingError: for fewer than 10 networks and sizes that cannot be.
        UnknownNameError: for a space that there is not.
        ExportError: for a folder with other files, or missing packages.
    """
    if n < FEWEST:
        raise SettingError(f"--networks {n}: at least {FEWEST} are needed, of fewer no interval can be told")
    check_at_least(1, images=min(sides, default=0), classes=classes)
    parts = {space: n} if space else _usual(n)
    rng = np.random.default_rng([seed, 23])
    chosen: list[tuple[Arch, Scale]] = []
    for name, number in parts.items():
        for part, side in zip(np.array_split(np.arange(number), len(sides)), sides):
            if len(part):
                chosen += choose(_source(name), len(part), Scale(1, 1, side, in_channels, classes), rng)
    facts = {"spaces": parts, "images": list(sides), "in_channels": in_channels, "classes": classes, "seed": seed}
    made = write_kit(folder, chosen, facts=facts, say=(lambda text: None) if quiet else print)
    remember_kit(made)
    return made


def _usual(n: int, usual: str = "stages") -> dict[str, int]:
    """Returns how many networks of which spaces a search that names none may hand over."""
    if not any(here(name) is not None for name in BACKBONES):
        return {usual: n}
    known = round(KNOWN_SHARE * n)
    return {usual: n - known, KNOWN: known}


def _source(name: str) -> Source:
    space = open_space(name)
    if family(space.name).own_size:
        scale = family(space.name).scale
        return Source(space, (scale.channels,), (scale.depth,))
    return Source(space, widths(space), depths(space))
