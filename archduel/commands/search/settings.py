"""What a run was asked to do: checked once, written to run.toml, compared when the run is continued."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from archduel import registry
from archduel.assemble import declaration
from archduel.commands.options import plain_value
from archduel.commands.search.objectives import checked_objectives
from archduel.core.disk import read_toml
from archduel.core.places import found_again
from archduel.errors import RunError, SettingError, as_number, brief, unknown
from archduel.execution.cluster import cluster_address
from archduel.execution.devices import ALL
from archduel.presets import open_preset
from archduel.spaces.limits import DeviceLimit
from archduel.text import typed

__all__ = [
    "OF_WEIGHTS", "SHORTEST", "Settings", "asks_known", "default_settings", "load_arguments", "make_settings", "may_know", "read_settings", "settings_in", "too_short",
    "usual_space",
]  # fmt: skip


class Settings(BaseModel):
    """All that decides what a run does (file ``run.toml``, section ``run``).

    A field's description is the help of its option of ``archduel search``; ``None`` leaves the choice to the run. Beside
    those:

    Attributes:
        seconds: of the whole run (``--time``), None without a limit of time.
        threads: of each training.
        set: further settings (``--set``), ``{"strategy.lr": 1e-4}``; see :meth:`section`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The order is part of the name of a run that was given no folder (a digest of the JSON): never reorder.
    data: str = Field(description="folder of images (one subfolder a class), .npz file, or digits, cifar10, cifar100")
    space: Annotated[str, Field(description="which networks there are to choose from: `archduel list spaces`; default whole networks for a race, else cells")] = "nasbench201"
    strategy: Annotated[str, Field(description="how the search goes: `archduel list strategies`; default ctnas, with several objectives best")] = "ctnas"
    ranker: Annotated[str, Field(description="what compares networks, in strategies that have a ranker: `archduel list rankers`; default nac, with several objectives gp")] = "nac"
    seconds: float | None = Field(None, gt=0)
    evaluations: int | None = Field(None, ge=4, description="number of cheap trainings; alone it makes runs repeat exactly")
    max_params: int | None = Field(None, gt=0, description="most parameters: 500k, 1M")
    max_macs: int | None = Field(None, gt=0, description="most multiply-adds for one image: 20M")
    max_latency_ms: float | None = Field(None, gt=0, description="most milliseconds a batch: measured here, or with --device-latency the upper bound for that device")
    latency_batch: int = Field(1, ge=1, description="images a batch when latency is measured")
    image_size: int | None = Field(None, ge=8, le=1024, description="side in pixels; default chosen from the images")
    max_images: int | None = Field(None, ge=20, description="use at most so many images")
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1"] = Field("accuracy", description="what counts as good")
    rank_by: Literal["likelihood", "metric"] = Field("likelihood", description="what networks are chosen by: the likelihood of the right classes, or the metric")
    size_belief: float = Field(0.5, ge=0, description="how much larger networks are believed to gain from longer training; 0 = not")
    seed: int = Field(0, ge=0, description="seed of everything")
    final_seeds: int = Field(3, ge=1, le=20, description="trainings of each final network")
    flip: bool | None = Field(None, description="mirrored images keep their class; default yes, no for digits")
    baselines: bool = Field(True, description="train random search's and a standard network for comparison")
    device: str = Field("cpu", description="auto (cuda where it is, else cpu; a run goes on where it began), cpu, cuda (all visible GPUs, one process each), cuda:1")
    workers: int = Field(1, ge=1, le=256, description="trainings at a time; default one a core, one on each GPU")
    threads: int = Field(1, ge=1)
    race: bool | None = Field(
        None,
        description="networks race for the hand-over, and the winner gets most of the time; else search, random search and a standard "
        "network are trained alike and compared; default a race, unless there are evaluations or shared weights",
    )
    set: dict[str, Any] = Field(default_factory=dict)
    start: Literal["auto", "pretrained", "scratch"] = Field(
        "auto", description="what a race begins with: parts of networks that know images, untrained ones, or both, and validation decides (auto)"
    )
    beside: str | None = Field(None, description="a further space whose networks race beside those of `space`; default `stages` beside `tiny` under limits of RAM or flash")
    backbones: str | None = Field(None, description="which pretrained networks: `archduel backbones list`, commas between; default those whose weights are here")
    max_ram: int | None = Field(None, gt=0, description="most RAM for activations on the device: 64kB, 0.5MB, 64KiB")
    max_flash: int | None = Field(None, gt=0, description="most flash for the network's file on the device: 128kB, 1MB")
    objectives: list[str] | None = Field(None, description="what is weighed: accuracy and some of params, macs, latency_ms, ram, flash")
    front: int | None = Field(None, ge=1, description="with several objectives: how many members of the front are trained to the end; default all")
    int8: bool = Field(False, description="one byte a number on the device instead of four; the export has an int8 network too")
    validation: float | None = Field(None, gt=0, lt=1, description="share of the training images for validation, where the data have no such split; default a tenth to a fifth")
    preset: str | None = Field(None, description="a published search as it was, whatever it costs: `archduel list presets`; other options change it")
    prior: str | None = Field(
        None, description="what an earlier search knows: its run folder, or a table of the space (NAME:60 = 60 of its labels); + between several"
    )
    device_latency: str | None = Field(None, description="the device that --max-latency-ms is about: `archduel device list`; default this one")
    executor: str = Field(
        "processes", description="where networks are trained: processes (of this machine), local (this process), "
        "folder (whoever joins the run: `archduel worker`), ray (the cluster of RAY_ADDRESS, else this machine) or ray://HOST:PORT"
    )
    window: int | None = Field(None, ge=1, description="networks that are asked for at a time; default twice the workers")
    cpus_per_task: float | None = Field(None, ge=0, description="with --executor ray: CPUs that a training takes of its node, as Ray counts them; default 1")
    gpus_per_task: float | None = Field(None, ge=0, description="with --executor ray: GPUs that a training takes, 0.5 = two share one; default 1 with --device cuda, else 0")

    def identity(self) -> str:
        """Returns the JSON that a run without a folder is named by; settings that came later and are left at their defaults are not in it."""
        later = {name for name in LATER if getattr(self, name) == Settings.model_fields[name].default}
        return self.model_dump_json(exclude=later)

    @property
    def executor_kind(self) -> str:
        """The executor without an address: ``ray`` for ``ray://head:10001``."""
        return "ray" if self.executor.startswith("ray://") else self.executor

    @property
    def gpus_each(self) -> float:
        """GPUs that a task takes of a Ray cluster."""
        return (1.0 if self.device.startswith("cuda") else 0.0) if self.gpus_per_task is None else self.gpus_per_task

    @property
    def device_limit(self) -> DeviceLimit:
        """RAM and flash that there are for the network."""
        return DeviceLimit(self.max_ram, self.max_flash, self.int8)

    def section(self, name: str) -> dict[str, Any]:
        """Returns the ``--set`` values of one section: ``strategy.lr=1e-4`` gives ``{"lr": 1e-4}`` for ``strategy``."""
        start = f"{name}."
        return {key[len(start) :]: value for key, value in self.set.items() if key.startswith(start)}


