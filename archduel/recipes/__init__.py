"""Training recipes by name, from a file or from a mapping: the one reader of all commands.

A name is that of a TOML file in this folder, or another name of it (``ALIASES``). A file of one's own is TOML or JSON: settings
below ``recipe`` with what is known of them beside it, or settings alone. What a command wrote is read too: the recipes of
``archduel proxy find`` and the ``train.toml`` and ``model.json`` of a trained network.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from archduel.core.disk import write_atomic
from archduel.errors import SettingError, UnknownNameError, brief, unknown
from archduel.spaces.lookup import scale_of
from archduel.training.recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ALIASES", "RecipeFile", "Source", "base_recipe", "changed", "default_recipe", "fitted", "names", "open_recipe", "read", "summaries", "write_recipe"]

Source = str | os.PathLike[str] | Mapping[str, Any] | Recipe
"""Where a recipe is from: a name, a ``.toml`` or ``.json`` file, the content of such a file, or the recipe itself."""

ALIASES: Mapping[str, str] = {
    "darts600": "cifar_darts",
    "full": "cifar_darts",
    "imagenet_cnas": "imagenet_mobile_cnas",
    "pairnas600": "cifar_relativenas",
}
"""Other names of recipes: those of the papers' texts and of BPE's settings."""

KEYS = {"about", "source", "spaces", "deviations", "recipe", "options", "elsewhere"}
SETTINGS = {item.name for item in fields(Recipe)}


@dataclass(frozen=True)
class RecipeFile:
    """A recipe with what is known of it.

    Attributes:
        name: as it is asked for; of a file its stem.
        settings: of the recipe, as they were written; the rest are the defaults of :class:`Recipe`.
        about: one line.
        source: where the values are from.
        deviations: where they differ from the source.
        spaces: spaces for which ``channels`` and ``depth`` are meant; ``*`` = all.
        elsewhere: settings that differ for networks of other spaces; None = these are as wide and deep as they were published.
        options: what networks of these spaces are built with, such as ``{"pool_norm": True}``.
    """

    name: str
    settings: Mapping[str, Any]
    about: str = ""
    source: str = ""
    deviations: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    elsewhere: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The recipe as it was written."""
        return Recipe(**self.settings)

    def meant_for(self, space: str) -> bool:
        """Whether the recipe's width and depth are those of ``space``."""
        return space in self.spaces or "*" in self.spaces

    @property
    def built_with(self) -> dict[str, dict[str, Any]]:
        """Space -> options of its networks, for the spaces that the recipe was made for."""
        return {space: dict(self.options) for space in self.spaces if self.options and space != "*"}

    def with_(self, changes: Mapping[str, Any], space: str) -> Recipe:
        """Returns the recipe for a network of ``space``, with some settings changed.

        Raises:
            UnknownNameError: for a setting that a recipe does not have.
            SettingError: for a value out of range.
        """
        return changed(self.recipe, {**self._adapted(space), **changes})

    def _adapted(self, space: str) -> Mapping[str, Any]:
        """Returns what differs for networks of ``space``."""
        if self.meant_for(space):
            return {}
        if self.elsewhere is not None:
            return self.elsewhere
        if not space:
            return {}
        # A file that names no spaces means its width and depth for all of them, where it says any.
        written = () if self.spaces else self.settings
        published = scale_of(space, {})
        return {name: getattr(published, name) for name in ("channels", "depth") if name not in written}


# -- Names ---------------------------------------------------------------------------------------------------------------


@cache
def _shipped() -> tuple[str, ...]:
    return tuple(sorted(item.name.removesuffix(".toml") for item in files(__name__).iterdir() if item.name.endswith(".toml")))


def names() -> list[str]:
    """Returns every name that :func:`read` takes, in alphabetical order."""
    return sorted((*_shipped(), *ALIASES))


def summaries() -> list[str]:
    """Returns one line a name: what the recipe is, or of which it is another name."""
    return [f"{name:29}{f'the same as {ALIASES[name]}' if name in ALIASES else open_recipe(name).about}" for name in names()]


def default_recipe(data: str, space: str) -> str:
    """Returns the name of the recipe that is used where none is given; ``space`` is empty for a genotype without a space."""
    if data in _shipped():
        return data
    cells = "fast_cells"
    return cells if not space or open_recipe(cells).meant_for(space) else "fast"


# -- Reading -------------------------------------------------------------------------------------------------------------


def read(source: Source, space: str = "darts", changes: Mapping[str, Any] | None = None) -> Recipe:
    """Returns the recipe of a name, file or mapping for networks of ``space``, with some settings changed.

    Raises:
        UnknownNameError: for a name that there is not, or a setting that recipes do not have.
        SettingError: for a file that is no recipe, or a value out of range.
    """
    return open_recipe(source).with_(changes or {}, space)


def open_recipe(source: Source) -> RecipeFile:
    """Returns the recipe of a name, file or mapping with what is known of it.

    Raises:
        UnknownNameError: for a name that there is not.
        SettingError: for a file that is no recipe.
    """
    if isinstance(source, Recipe):
        return _parsed("recipe", asdict(source))
    if isinstance(source, Mapping):
        return _parsed("recipe", source)
    if not isinstance(source, (str, os.PathLike)):
        raise SettingError(f"recipe is {brief(source)}, expected a name, a file or a mapping of settings")
    path = Path(source)
    if path.suffix in (".toml", ".json"):
        return _parsed(path.stem, _content(path))
    name = str(source)
    if name not in names():
        raise unknown("recipe", name, names(), command="archduel list recipes")
    return _named(ALIASES.get(name, name))


