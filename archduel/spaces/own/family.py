"""A person's own space as a family, so that every command finds it by its name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from archduel.core import Scale
from archduel.core.family import Family
from archduel.errors import SettingError
from archduel.spaces.own.space import SIZES, USUAL, OwnSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from archduel.core import Arch, Counts

__all__ = ["family_of_space"]

LADDER = ((8, 2), (16, 3), (32, 3))
"""Sizes at which networks are built whose constructor takes ``channels`` or ``depth``."""


def family_of_space(space: OwnSpace) -> Family:
    """Returns what there is around a person's own space; what needs torch is imported when it is used."""
    sized = any(name in space.arguments and name not in space.settings for name in SIZES)
    return Family(
        space.name, partial(_opened, space), build=partial(_build, space), count=partial(_count, space), costs=partial(_costs, space),
        supernet=partial(_supernet, space),
        check=partial(_check, space), example=partial(_example, space), scale=USUAL, ladder=LADDER if sized else ((USUAL.channels, USUAL.depth),), own_size=not sized,
        recipe=space.recipe_changes if space.recipe else None, own_weights=True,
    )  # fmt: skip


def _opened(space: OwnSpace, **settings: Any) -> OwnSpace:
    if settings:
        raise SettingError(f"space {space.name!r} takes no settings here, got {', '.join(settings)}; give them to space_of")
    return space


def _build(space: OwnSpace, arch: Arch, scale: Scale, *, auxiliary: bool = False) -> Any:
    from archduel.spaces.own.network import build_own

    return build_own(space, arch, scale, auxiliary=auxiliary)


def _count(space: OwnSpace, arch: Arch, scale: Scale) -> Counts:
    from archduel.spaces.own.network import count_own

    return count_own(space, arch, scale)


def _costs(space: OwnSpace, archs: list[Arch], scale: Scale) -> NDArray[np.float64]:
    from archduel.spaces.own.network import predicted_costs

    return predicted_costs(space, archs, scale)


def _example(space: OwnSpace, scale: Scale) -> Any:
    from archduel.spaces.own.network import example_of

    return example_of(space, scale, 1)


def _supernet(space: OwnSpace, scale: Scale) -> Any:
    from archduel.spaces.own.supernet import OwnSupernet

    return OwnSupernet(space.at_scale(scale), scale)


def _check(space: OwnSpace, scale: Scale) -> int:
    from archduel.spaces.own.network import check_options

    return check_options(space, scale)