OLDER = {"start": "scratch"}
"""What runs of an older version did, where that is not today's default."""
LATER = ("start", "backbones", "max_ram", "max_flash", "objectives", "front", "int8", "validation", "preset", "prior", "device_latency", "beside", "executor", "window", "cpus_per_task", "gpus_per_task")
"""Settings that runs of an older version have no say in."""
KNOWN_SIDE, SIDE_IN_A_SECOND = 128, 16.0
"""Pixels that images keep where pretrained networks may look at them, whatever the time, for in fewer they see little; and times the root of the
seconds that there are: 6,000 images are shown at 128 px in a minute or so, and at 224 px in three to four."""
SHORTEST = 30.0
"""Seconds of a race from which on ``auto`` looks at pretrained networks: before, loading them is most of the time."""
LEAST_TESTED, TESTED_A_SECOND = 2_000, 5
"""Test images that such a run reads at most, and at most for each second that it has: of 10,000 in 128 px a published network says what it sees in 54 s,
which would be a third of the training of three minutes. Of 2,000 an accuracy is known to a point or so; `archduel eval` reads all."""
OF_WEIGHTS = ("least", "tested")
"""Arguments of loading images that depend on whether weights of pretrained networks are here."""
SECTIONS = ("space", "strategy", "ranker", "policy", "supernet", "label", "reevaluate", "final", "plan", "race", "executor")
EXECUTORS = ("processes", "local", "folder", "ray")
OF_EXECUTORS = {"beat": ("folder",), "lease": ("folder",), "limit": ("processes", "folder", "ray"), "patience": ("ray",)}
"""Names that ``--set executor.NAME`` takes, and which executors have a use for them: seconds, see ``docs/many_machines.md``."""


