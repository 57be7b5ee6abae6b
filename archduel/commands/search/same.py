"""Whether a command means the run in a folder, in whatever words it says so, and whether that run still has what it finished with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from archduel.commands.dialect import usable_device
from archduel.commands.search.settings import OF_WEIGHTS, OLDER, Settings, default_settings, read_settings
from archduel.core.disk import read_toml
from archduel.core.job import JOURNAL, RUN, Job, foreign_names, read_result
from archduel.core.places import place_of, same_place
from archduel.data import Dataset
from archduel.errors import ArchduelError, DataError, RunError, SettingError
from archduel.networks.trained import folder_of, is_whole

__all__ = ["as_begun", "check_images", "data_text", "forgotten", "has_export", "has_network", "opened", "place_for", "same_words", "usual_device"]


def data_text(data: Any) -> str:
    """Returns the name or path of data; arrays or a dataset object are kept under one, so that any process can continue the run.

    Raises:
        SettingError: for an empty text, which would mean the folder one happens to be in.
    """
    if isinstance(data, (str, Path)):
        if not str(data).strip():
            raise SettingError("the data are an empty text; name a folder of images, an .npz file, or digits, cifar10, cifar100")
        return str(data)
    from archduel.data import remember

    return remember(data)


def place_for(settings: Settings) -> Path:
    """Returns the folder of a run that was given none: it follows from what is asked for, not from how that is spelled."""
    path = place_of(settings.data, Path()).get("path")
    same = settings.model_copy(update={"data": path or settings.data, "workers": 1})
    older = _name(settings)  # versions up to 0.1 took the words
    return Path("runs") / (older if (Path("runs") / older).is_dir() else _name(same))


def _name(settings: Settings) -> str:
    digest = hashlib.sha256(settings.identity().encode("utf-8", "surrogateescape")).hexdigest()[:8]
    stem = Path(settings.data.replace(":", "-")).stem or "data"
    return f"{stem}-{digest}"


def usual_device(out: Any) -> str:
    """Returns the device of a run for which none was named: that with which the run in ``out`` began, else what ``auto`` means here."""
    toml = Path(out) / RUN.file if isinstance(out, (str, Path)) else Path()
    try:
        begun = toml.is_file()
    except (OSError, ValueError):  # no name of a folder: said where the run is opened
        begun = False
    if begun:
        return str(read_toml(toml).get("run", {}).get("device", default_settings()["device"]))
    return usable_device("auto")


def opened(path: Path, settings: Settings, command: str, gone: float) -> Job:
    """Returns the run in ``path``, opened or begun.

    Raises:
        RunError: for a folder that is in use, cannot be written, or holds something else or other settings.
    """
    settings = as_older(path, settings)
    asked = {"run": settings.model_dump(), "place": place_of(settings.data, path) or None}
    try:
        return Job(path, RUN, asked, command=command, defaults={"run": default_settings()}, gone=gone)
    except RunError as error:
        more = _more_time(path, settings)
        if more > 0:
            raise RunError(f"{error}; --time +{more:g}s trains the network of this one on") from error
        raise


def _more_time(path: Path, settings: Settings) -> float:
    """Returns by how many seconds a command that differs in nothing else asks for more than the finished race in ``path`` had; 0 for others."""
    try:
        result, before = read_result(path), read_settings(path)
    except ArchduelError:
        return 0.0
    given = before.model_copy(update={"seconds": settings.seconds, "data": settings.data, "workers": settings.workers})
    if result is None or "race" not in result or given != settings or not _same_data(before, settings, path):
        return 0.0
    return 0.0 if before.seconds is None or settings.seconds is None else settings.seconds - before.seconds


def as_older(path: Path, settings: Settings) -> Settings:
    """Returns the settings with what a run of an older version in ``path`` did where the command leaves the choice to the run."""
    toml = path / "run.toml"
    if settings.start != "auto" or not toml.is_file() or "start" in read_toml(toml).get("run", {}):
        return settings
    return settings.model_copy(update=OLDER)


def forgotten(folder: Job) -> None:
    """Removes a run that this call began and that trained nothing: a mistake leaves nothing behind. A folder that held anything of weight before stays.

    Args:
        folder: closed afterwards.
    """
    kept = folder.has_paid or not folder.begun_now
    folder.close()
    ours = {RUN.file, JOURNAL, ".lock"}
    if kept or set(foreign_names(folder.path)) - ours:
        return
    for name in ours:
        (folder.path / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.path.rmdir()


def as_begun(folder: Job, settings: Settings) -> Settings:
    """Returns the settings that decide a run's results: the number of workers it began with, for what must repeat exactly.

    How many a window asks for, and how many threads a race in evaluations trains with, follows from it.
    """
    return settings.model_copy(update={"workers": read_settings(folder.path).workers})


def same_words(folder: Job, settings: Settings) -> bool:
    """Returns whether a command's data lie where the run's do, so that nothing has to be read to know that they are the same."""
    return _same_data(read_settings(folder.path), settings, folder.path)


def _same_data(before: Settings, settings: Settings, path: Path) -> bool:
    return same_place(before.data, settings.data, {}, path)


def check_images(folder: Job, dataset: Dataset, loading: Mapping[str, Any]) -> None:
    """Refuses to continue on other images, and notes which ones a new run uses, and within which limits they were loaded."""
    first = folder.noted("data")
    if first is None:
        limits = {name: loading[name] for name in OF_WEIGHTS if name in loading}
        folder.note("data", fingerprint=dataset.fingerprint, warnings=list(dataset.warnings), skipped=dict(dataset.skipped), limits=limits)
    elif first["fingerprint"] != dataset.fingerprint:
        raise DataError(
            f"{dataset.name} has changed since the run began, or is another data set (fingerprint {dataset.fingerprint[:12]}, was "
            f"{first['fingerprint'][:12]}); start a new run with another --out"
        )


def has_network(folder: Job) -> bool:
    """Returns whether the network of a finished run is there as it was written; of one that was trained on later nothing else is left."""
    winner = (folder.result or {}).get("networks", {}).get("search", {})
    return "folders" not in winner or folder.noted("more") is not None or is_whole(folder_of(folder.path))


def has_export(folder: Job) -> bool:
    """Returns whether a finished run was handed over and its export and report are still there."""
    names = ("export/model.py", "export/model.safetensors", "export/labels.json", "export/predict.py", "report.html")
    return folder.noted("handed over") is not None and all((folder.path / name).is_file() for name in names)
