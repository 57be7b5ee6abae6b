"""What a search would do, said before anything is written or trained: `archduel search --plan`; and going on from a folder alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from archduel import registry
from archduel.commands.journals import going_on
from archduel.commands.progress import Progress, duration
from archduel.commands.search.after import check_time, reserve
from archduel.commands.search.announce import say_images
from archduel.commands.search.audit import check_audit
from archduel.commands.search.earlier import check_earlier
from archduel.commands.search.known import (
    backbones_at_hand,
    check_known,
    scratch_side,
    unsuitable,
)
from archduel.commands.search.own import for_data, space_asked
from archduel.commands.search.race import check_latency, check_settings_of_race, constraint_of, further_limit
from archduel.commands.search.run import planned_without_race, races, search, with_budget
from archduel.commands.search.settings import (
    Settings,
    asks_known,
    load_arguments,
    make_settings,
    read_settings,
)
from archduel.commands.search.strategy import check_settings
from archduel.core.job import JOURNAL
from archduel.core.storage import read_journal
from archduel.data import Dataset, load
from archduel.errors import InfeasibleError, elsewhere
from archduel.race.plan import timed_plan
from archduel.reporting.text import compact

__all__ = ["plan", "resume"]


def plan(data: str, *, audit: Any = None, track: str = "", quiet: bool | None = None, **values: Any) -> None:
    """Prints the plan of a search: images, budget, limits, what takes part. Writes and trains nothing, except steps that are timed.

    Args:
        data: as for :func:`archduel.search`.
        audit: likewise.
        track: likewise.
        quiet: print nothing: only errors in what was asked for are told.
        **values: settings of the search.

    Raises:
        ArchduelError: one of its kinds for data, settings, limits or a budget that cannot be used.
    """
    settings, progress = with_budget(make_settings(data=data, **values)), Progress(quiet=quiet)
    check_audit(audit, settings, race=races(settings), say=progress.say)
    if track:
        registry.entry("tracker", track)
    check_settings(settings)
    if races(settings):
        check_settings_of_race(settings)
        check_time(settings.seconds, 0.0)
    check_earlier(settings, space_asked(settings))
    dataset = load(settings.data, progress=progress.reading, **load_arguments(settings))
    progress.end()
    say_images(progress, settings, dataset)
    if not races(settings):
        with tempfile.TemporaryDirectory() as folder:
            planned_without_race(Path(folder), settings, dataset, progress)
    else:
        for line in _race_lines(settings):
            progress.say(line)
        names: list[str] = []
        if asks_known(settings):
            names = backbones_at_hand(settings)
            reason = unsuitable(settings, dataset, names)
            others = "" if settings.start == "pretrained" else ", and networks from scratch"
            progress.say(f"  start      {f'from scratch; {reason}' if reason else 'parts of ' + ', '.join(names) + others}")
            names = [] if reason else names
        _check_limits(settings, dataset, names, progress)
    for line in _limit_lines(settings):
        progress.say(line)
    progress.say("nothing was trained or written; the same command without --plan begins")


def _check_limits(settings: Settings, dataset: Dataset, known: list[str], progress: Progress) -> None:
    """Raises InfeasibleError for limits that would end the search: of ``known`` backbones no part is within them, and no untrained network."""
    space, side = for_data(space_asked(settings), dataset, progress), scratch_side(settings, dataset)
    if settings.start != "pretrained":
        constraint_of(settings, space, dataset, side)
    try:
        if known:
            check_known(settings, dataset, known, further_limit(settings))
    except InfeasibleError:
        if settings.start == "pretrained":
            raise
        known = []
    if not known:
        check_latency(settings, space, dataset, side)


def _race_lines(settings: Settings) -> list[str]:
    """Returns what a race does with its budget."""
    at_once = f"{settings.workers} thread{'s' * (settings.workers != 1)}"
    where = f"on {settings.device}{', ' + at_once if settings.device == 'cpu' else ''}"
    spaces = settings.space if settings.beside is None else f"{settings.space} and {settings.beside}"
    if settings.seconds is None:
        return [f"a race of {settings.evaluations} networks of {spaces} {where}; it repeats exactly"]
    front = settings.objectives and ("all members" if settings.front is None else f"{settings.front} members")
    last = f"{front} of the front of {', '.join(settings.objectives)}" if settings.objectives else "the network that is handed over"
    forecast = timed_plan(settings.seconds, gone=0.0, reserve=reserve(settings.seconds))
    number = max(2, round(forecast.rungs.level / forecast.rungs.first))
    return [
        f"a race of {duration(settings.seconds)} {where}:",
        f"  newcomers  about {number} networks of {spaces} that {settings.strategy} asks for, {duration(forecast.rungs.first)} of training each at first",
        f"  race       until {duration(forecast.race_until)}; the strong go on from the weights that they have",
        f"  last       about {duration(forecast.last)} for {last}, then test, export and report",
    ]


def _limit_lines(settings: Settings) -> list[str]:
    """Returns the limits, one line for all; none where there are none."""
    most = {"parameters": settings.max_params, "multiply-adds": settings.max_macs}
    said = [f"{compact(value)} {name}" for name, value in most.items() if value is not None]
    if settings.max_latency_ms is not None:
        where = f"on {settings.device_latency.partition('@')[0]} (upper bound)" if settings.device_latency else "here"
        said.append(f"{settings.max_latency_ms:g} ms {where}")
    bits = "8 bits" if settings.int8 else "32 bits"
    said += [f"{value / 1000:,g} kB of {name} in {bits}" for name, value in (("RAM", settings.max_ram), ("flash", settings.max_flash)) if value is not None]
    return [f"  limits     at most {', '.join(said)}"] if said else []


def resume(folder: Path, *, quiet: bool | None = None, command: str = "archduel.resume", gone: float = 0.0) -> None:
    """Goes on with the search in a folder, with the settings that it began with; nothing where it is finished.

    Args:
        folder: of the run.
        quiet: print nothing; None = print where a person watches, in a terminal or a notebook.
        command: how it was asked for, for the record.
        gone: seconds that have passed since, and count.

    Raises:
        ArchduelError: one of its kinds; :class:`RunError` for a folder without a run.
    """
    settings = read_settings(folder)
    given = settings.model_dump()
    data, seconds = given.pop("data"), given.pop("seconds")
    more = going_on(read_journal(folder / JOURNAL) if (folder / JOURNAL).is_file() else [])
    if given["device"].startswith("cuda") and races(settings):
        given["workers"] = 1  # a race on a GPU could be given more, and did nothing with them
    with elsewhere("if the images were moved, repeat the run's command with the place where they are now"):
        search(data, time=seconds if more is None else f"+{more['seconds']:g}s", out=folder, quiet=quiet, command=command, gone=gone, **given)