def default_workers(device: str, *, races: bool = False) -> int:
    """Returns how many trainings run side by side: one a core on the CPU, one on each GPU that the name means; a race trains on one."""
    if device.startswith("cuda"):
        if races or device != ALL:
            return 1
        from archduel.training.runtime import visible_devices

        return visible_devices(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores))


def default_settings() -> dict[str, Any]:
    """Returns the defaults: what a run of an older version did that says nothing of a setting."""
    fields = Settings.model_fields.items()
    return {name: field.get_default(call_default_factory=True) for name, field in fields if not field.is_required()} | OLDER


def _may_race(values: Mapping[str, Any]) -> bool:
    """Whether a run with these settings will be a race, see :attr:`Settings.race`."""
    if values.get("race") is not None:
        return bool(values["race"])
    return "evaluations" not in values and declaration(str(values.get("strategy", Settings.model_fields["strategy"].default))).kind != "one-shot"


def usual_space(races: bool, *, small: bool = False, whole: str = "stages", smallest: str = "tiny", cells: str = "nasbench201") -> str:
    """Returns where is searched if nobody says it: whole networks for a race, whose outline matters most in little time; else cells.

    Args:
        races: whether it is a race.
        small: whether RAM or flash is limited.
        whole: the space of whole networks.
        smallest: that of networks for small devices.
        cells: the space of cells.
    """
    if not races:
        return cells
    return smallest if small else whole


def make_settings(**values: Any) -> Settings:
    """Returns checked settings; None means "the default".

    Raises:
        SettingError: naming the setting, what it got and what it expects.
    """
    values = {key: plain_value(value) for key, value in values.items() if value is not None}
    if not isinstance(values.get("set", {}), dict):
        raise SettingError(f"set is {brief(values['set'])}, expected a mapping such as {{'final.epochs': 4}}")
    if isinstance(values.get("backbones"), (list, tuple)):
        values["backbones"] = ",".join(map(str, values["backbones"]))
    values = _with_preset(values)
    for key in values.get("set", {}):
        if not isinstance(key, str) or key.partition(".")[0] not in SECTIONS or "." not in key:
            raise SettingError(f"--set {key}: expected SECTION.NAME=VALUE with a section of {', '.join(SECTIONS)}")
        if values["set"][key] in (None, [None]):
            raise SettingError(f"--set {key}: null is no value; leave it out for the default")
    strange = next((key for key in values if key not in Settings.model_fields), None)
    if strange is not None:
        raise SettingError(str(unknown("setting", strange, Settings.model_fields)))
    _weigh(values)
    if "strategy" in values and ":" not in str(values["strategy"]):
        values["strategy"] = str(values["strategy"]).replace("-", "_")
    if "device_latency" in values:
        from archduel.devices.store import device_key

        values["device_latency"] = device_key(str(values["device_latency"]))
    values.setdefault("workers", 1 if values.get("executor") == "local" else default_workers(str(values.get("device", "cpu")), races=_may_race(values)))
    small = any(name in values for name in ("max_ram", "max_flash"))
    if small and "space" not in values and _may_race(values):
        values.setdefault("beside", usual_space(True))  # plain convolutions learn more in little time on a CPU, where they fit
    values.setdefault("space", usual_space(_may_race(values), small=small))
    for name in ("space", "beside"):
        if ":" in str(values.get(name)):
            registry.entry("space", str(values[name]))  # named by the user, so a folder that names it too may be read
    _check_beside(values)
    try:
        settings = Settings(**values)
        _check_executor(settings)
        return settings
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise SettingError(f"setting {name}: expected {_expected(first)}, got {brief(first.get('input'))}") from error


def _check_beside(values: Mapping[str, Any]) -> None:
    """Raises SettingError for a further space that is the same one, or of a run that is no race; UnknownNameError where there is none."""
    beside = values.get("beside")
    if beside is None:
        return
    registry.entry("space", str(beside))
    if beside == values["space"]:
        raise SettingError(f"beside is {brief(beside)}, which is the space itself; name another one, or leave it out")
    if not _may_race(values):
        raise SettingError(f"beside is {brief(beside)}, but this run is no race; add --race, or leave it out")


