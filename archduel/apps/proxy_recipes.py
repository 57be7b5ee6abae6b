"""Recipes from names, files and settings, and how one made for other images is fitted to these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from archduel.apps.recipes import ALIASES, load_recipe, recipe_names
from archduel.core.checkpoint import write_atomic
from archduel.data import Dataset
from archduel.errors import RunError, SettingError, unknown
from archduel.training.recipe import RECIPES, Recipe

__all__ = ["changed", "depth_of", "fitted", "read_recipe", "recipe_text", "text_recipe", "write_recipe"]

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


def recipe_text(recipe: Recipe) -> str:
    """Returns what differs from the default recipe as JSON; :func:`text_recipe` reads it, also in another process."""
    usual = asdict(Recipe())
    return json.dumps({name: value for name, value in asdict(recipe).items() if value != usual[name]}, sort_keys=True)


def text_recipe(text: str) -> Recipe:
    """Returns the recipe that :func:`recipe_text` wrote.

    Raises:
        SettingError: for other text.
    """
    try:
        return Recipe(**json.loads(text))
    except (TypeError, ValueError) as error:
        raise SettingError(f"{text!r} is not a recipe: {error}") from error
