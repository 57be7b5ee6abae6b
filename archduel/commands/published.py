"""Published searches that end in a cell: BPE's, under the same name and options as those that end in a network."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archduel.commands.proxy.search import search_cell
from archduel.commands.trainings import Bench
from archduel.data import Dataset
from archduel.errors import SettingError
from archduel.estimators.timing import Stopwatch
from archduel.presets import Preset, open_preset
from archduel.reporting.text import duration
from archduel.spaces.lookup import open_space
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

__all__ = ["search_for_cell"]

OF_THE_JOB = ("seed", "metric", "device", "workers")
OF_THE_IMAGES = ("max_images", "image_size", "flip", "validation")
LABEL = "label."
"""What a setting of the cheap recipe begins with, as in a search that ends in a network."""


def search_for_cell(
    name: str, data: Any, out: Path | None, fields: Mapping[str, Any], changes: Mapping[str, Any], *, quiet: bool = False, plan: bool = False
) -> str:
    """Returns the genotype that a published search found; the same call continues an interrupted one.

    Args:
        name: of the preset.
        data: what :func:`archduel.data.load` takes.
        out: folder of the job; None = named after preset and data, below ``runs``.
        fields: settings of ``archduel search`` that were given: those of the job and its images; ``evaluations`` are trainings.
        changes: ``label.NAME`` changes the cheap recipe (``label.recipe=bpe2`` takes another), ``strategy.NAME`` the strategy,
            ``plan.masks`` the number of prunings.
        quiet: print nothing.
        plan: only say what would be done, deviations and cost included; nothing is written, and the text is empty.

    Raises:
        SettingError: for settings that this search does not have.
    """
    preset = open_preset(name)
    run = dict(preset.run)
    wrong = sorted(set(fields) - {"preset", "evaluations", *OF_THE_JOB, *OF_THE_IMAGES})
    if wrong:
        raise SettingError(f"preset {name!r} ends in a cell and has no setting {wrong[0]!r}; it has evaluations, {', '.join((*OF_THE_JOB, *OF_THE_IMAGES))}")
    images = {"validation": run.pop("validation"), **{key: fields[key] for key in OF_THE_IMAGES if key in fields}}
    if "evaluations" in fields:
        run["steps"] = fields["evaluations"]
    changes = {**preset.changes, **changes}
    run["masks"] = changes.pop("plan.masks", run.get("masks", 10))
    run["recipe"] = changes.pop(f"{LABEL}recipe", run["recipe"])
    given = {key.removeprefix(LABEL): value for key, value in changes.items()}
    job = {key: fields[key] for key in OF_THE_JOB if key in fields}
    begin = _Begin(preset, job.get("device", "cpu"), goes_on=not plan)
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside) / "plan" if plan else out or Path("runs") / f"{Path(str(data)).stem}-{name}"
        result = search_cell(data, folder, changes=given, load_settings=images, quiet=quiet, begin=begin, **run, **job)
    return str(result.get("genotype", ""))


class _Begin:
    """Says what a search is, where it differs and what it will cost, before it begins."""

    def __init__(self, preset: Preset, device: str, *, goes_on: bool) -> None:
        self.preset, self.device, self.goes_on = preset, device, goes_on

    def __call__(self, bench: Bench, dataset: Dataset, recipe: Recipe, space: str, trainings: float) -> bool:
        """Says it, and returns whether the search begins; a continued job measures nothing again."""
        for line in self.preset.introduction():
            bench.progress.say(line)

        def measured() -> dict[str, float]:
            look = dataset.preprocessing
            pixels = Pixels(dataset.train.images, dataset.train.labels, look.mean, look.std, device=self.device)
            each = Stopwatch(open_space(space), pixels, dataset.n_classes, device=self.device).seconds_per_image(recipe)
            return {"seconds": each * trainings * recipe.epochs * len(dataset.train)}

        seconds = bench.job.once("cost", measured)["seconds"]
        bench.progress.say(f"  cost       {trainings:g} trainings of {recipe.epochs:g} epochs: about {duration(seconds)} here, one after the other")
        if not self.goes_on:
            bench.progress.say("nothing was trained or written; the same command without --plan begins")
        return self.goes_on