def _check_executor(settings: Settings) -> None:
    """Refuses an executor that there is not, and what it has no use for.

    Raises:
        UnknownNameError: for another executor.
        SettingError: naming the setting and what to do instead.
    """
    kind = settings.executor_kind
    if kind not in EXECUTORS:
        raise unknown("executor", kind, EXECUTORS)
    if kind == "ray":
        cluster_address(settings.executor)
    for name in ("cpus_per_task", "gpus_per_task"):
        if getattr(settings, name) is not None and kind != "ray":
            raise SettingError(f"--{name.replace('_', '-')} says what a task takes of a Ray cluster, and the executor is {kind}; add --executor ray, or leave it out")
    if kind == "ray" and settings.device.startswith("cuda") != (settings.gpus_each > 0):
        raise SettingError(f"a task that trains on {settings.device} takes {'some share of a GPU' if settings.gpus_each == 0 else 'no GPU'}, got --gpus-per-task {settings.gpus_each:g}")
    if kind != "processes" and _may_race(settings.model_dump(exclude_none=True)):
        raise SettingError(f"executor {kind} has nothing to do in a race, which trains in this process; give --evaluations or --no-race")
    if settings.workers > 1 and settings.device.startswith("cuda") and _may_race(settings.model_dump(exclude_none=True)):
        raise SettingError(
            f"a race trains one network after the other, on one GPU, got --workers {settings.workers} and --device {settings.device}; leave --workers out, "
            "or give --no-race or --evaluations, and trainings run side by side on all GPUs"
        )
    if kind == "local" and settings.workers > 1 and settings.seconds is not None:
        raise SettingError(f"executor local trains one network at a time, got --workers {settings.workers} and a time that is planned for them; leave --workers out")
    for name, value in settings.section("executor").items():
        if name not in OF_EXECUTORS or kind not in OF_EXECUTORS[name]:
            known = [each for each, kinds in OF_EXECUTORS.items() if kind in kinds]
            raise SettingError(f"--set executor.{name}: executor {kind} takes {' and '.join(known) or 'none'}")
        as_number(f"executor.{name}", value, least=0.01, most=1e7)


