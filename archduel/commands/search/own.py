"""What a search does besides where the space is a person's own: its options tried on these images, what workers can import, an export that may fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archduel import registry
from archduel.commands.int8 import export_int8
from archduel.commands.progress import Progress
from archduel.commands.search.settings import Settings
from archduel.core import Scale, Space
from archduel.data import Dataset
from archduel.errors import ExportError, RunError, SettingError
from archduel.networks.trained import export_network, open_network
from archduel.spaces.family import checked, for_scale, found_by_others, is_own
from archduel.spaces.lookup import open_space

__all__ = ["check_importable", "check_not_loading", "exported", "exported_to", "for_data", "space_asked"]

DECIDED = {"image_size", "channels", "depth", "epochs"}
"""Settings of a recipe that are those of a run, not of a network in it."""


def check_not_loading() -> None:
    """Raises RunError where a file is run because its network was looked up: it would search again and again."""
    if registry.loading():
        raise RunError(
            f"{registry.loading()} starts a search whenever its network is looked up in it; put that under `if __name__ == '__main__':`"
        )


def check_importable(settings: Settings) -> None:
    """Raises SettingError for a space that worker processes could not find."""
    if not found_by_others(settings.space):
        raise SettingError(
            f"workers import {settings.space.rpartition(':')[2]} from its file, and it is in none: it stands inside a function, or was typed into a "
            "notebook or shell; put it at the top level of a file (mine.py) and import it from there, or let networks race (time=...), in this process"
        )


def space_asked(settings: Settings) -> Space:
    """Returns the space of a run, with the settings of ``--set space.NAME``, such as ``preset=cnas``."""
    variant = settings.section("space")
    space: Space = open_space(settings.space, **variant) if variant else registry.make("space", settings.space)
    return space


def for_data(space: Space, dataset: Dataset, progress: Progress) -> Space:
    """Returns the space as it is for these images; every option of a person's own is built and run once.

    Raises:
        SettingError: naming the option that cannot be, or a decision of the recipe that is the run's.
    """
    scale = Scale(image_size=dataset.image_size, in_channels=dataset.in_channels, n_classes=dataset.n_classes)
    options = checked(space.name, scale)
    if not options:
        return for_scale(space, scale)
    found = for_scale(space, scale)
    fixed = DECIDED & {key for changes in _recipe_settings(found) for key in changes}
    if fixed:
        raise SettingError(
            f"the recipe's decision {min(fixed)!r}: all networks of a run see images of one size for times that it decides; "
            "archduel.search_space can"
        )
    progress.say(f"{found}; {options} options built and run once")
    return found


def _recipe_settings(space: Any) -> list[dict[str, Any]]:
    """Returns the settings of a recipe that a person's own space decides, a mapping for each decision or answer."""
    recipe = getattr(space, "recipe", {})
    return [changes for name, values in recipe.items() for changes in (values.values() if isinstance(values, dict) else [{name: None}])]


def exported_to(run: Path, folder: Path, *, int8: bool = False) -> Path:
    """Writes the stand-alone folder of a run's network, with an int8 network where that is asked for, and returns its path."""
    network = open_network(run)
    written = export_network(network, folder).folder
    if int8:
        export_int8(network, folder)
    return written


def exported(folder: Path, *, int8: bool = False) -> str:
    """Exports a run's network into ``export`` in its folder and returns what was checked, or why there is none.

    Args:
        folder: of the run.
        int8: whether an int8 network is written beside it.

    Raises:
        ExportError: for a network of ours that cannot be exported.
    """
    network = open_network(folder)
    try:
        summary = export_network(network, folder / "export").summary
        return f"{summary}\n  {export_int8(network, folder / 'export').summary}" if int8 else summary
    except ExportError as error:
        # a person's own forward may be more than source can be made of; the trained network is there all the same
        if not is_own(network.facts["arch"]):
            raise
        return f"no export: {error}; `archduel.load_network` opens {folder}"