@cache
def _named(name: str) -> RecipeFile:
    return _parsed(name, tomllib.loads((files(__name__) / f"{name}.toml").read_text(encoding="utf-8")))


def _content(path: Path) -> Mapping[str, Any]:
    """Returns what a file holds.

    Raises:
        SettingError: for a file that cannot be read, or that holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SettingError(f"there is no recipe file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"recipe file {path} cannot be read: {error}") from error
    form = path.suffix[1:].upper()
    try:
        content = tomllib.loads(text) if form == "TOML" else json.loads(text)
    except (ValueError, RecursionError) as error:  # both kinds of decoding error are one; nested deeper than any recipe
        raise SettingError(f"recipe {path}: not {form} ({error})") from error
    if not isinstance(content, Mapping):
        raise SettingError(f"recipe {path}: expected an object of recipe settings, got {type(content).__name__}")
    return content


def _parsed(name: str, content: Mapping[str, Any]) -> RecipeFile:
    """Returns the recipe of a file's content.

    Raises:
        SettingError: for content that is no recipe.
    """
    if any(not isinstance(key, str) for key in content):
        raise SettingError(f"recipe {name}: its keys must be texts, got {brief(next(key for key in content if not isinstance(key, str)))}")
    if content and set(content) <= SETTINGS:
        return RecipeFile(name, _checked(name, content), spaces=("*",))
    settings = content.get("recipe")
    if not isinstance(settings, Mapping) or not settings:
        extra = sorted(set(content) - KEYS)
        wrong = f"it has the keys {', '.join(extra)}" if extra else "it has no section [recipe]"
        raise SettingError(f"recipe {name}: {wrong}; expected {', '.join(sorted(KEYS))}, or recipe settings alone")
    if "name" in settings:
        return _recorded(name, settings)
    if extra := sorted(set(content) - KEYS):
        raise SettingError(f"recipe {name}: it has the keys {', '.join(extra)}; expected {', '.join(sorted(KEYS))}")
    elsewhere = content.get("elsewhere")
    return RecipeFile(
        name,
        _checked(name, settings),
        content.get("about", ""),
        content.get("source", ""),
        tuple(content.get("deviations", ())),
        tuple(content.get("spaces", ())),
        None if elsewhere is None else _checked(name, elsewhere),
        content.get("options", {}),
    )


def _recorded(name: str, settings: Mapping[str, Any]) -> RecipeFile:
    """Returns the recipe that a trained network's record names and spells out; the rest of the record is about the network.

    How wide and deep the network was is part of it, whatever the space. Options, which a record keeps with the network, are those
    of the recipe that it names.
    """
    values = {key: value for key, value in settings.items() if key not in ("name", "source")}
    known = open_recipe(settings["name"]) if settings["name"] in names() else RecipeFile(name, {})
    return replace(known, name=name, settings=_checked(name, values), source=settings.get("source", known.source), elsewhere={})


def _checked(name: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the settings, which make a recipe.

    Raises:
        SettingError: that names the recipe, for a setting or value that recipes do not have.
    """
    try:
        changed(Recipe(), settings)
    except (SettingError, UnknownNameError) as error:
        raise SettingError(f"recipe {name}: {error}") from error
    return settings


def write_recipe(recipe: Recipe, path: Path) -> Path:
    """Writes a recipe so that ``--recipe FILE`` reads it; returns the path."""
    write_atomic(path, json.dumps(asdict(recipe), indent=1).encode() + b"\n")
    return path


# -- Changing ------------------------------------------------------------------------------------------------------------


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Returns ``recipe`` with some settings changed.

    Raises:
        UnknownNameError: for a setting that recipes do not have.
        SettingError: for a value that it cannot have.
    """
    for name in changes:
        if name not in SETTINGS:
            raise unknown("recipe setting", name, SETTINGS)
    return recipe.with_(**changes) if changes else recipe


def base_recipe(n_train: int, image_size: int, flip: bool, space: str) -> Recipe:
    """Returns the settings that all recipes of a search share, chosen from the images.

    Args:
        n_train: training images.
        image_size: their side in pixels.
        flip: whether they may be mirrored.
        space: of the networks.
    """
    return read("search", space).with_(
        batch_size=64 if n_train < 4000 else 128,  # a small set would see too few steps an epoch
        crop_pad=max(1, image_size // 8),  # 4 px at 32 px, as in CIFAR training, in proportion
        flip=flip,
        image_size=image_size,
    )


def fitted(recipe: Recipe, image_size: int, flip: bool) -> tuple[Recipe, list[str]]:
    """Returns the recipe for these images, and what was changed in words.

    Images are never made larger, crops keep their share of the image, and images that may not be mirrored are not.

    Args:
        recipe: made for other images.
        image_size: side of the images at hand in pixels.
        flip: whether they may be mirrored.
    """
    changes: dict[str, Any] = {}
    if recipe.image_size > image_size:
        ratio = image_size / recipe.image_size
        changes = {"image_size": image_size, "crop_pad": round(recipe.crop_pad * ratio), "cutout": round(recipe.cutout * ratio)}
    if recipe.flip and not flip:
        changes["flip"] = False
    changes = {name: value for name, value in changes.items() if getattr(recipe, name) != value}
    notes = [f"{name} {getattr(recipe, name)} became {value} for these images" for name, value in changes.items()]
    return recipe.with_(**changes), notes
