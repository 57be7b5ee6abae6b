"""What a run was asked to do: checked once, written to run.toml, compared when the run is continued."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from archduel.core.storage import read_toml
from archduel.errors import RunError, SettingError, unknown

__all__ = ["Settings", "default_settings", "make_settings", "read_settings"]


class Settings(BaseModel):
    """All that decides what a run does (file ``run.toml``, section ``run``).

    Attributes:
        data: what is learned: a folder, a file or the name of a data set.
        space: where is searched (``archduel list spaces``).
        strategy: how (``archduel list strategies``).
        ranker: what compares architectures, in strategies that have a ranker (``archduel list rankers``).
        seconds: of the whole run, None without a limit of time.
        evaluations: cheap trainings, None as many as fit into ``seconds``.
        max_params: limit of parameters.
        max_macs: limit of multiply-adds for one image.
        max_latency_ms: limit of the milliseconds that a batch takes on this device, measured.
        latency_batch: images of that batch.
        image_size: side in pixels, None chosen from the images.
        max_images: images that are used, None all.
        metric: what final networks are judged by.
        rank_by: what networks are chosen by: the likelihood of the right classes, or the metric.
        size_belief: weight of multiply-adds beside labels (:class:`archduel.rankers.sized.SizeBelief`); 0 = none.
        seed: of everything.
        final_seeds: trainings of each final network.
        flip: whether mirrored images keep their class, None decided by the data.
        baselines: whether random search and a standard network are trained for comparison.
        device: of torch.
        workers: trainings at a time.
        threads: of each of them.
        set: further settings, ``{"strategy.lr": 1e-4}``; see :meth:`section`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    space: str = "nasbench201"
    strategy: str = "ctnas"
    ranker: str = "nac"
    seconds: float | None = Field(None, gt=0)
    evaluations: int | None = Field(None, ge=4)
    max_params: int | None = Field(None, gt=0)
    max_macs: int | None = Field(None, gt=0)
    max_latency_ms: float | None = Field(None, gt=0)
    latency_batch: int = Field(1, ge=1)
    image_size: int | None = Field(None, ge=8, le=1024)
    max_images: int | None = Field(None, ge=20)
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1"] = "accuracy"
    rank_by: Literal["likelihood", "metric"] = "likelihood"
    size_belief: float = Field(0.5, ge=0)
    seed: int = Field(0, ge=0)
    final_seeds: int = Field(3, ge=1, le=20)
    flip: bool | None = None
    baselines: bool = True
    device: str = "cpu"
    workers: int = Field(1, ge=1, le=256)
    threads: int = Field(1, ge=1)
    set: dict[str, Any] = Field(default_factory=dict)

    def section(self, name: str) -> dict[str, Any]:
        """Returns the ``--set`` values of one section: ``strategy.lr=1e-4`` gives ``{"lr": 1e-4}`` for ``strategy``."""
        start = f"{name}."
        return {key[len(start) :]: value for key, value in self.set.items() if key.startswith(start)}


SECTIONS = ("space", "strategy", "ranker", "policy", "supernet", "label", "reevaluate", "final", "plan")


def default_workers(device: str) -> int:
    """Returns how many trainings run side by side: one a core on the CPU, one on a GPU."""
    if device.startswith("cuda"):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores))


def default_settings() -> dict[str, Any]:
    """Returns the defaults: what a run of an older version did that says nothing of a setting."""
    fields = Settings.model_fields.items()
    return {name: field.get_default(call_default_factory=True) for name, field in fields if not field.is_required()}


def make_settings(**values: Any) -> Settings:
    """Returns checked settings; None means "the default".

    Raises:
        SettingError: naming the setting, what it got and what it expects.
    """
    values = {key: value for key, value in values.items() if value is not None}
    for key in values.get("set", {}):
        if key.partition(".")[0] not in SECTIONS or "." not in key:
            raise SettingError(f"--set {key}: expected SECTION.NAME=VALUE with a section of {', '.join(SECTIONS)}")
        if values["set"][key] is None:
            raise SettingError(f"--set {key}: null is no value; leave it out for the default")
    strange = next((key for key in values if key not in Settings.model_fields), None)
    if strange is not None:
        raise SettingError(str(unknown("setting", strange, Settings.model_fields)))
    if ":" not in str(values.get("strategy", "")):
        values["strategy"] = str(values.get("strategy", "ctnas")).replace("-", "_")
    values.setdefault("workers", default_workers(values.get("device", "cpu")))
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise SettingError(f"setting {name}: expected {_expected(first)}, got {first.get('input')!r}") from error


def _expected(error: Mapping[str, Any]) -> str:
    """Returns what one of pydantic's errors expected, in plain words."""
    limits = {"greater_than": "above", "greater_than_equal": "at least", "less_than": "below", "less_than_equal": "at most"}
    found, known = error["type"], error.get("ctx", {})
    if found in limits:
        return f"{limits[found]} {next(iter(known.values()))}"
    return str(known.get("expected") or str(error["msg"]).removeprefix("Input should be "))


def read_settings(folder: Path) -> Settings:
    """Returns the settings of the run in ``folder``.

    Raises:
        RunError: if there is no run.
    """
    path = folder / "run.toml"
    if not path.is_file():
        raise RunError(f"{folder} holds no run (no run.toml); start one with `archduel search DATA --out {folder}`")
    try:
        return Settings(**read_toml(path)["run"])
    except (KeyError, TypeError, ValidationError) as error:
        raise RunError(f"{path} is not a run of this version of archduel: {error}") from error
