"""Training recipes as files: those that come with archduel (``archduel/recipes/*.toml``) and one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from archduel.core.storage import write_atomic
from archduel.data import Dataset
from archduel.errors import RunError, SettingError, unknown
from archduel.spaces.lookup import scale_of
from archduel.training.recipe import RECIPES, Recipe

__all__ = ["ALIASES", "RecipeFile", "base_recipe", "changed", "default_recipe", "depth_of", "fitted", "load_recipe", "read_recipe", "recipe_names", "summaries", "write_recipe"]


def base_recipe(dataset: Dataset, space: str) -> Recipe:
    """Returns the settings that all recipes of a run share, chosen from the images."""
    size = dataset.image_size
    return Recipe(
        batch_size=64 if len(dataset.train) < 4000 else 128,
        lr=0.05 if space == "darts" else 0.1,
        weight_decay=5e-4,
        label_smoothing=0.1,
        warmup_epochs=0.5,
        crop_pad=max(1, size // 8),
        flip=dataset.flip,
        image_size=size,
    )


if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
        if not self.meant_for(space) and space:
            published = {"channels": scale_of(space, {}).channels, "depth": scale_of(space, {}).depth}
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


# -- Recipes from names, files and settings, and how one made for other images is fitted to these -----------------------


LAYERED = ("bpe1", "bpe2", "darts_search", "full")
"""Named recipes whose depth counts the cells of a DARTS network."""


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Returns ``recipe`` with some settings changed.

    Raises:
        UnknownNameError: for a setting that recipes do not have.
        SettingError: for a value that it cannot have.
    """
    known = {field.name for field in fields(Recipe)}
    for name in changes:
        if name not in known:
            raise unknown("setting of a recipe", name, known)
    return recipe.with_(**changes) if changes else recipe


def read_recipe(name: str, space: str = "darts") -> Recipe:
    """Returns the recipe called ``name`` (one of ``RECIPES``, or a recipe that comes with archduel), or that of a file.

    The depth of the named recipes counts the cells of a DARTS network; in other spaces it is translated (:func:`depth_of`).

    Raises:
        UnknownNameError: for a name that is not on the menu.
        RunError: for a file that is no recipe.
    """
    path = Path(name)
    if name in RECIPES:
        recipe = RECIPES[name]
        return recipe.with_(depth=depth_of(recipe.depth, space)) if name in LAYERED else recipe
    if path.suffix != ".json":
        if path.suffix != ".toml" and name not in (*recipe_names(), *ALIASES):
            raise unknown("recipe", name, [*RECIPES, *recipe_names()])
        return load_recipe(name).with_({}, space)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return changed(Recipe(), values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} is not a recipe: {error}; expected a JSON object of recipe settings") from error


def write_recipe(recipe: Recipe, path: Path) -> Path:
    """Writes a recipe so that ``--recipe FILE`` reads it; returns the path."""
    write_atomic(path, json.dumps(asdict(recipe), indent=1).encode() + b"\n")
    return path


def depth_of(layers: int, space: str) -> int:
    """Returns the depth at which ``space`` has about ``layers`` cells: two of a DARTS network's reduce, the rest are stages.

    ``nasbench201`` with 6 layers has one cell in each of three stages and two reductions, with 16 layers five.
    """
    if space in ("darts", "darts_supercell"):
        return layers
    return max(1, round((layers - 2) / 3))


def fitted(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, list[str]]:
    """Returns the recipe for these images, and what was changed in words.

    Images are never made larger, crops keep their share of the image, and images that may not be mirrored are not.
    """
    changes: dict[str, Any] = {}
    if recipe.image_size > dataset.image_size:
        ratio = dataset.image_size / recipe.image_size
        changes = {"image_size": dataset.image_size, "crop_pad": round(recipe.crop_pad * ratio), "cutout": round(recipe.cutout * ratio)}
    if recipe.flip and not dataset.flip:
        changes["flip"] = False
    changes = {name: value for name, value in changes.items() if getattr(recipe, name) != value}
    notes = [f"{name} {getattr(recipe, name)} became {value} for these images" for name, value in changes.items()]
    return recipe.with_(**changes), notes
