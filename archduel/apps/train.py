"""`archduel train`: a named or found architecture becomes a trained network, with a recipe, in a folder that continues."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archduel.apps.architecture import Architecture, find_architecture
from archduel.apps.devices import check_device
from archduel.apps.fine_tune import start_folder
from archduel.apps.progress import Progress
from archduel.apps.recipes import default_recipe, load_recipe
from archduel.apps.train_data import open_task
from archduel.apps.train_folder import TrainFolder
from archduel.apps.train_job import Job
from archduel.errors import SettingError

if TYPE_CHECKING:
    from archduel.training.running import Epoch
    from archduel.training.team import Team

__all__ = ["train_network"]


def train_network(
    arch: str | None,
    data: Any,
    out: str | Path,
    *,
    recipe: str = "",
    changes: Mapping[str, Any] | None = None,
    space: str = "",
    start: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    hold_out: bool = False,
    max_images: int | None = None,
    accumulate: int = 1,
    sync_norm: bool = False,
    compiled: bool | str = False,
    deterministic: bool = False,
    workers: int | None = None,
    quiet: bool = False,
    command: str = "",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> dict[str, Any]:
    """Trains a network, tests it once, and returns the content of ``result.json``; the same call continues a killed one.

    Under ``torchrun`` all processes train together; ``batch_size`` of the recipe is that of all of them.

    Args:
        arch: what :func:`archduel.apps.architecture.find_architecture` takes; None = that of ``start``.
        data: what ``archduel search`` takes; for recipes with ``crop_scale`` a folder like ImageNet's or tar shards.
        out: the training folder.
        recipe: name or file; empty = chosen by the data and the space.
        changes: settings of the recipe on top.
        space: of ``arch``, where its text does not say so.
        start: a training folder or ``zoo:NAME`` whose weights are taken, all but the classifier if the classes differ.
        seed: of initial weights, order and augmentation, and of splits that are made.
        device: ``cpu``, ``cuda`` (under torchrun: one a process), ``cuda:1``.
        hold_out: keeps the validation split out of the training and watches it.
        max_images: use at most so many.
        accumulate: micro-batches a process adds up before a step.
        sync_norm: batch norm over all processes.
        compiled: through ``torch.compile`` (a text: by this backend of it); where that fails, without, and it is said.
        deterministic: only algorithms that repeat bit for bit.
        workers: processes that read pictures from disk; None = one a core.
        quiet: print nothing.
        command: for the record.
        on_epoch: called with the numbers of each epoch, in the main process.

    Raises:
        ArchduelError: one of its kinds for architectures, data, settings and folders that cannot be used.
    """
    import torch

    from archduel.training.team import joined

    if accumulate < 1:
        raise SettingError(f"accumulate must be at least 1, got {accumulate}")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA needs for it, read when it starts
    place = _place(device)
    chosen = _architecture(arch, space, start)
    file = load_recipe(recipe or default_recipe(str(data), chosen.space))
    known = chosen.size if start is not None or not file.meant_for(chosen.space or "darts") else {}
    wanted = file.with_({**known, **(changes or {})}, chosen.space)
    task = open_task(
        data, wanted, hold_out=hold_out, max_images=max_images, seed=seed, device=place, workers=workers
    )
    job = Job(chosen, file, task, start, seed, place)
    with joined(torch.device(place), accumulate=accumulate, sync_norm=sync_norm) as team:
        progress = Progress(quiet=quiet or not team.main)
        options = {"compiled": compiled, "deterministic": deterministic}
        return _in_folder(job, team, Path(out), job.spec(accumulate, team), command, progress, on_epoch, options)


def _in_folder(
    job: Job,
    team: Team,
    out: Path,
    spec: Mapping[str, Any],
    command: str,
    progress: Progress,
    on_epoch: Callable[[Epoch], None] | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Trains in the folder, which the main process alone opens; a finished training is not done again."""
    import torch

    model = job.network()  # first, so that weights that do not fit leave no folder behind
    with ExitStack() as stack:
        folder = TrainFolder(out, spec, command) if team.main else None
        if folder is not None:
            stack.callback(folder.close)
        done = folder.result if folder is not None else None
        finished = team.total(torch.tensor(int(done is not None), device=job.device))
        if int(finished):
            progress.say(f"{out} is finished already")
            return done or {}
        job.say(progress)
        try:
            trained = job.train(model, team, out, folder, progress, on_epoch, **options)
        except KeyboardInterrupt:
            progress.say("stopped; the same command continues from the last checkpoint")
            raise
        return job.finish(model, trained, folder, progress)


def _place(device: str) -> str:
    """Returns the device of this process."""
    from archduel.training.team import member

    _, size, local = member()
    place = f"cuda:{local}" if device == "cuda" and size > 1 else device
    check_device(place)
    return place


def _architecture(arch: str | None, space: str, start: str | Path | None) -> Architecture:
    """Returns what is trained; with weights to start from it has their size, since they fit no other."""
    if start is not None:
        begun = find_architecture(str(start_folder(start)))
        return replace(find_architecture(arch, space), size=begun.size) if arch else begun
    if not arch:
        raise SettingError("say which architecture to train (a name, a text, a file, a run folder), or --from a training folder")
    return find_architecture(arch, space)
