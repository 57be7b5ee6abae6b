"""Training recipes as files: those that come with archduel (``archduel/recipes/*.toml``) and one's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from archduel.apps.spaces import SCALES
from archduel.errors import SettingError, unknown
from archduel.training.recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ALIASES", "RecipeFile", "default_recipe", "load_recipe", "recipe_names", "summaries"]

ALIASES: Mapping[str, str] = {"darts600": "cifar_darts", "pairnas600": "cifar_relativenas", "imagenet_cnas": "imagenet_mobile_cnas"}
KEYS = {"about", "source", "spaces", "deviations", "recipe", "options"}
SETTINGS = {item.name for item in fields(Recipe)}


@dataclass(frozen=True)
class RecipeFile:
    """A recipe with what is known of it.

    Attributes:
        name: as it is asked for.
        recipe: how to train.
        about: one line.
        source: where the values are from.
        deviations: where they differ from the source.
        spaces: spaces for which ``channels`` and ``depth`` are meant; ``*`` = all; networks of other spaces are built as
            they were published.
        options: what ``nets.build`` is told, such as ``{"pool_norm": True}``, for these spaces.
    """

    name: str
    recipe: Recipe
    about: str = ""
    source: str = ""
    deviations: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def meant_for(self, space: str) -> bool:
        """Whether the recipe's width and depth are those of ``space``."""
        return space in self.spaces or "*" in self.spaces

    def with_(self, changes: Mapping[str, Any], space: str) -> Recipe:
        """Returns the recipe for a network of ``space``, with some settings changed.

        Raises:
            SettingError: for a setting that a recipe does not have, or a value out of range.
        """
        for name in changes:
            if name not in SETTINGS:
                raise SettingError(str(unknown("recipe setting", name, SETTINGS)))
        published = {}
        if not self.meant_for(space) and space in SCALES:
            published = {"channels": SCALES[space].channels, "depth": SCALES[space].depth}
        return self.recipe.with_(**{**published, **changes})


def recipe_names() -> list[str]:
    """Returns the names of the recipes that come with archduel."""
    found = (item.name for item in (files("archduel") / "recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def load_recipe(name: str) -> RecipeFile:
    """Returns the recipe called ``name``, or that in the file ``name`` (ending in ``.toml``).

    Raises:
        UnknownNameError: for a name that there is not.
        SettingError: for a file that is no recipe.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise SettingError(f"there is no recipe file {name}")
        return _read(path.stem, path.read_text(encoding="utf-8"))
    known = recipe_names()
    key = ALIASES.get(name, name)
    if key not in known:
        raise unknown("recipe", name, [*known, *ALIASES], command="archduel list recipes")
    return _read(key, (files("archduel") / "recipes" / f"{key}.toml").read_text(encoding="utf-8"))


def _read(name: str, text: str) -> RecipeFile:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"recipe {name}: not TOML ({error})") from error
    extra, settings = sorted(set(data) - KEYS), data.get("recipe", {})
    if extra or not settings:
        wrong = f"it has the keys {', '.join(extra)}" if extra else "it has no section [recipe]"
        raise SettingError(f"recipe {name}: {wrong}; expected {', '.join(sorted(KEYS))}")
    for setting in settings:
        if setting not in SETTINGS:
            raise SettingError(f"recipe {name}: {unknown('recipe setting', setting, SETTINGS)}")
    return RecipeFile(
        name,
        Recipe(**settings),
        data.get("about", ""),
        data.get("source", ""),
        tuple(data.get("deviations", ())),
        tuple(data.get("spaces", ())),
        data.get("options", {}),
    )


def default_recipe(data: str, space: str) -> str:
    """Returns the recipe that is used where none is named."""
    if data == "digits":
        return "digits"
    return "fast_cells" if space in ("darts", "darts_supercell", "") else "fast"


def summaries() -> list[str]:
    """Returns one line a recipe."""
    return [f"{name:29}{load_recipe(name).about}" for name in recipe_names()]