def _with_preset(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings with those of their preset where they say nothing themselves.

    Raises:
        UnknownNameError: for a preset that there is not.
        SettingError: for one of another command, or a time beside it.
    """
    if values.get("preset") is None:
        return values
    if not isinstance(values["preset"], str):
        raise SettingError(f"preset is {brief(values['preset'])}, expected a name: `archduel list presets`")
    preset = open_preset(values["preset"])
    if preset.command != "search":
        raise SettingError(
            f"preset {preset.name!r} ends in a cell, not in a network: `archduel search DATA --preset {preset.name}` on the command line runs it"
        )
    if values.get("seconds") is not None:
        raise SettingError(f"preset {preset.name!r} takes the time that the published search takes; leave out the time, or the preset")
    return {**preset.run, **values, "set": {**preset.changes, **values.get("set", {})}}


def _weigh(values: dict[str, Any]) -> None:
    """Checks the objectives among settings; where there are several, a search for a front is the default.

    Raises:
        UnknownNameError: for an objective without a measure.
        SettingError: for one that is there twice, costs without accuracy, or members of a front that there is not.
    """
    given = values.pop("objectives", None)
    if not isinstance(given, (str, list, tuple, type(None))):
        raise SettingError(f"objectives is {brief(given)}, expected names such as ['accuracy', 'macs']")
    names = given.split(",") if isinstance(given, str) else list(given or ())
    checked = checked_objectives([str(name).strip() for name in names]) if names else None
    if checked is None:
        if "front" in values:
            raise SettingError(f"front is {brief(values['front'])}, but there is one objective; name several: --objective accuracy --objective macs")
        return
    if values.get("prior") is not None:
        raise SettingError("prior holds labels of accuracy alone, and several objectives are weighed; leave out one of them")
    values["objectives"] = checked
    values.setdefault("strategy", "best")
    if values["strategy"] == "best":
        values.setdefault("ranker", "gp")
    if values.get("race") is False:
        raise SettingError("race is false, but several objectives are for races; leave --no-race out")
    values["race"] = True


def _expected(error: Mapping[str, Any]) -> str:
    """Returns what one of pydantic's errors expected, in plain words."""
    limits = {"greater_than": "above", "greater_than_equal": "at least", "less_than": "below", "less_than_equal": "at most"}
    kind, context = error["type"], error.get("ctx", {})
    if kind in limits:
        return f"{limits[kind]} {next(iter(context.values()))}"
    return str(context.get("expected") or str(error["msg"]).removeprefix("Input should be "))


def read_settings(folder: Path) -> Settings:
    """Returns the settings of the run in ``folder``.

    Raises:
        RunError: if there is no run.
        UnknownNameError: if its space is code from outside that nobody here trusts, or that cannot be loaded.
    """
    path = folder / "run.toml"
    if not path.is_file():
        raise RunError(f"{folder} holds no run (no run.toml); start one with `archduel search DATA --out {typed(folder)}`")
    try:
        content = read_toml(path)
        settings = Settings(**(OLDER | content["run"]))
        place = content.get("place")
        # the data of a folder that was moved with them
        settings = settings.model_copy(update={"data": found_again(settings.data, place if isinstance(place, dict) else {}, folder)})
    except (KeyError, TypeError, ValidationError) as error:
        raise RunError(f"{path} is not a run of this version of archduel: {error}") from error
    for name in (settings.space, settings.beside or ""):
        if ":" in name:
            registry.entry_of_folder("space", name)  # the architectures of a space from outside can be read from then on
    return settings


def settings_in(path: Path) -> dict[str, Any]:
    """Returns the settings in a TOML file, such as a ``run.toml``: those of its section ``run``, or all there are; unchecked.

    Data that lie beside the file are found from anywhere, where the file says where they lay (``place``).

    Raises:
        RunError: for a file that cannot be read.
        SettingError: for a name that is no setting.
    """
    content = read_toml(path)
    given = content.get("run", content)
    if not isinstance(given, dict):
        raise SettingError(f"{path}: run = {given!r}, expected a section [run] with settings")
    values = dict(given)
    if "time" in values:  # as on the command line
        values["seconds"] = values.pop("time")
    strange = next((key for key in values if key not in Settings.model_fields), None)
    if strange is not None:
        raise SettingError(f"{path}: {unknown('setting', strange, ['time', *Settings.model_fields])}")
    if isinstance(values.get("data"), str):
        place = content.get("place")
        values["data"] = found_again(values["data"], place if isinstance(place, dict) else {}, path.parent)
    return values


def asks_known(settings: Settings) -> bool:
    """Whether a run asks for pretrained networks; who names another space than the usual one wants to know what is in that."""
    return settings.start == "pretrained" or (settings.start == "auto" and settings.space == usual_space(True, small=bool(settings.device_limit)))


def too_short(settings: Settings) -> bool:
    """Whether a run that was not told what to begin with has no time for pretrained networks."""
    return settings.start == "auto" and settings.seconds is not None and settings.seconds < SHORTEST


def may_know(settings: Settings) -> bool:
    """Whether pretrained networks may take part in a run: a race in the usual space whose start is not from scratch, weights at hand."""
    if not asks_known(settings) or too_short(settings) or not _may_race(settings.model_dump(exclude_none=True)):
        return False
    from archduel.pretrained.weights import here
    from archduel.spaces.pretrained.backbones import BACKBONES

    return bool(settings.backbones) or any(here(name) is not None for name in BACKBONES)


def side_kept(settings: Settings) -> int:
    """Returns the side in pixels at which images are kept for pretrained networks."""
    from archduel.data.resolution import LARGEST

    fast = settings.seconds is None or settings.device.startswith("cuda")
    return LARGEST if fast else min(LARGEST, max(KNOWN_SIDE, round(SIDE_IN_A_SECOND * math.sqrt(settings.seconds or 0.0))))


def load_arguments(settings: Settings, begun: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the keyword arguments with which a run, and each of its workers, loads the images.

    Args:
        settings: of the run.
        begun: what the record of its images says, None for a new run: it goes on with the limits that it began with, whatever weights are here by now.
    """
    values = {name: getattr(settings, name) for name in ("image_size", "seed", "max_images", "flip", "seconds", "validation")}
    if settings.seconds is not None and settings.device.startswith("cuda"):
        values["pixels_per_second"] = 2e8
    if settings.seconds is not None and may_know(settings):
        values["least"] = side_kept(settings)
        values["tested"] = max(LEAST_TESTED, round(TESTED_A_SECOND * settings.seconds))
    if begun is not None and "limits" in begun:
        values |= dict.fromkeys(OF_WEIGHTS) | begun["limits"]
    return {key: value for key, value in values.items() if value is not None}
