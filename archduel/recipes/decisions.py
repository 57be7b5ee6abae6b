"""Decisions of the training recipe, searched together with those of the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from archduel.errors import SettingError, unknown
from archduel.spaces.own.space import OwnSpace, nothing
from archduel.training.recipe import Recipe

__all__ = ["recipe_space"]


def recipe_space(**options: Iterable[Any] | Mapping[str, Mapping[str, Any]]) -> OwnSpace:
    """Returns decisions of a training recipe; ``space_of(Mine) + recipe_space(lr=[0.1, 0.05])`` asks them beside those of the network.

    Args:
        **options: setting of :class:`archduel.training.Recipe` -> values to choose from; or any other name -> several settings at once,
            such as ``augment={"plain": {"cutout": 0}, "cutout": {"cutout": 8, "flip": True}}``. The first one is what is usual.

    Raises:
        SettingError: for a setting that recipes do not have, or a value that it does not take.
    """
    if not options:
        raise SettingError("recipe_space needs a setting: recipe_space(lr=[0.1, 0.05])")
    table: dict[str, Any] = {}
    for name, values in options.items():
        if isinstance(values, Mapping):
            table[name] = {label: dict(changes) for label, changes in values.items()}
            for changes in table[name].values():
                _check(changes)
        else:
            table[name] = list(values)
            for value in table[name]:
                _check({name: value})
    return OwnSpace(nothing, name="recipe", recipe=table)


def _check(changes: Mapping[str, Any]) -> None:
    known = {item.name for item in fields(Recipe)}
    for name in changes:
        if name not in known:
            raise SettingError(str(unknown("setting of a recipe", name, known)))
    Recipe(**{"crop_pad": 0, **changes} if "crop_scale" in changes else dict(changes))
