"""Where a search trains: in this process, in processes of this machine, by whoever joins the run's folder, or on a Ray cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from archduel.commands.search.plan import LABEL, Plan
from archduel.commands.search.settings import OF_WEIGHTS, Settings, load_arguments, read_settings
from archduel.commands.trainings import environments_for
from archduel.core import Executor
from archduel.core.job import WORK, Job
from archduel.core.storage import record_query
from archduel.data import Dataset, load
from archduel.errors import DataError, RunError, SettingError
from archduel.estimators.judges import Finals, Groups, Judge, Judging
from archduel.execution import IDLE, Folder, Processes, RayTasks, Sequential
from archduel.execution.cluster import PATIENCE, cluster_address
from archduel.execution.folder import BEAT, LEASE, host_name
from archduel.spaces.family import PlugIns
from archduel.text import printable
from archduel.training.images import Pixels, side_by_side
from archduel.version import __version__

__all__ = ["JudgeOfRun", "about_run", "executor_for", "judge_for", "prepared", "versions"]


def judge_for(path: Path, settings: Settings, plan: Plan, dataset: Dataset) -> Judge:
    """Returns what makes, in a process, the judge of all trainings of a run.

    Args:
        path: of the run.
        settings: of the run.
        plan: with its recipes.
        dataset: the images; the test split is not among those that a judge sees.
    """
    mean, std = dataset.preprocessing.mean, dataset.preprocessing.std
    train, validation = dataset.train, dataset.validation
    both = side_by_side(train.images, validation.images), np.concatenate([train.labels, validation.labels])
    parts = ((train.images, train.labels), (validation.images, validation.labels), both)
    pixels = [Pixels(images, labels, mean, std, device=settings.device) for images, labels in parts]
    return Judge(
        pixels[0],
        {"validation": pixels[1]},
        {LABEL: plan.label, "reevaluate": plan.reevaluate, "final": plan.final},
        dataset.n_classes,
        settings.seed,
        metric=settings.metric,
        device=settings.device,
        threads=settings.threads,
        checkpoints=path / "checkpoints",
        by_likelihood=settings.rank_by == "likelihood",
        curves=("reevaluate",),
        finals=Finals("final", pixels[2], path),
        shallow=plan.shallow(settings.space),
    )


def executor_for(job: Job, settings: Settings, judge: Judge, groups: Groups, about: Callable[[], Mapping[str, Any]], say: Callable[[str], None]) -> Executor:
    """Returns the executor that the settings name.

    Args:
        job: the run.
        settings: with the seed and the threads that the run began with.
        judge: makes the judge, in a process of this machine.
        groups: how many are trained at once.
        about: says what workers elsewhere have to agree with (:func:`about_run`), asked only where there may be some.
        say: is told what somebody has to do.

    Raises:
        SettingError: for a lease that is too short.
    """
    given, kind = settings.section("executor"), settings.executor_kind
    if kind == "local":
        return Sequential(judge(), run_seed=settings.seed, at_once=groups)
    if kind == "folder":
        written = {(int(record["ordinal"]), record_query(record)) for record in job.journal.records if record["event"] == "estimate"}
        return Folder(
            job.path / WORK, about(), run_seed=settings.seed, threads=settings.threads, at_once=groups, beat=float(given.get("beat", BEAT)),
            lease=float(given.get("lease", LEASE)), idle=IDLE, limit=given.get("limit"), written=written, say=say,
        )  # fmt: skip
    if kind == "ray":
        return RayTasks(
            JudgeOfRun(job.path.resolve(), about(), None, "cuda" if settings.device.startswith("cuda") else None), run_seed=settings.seed,
            address=cluster_address(settings.executor), cpus=1.0 if settings.cpus_per_task is None else settings.cpus_per_task, gpus=settings.gpus_each,
            threads=settings.threads, at_once=groups, idle=IDLE, limit=given.get("limit"), patience=float(given.get("patience", PATIENCE)), say=say,
        )  # fmt: skip
    return Processes(
        judge, workers=settings.workers, run_seed=settings.seed, threads=settings.threads, at_once=groups, idle=IDLE, limit=given.get("limit"),
        environments=environments_for(settings.device),
    )  # fmt: skip


# -- What machines have to agree in, and how a worker makes its judge from the folder alone ------------------------------


@cache
def versions() -> dict[str, str]:
    """Returns the versions of what computes: of archduel with a digest of its source, which differs between two checkouts of one version."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[2]
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    return {"archduel": f"{__version__} (source {digest.hexdigest()[:8]})", **{name: _version(name) for name in ("torch", "numpy")}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def about_run(plan: Plan, dataset: Dataset, loading: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a worker needs beside ``run.toml``, and has to agree with.

    Args:
        plan: with the recipes.
        dataset: the images, known by their fingerprint.
        loading: how they are loaded.
    """
    return {"versions": versions(), "data": {"fingerprint": dataset.fingerprint, "loading": dict(loading)}, "plan": plan.to_json()}


def _check_versions(folder: Path, about: Mapping[str, Any]) -> None:
    """Raises RunError where something that computes has another version here than at the driver, naming all that differ."""
    there, here = dict(about.get("versions", {})), versions()
    differing = [f"{name} is {here.get(name, 'not known')} here, {there[name]} at the driver" for name in sorted(there) if there[name] != here.get(name)]
    if differing:
        raise RunError(f"{host_name()} cannot compute what the driver of {folder} would: {printable('; '.join(differing))}; install the same versions")


def prepared(folder: Path, about: Mapping[str, Any], *, data: str | None = None, device: str | None = None) -> JudgeOfRun:
    """Returns what makes a judge of the run in ``folder``, once the versions here are those of its driver.

    Args:
        folder: of the run.
        about: what the driver says of it.
        data: where the images lie on this machine, if not where ``run.toml`` says.
        device: where to train here, of the kind that the run has; None = as the run says.

    Raises:
        RunError: for another version of something, naming all that differ.
        SettingError: for a device of another kind.
        UnknownNameError: for a space that is code from outside which nobody here trusts.
    """
    _check_versions(folder, about)
    settings = read_settings(folder)
    if device is not None and device.partition(":")[0] != settings.device.partition(":")[0]:
        raise SettingError(f"the run in {folder} trains on {settings.device}, and on {device} its results would differ; give a device of that kind")
    return JudgeOfRun(folder.resolve(), about, data, device)


@dataclass(frozen=True)
class JudgeOfRun:
    """Makes, in a process of any machine, the judge of a run from its folder: settings, plan, and the data that it checks first.

    Attributes:
        folder: of the run, as this machine sees it.
        about: what the driver says (:func:`about_run`).
        data: where the images lie here; None = as ``run.toml`` says.
        device: where to train; None = as ``run.toml`` says.
        plug_ins: spaces from outside that this process knows.
    """

    folder: Path
    about: Mapping[str, Any]
    data: str | None = None
    device: str | None = None
    plug_ins: PlugIns = field(default_factory=PlugIns)

    def __call__(self) -> Judging:
        """Returns ``judge(query, seed)``.

        Raises:
            RunError: where this machine does not see the folder, or has other versions.
            DataError: where the images are not there, or others.
        """
        _check_versions(self.folder, self.about)
        if not self.folder.is_dir():
            raise RunError(f"{host_name()} does not see {self.folder}: put the run (--out) where every machine sees it under the same path")
        settings = read_settings(self.folder)
        settings = settings.model_copy(update={"device": self.device or settings.device, "data": self.data or settings.data})
        allowed = {*load_arguments(settings), "seconds", "pixels_per_second", "image_size", "max_images", "flip", "validation", *OF_WEIGHTS}
        loading = {name: value for name, value in self.about["data"]["loading"].items() if name in allowed}
        try:
            dataset = load(settings.data, **loading)
        except DataError as error:
            raise DataError(f"on {host_name()}: {error}; --data names another place of the images") from error
        wanted = str(self.about["data"]["fingerprint"])
        if dataset.fingerprint != wanted:
            raise DataError(
                f"on {host_name()} {settings.data} is another data set than the driver's (fingerprint {dataset.fingerprint[:12]} here, {wanted[:12]} "
                "there); --data names another place of the images"
            )
        return judge_for(self.folder, settings, Plan.from_json(dict(self.about["plan"])), dataset)()
