"""`archduel train`: a named or found architecture becomes a trained network, with a recipe, in a folder that continues."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archduel.commands.options import plain_value
from archduel.commands.progress import Progress, duration
from archduel.commands.train.task import Task, open_task
from archduel.core import Scale
from archduel.core.job import RESULT, TRAINING, Job
from archduel.core.places import place_of, same_place
from archduel.errors import RunError, SettingError, as_path, as_whole, brief
from archduel.estimators.timing import check_device
from archduel.networks.find import Architecture, arch_text, architecture_at, find_architecture
from archduel.networks.trained import facts_at, is_whole, load_trained, network_of, save_trained, take_weights
from archduel.recipes import RecipeFile, Source, default_recipe, open_recipe
from archduel.spaces.lookup import has_own_size

if TYPE_CHECKING:
    import torch
    from torch import nn

    from archduel.training.distributed import Team
    from archduel.training.loop import Epoch, Trained

__all__ = ["CHECKPOINT", "Teller", "Training", "train_network"]

# -- One final training: what is trained, on what and how, and what is told and kept of it ------------------------------


CPU_RATE = 2e10
"""Multiply-adds a second that a thread trains with, three times those of a forward pass an image; `final_training.json` has 2.3e10."""
LONG_HOURS = 6
CHECKPOINT = "checkpoint.safetensors"


class Training:
    """What is trained, on what, and how."""

    def __init__(
        self, chosen: Architecture, file: RecipeFile, task: Task, start: str | Path | None, seed: int, device: str
    ) -> None:
        self.chosen, self.file, self.task, self.start, self.seed, self.device = chosen, file, task, start, seed, device
        recipe = task.recipe
        self.scale = Scale(recipe.channels, recipe.depth, recipe.image_size, task.in_channels, len(task.classes))
        meant = {} if not file.meant_for(chosen.family) else file.options
        self.options = {**meant, **chosen.options}
        if start is not None and not chosen.trained:
            self.options = dict(chosen.options)
        self.counts = Architecture(chosen.arch, chosen.text, chosen.name, self.options).counts(self.scale)

    @property
    def facts(self) -> dict[str, Any]:
        """What ``model.json`` says of the network."""
        task = self.task
        return {
            **self.chosen.facts, "options": dict(self.options), "scale": asdict(self.scale), "classes": list(task.classes),
            "preprocessing": asdict(task.preprocessing), "data": task.facts, "params": self.counts.params,
            "macs": self.counts.macs, "recipe": {"name": self.file.name, **asdict(task.recipe)}, "seed": self.seed,
        }  # fmt: skip

    def spec(self, accumulate: int, team: Team, out: Path) -> dict[str, Any]:
        """Returns the content of ``train.toml``."""
        facts = self.facts
        return {
            "architecture": {key: facts[key] for key in ("name", "arch", "text", "options")},
            "recipe": {**facts["recipe"], "source": self.file.source},
            "data": facts["data"],
            "scale": facts["scale"],
            "start": {"seed": self.seed, "from": None if self.start is None else str(self.start)},
            "run": {
                "device": self.device, "processes": team.size, "accumulate": accumulate, "sync_norm": team.sync_norm,
                "params": self.counts.params, "macs": self.counts.macs, "place": place_of(str(facts["data"].get("name")), out),
            },
        }  # fmt: skip

    def network(self) -> nn.Module:
        """Returns the network, drawn from the seed or with the weights of the start."""
        from archduel.training.runtime import seeded_build

        auxiliary = self.task.recipe.auxiliary_weight > 0
        model = seeded_build(lambda: network_of(self.facts, auxiliary=auxiliary), self.seed)
        if self.start is not None:
            _take_start(model, self.start, self.scale)
        return model

    def say(self, progress: Progress) -> None:
        """Prints what is about to happen."""
        task, recipe = self.task, self.task.recipe
        width = "" if has_own_size(self.chosen.arch) else f", {recipe.channels} channels"
        progress.say(
            f"{self.chosen.name}: {self.counts.params / 1e6:.2f} M parameters, {self.counts.macs / 1e6:.1f} M multiply-adds at "
            f"{recipe.image_size} px{width}"
        )
        progress.say(
            f"{task.facts['name']}: {len(task.train):,} images, {len(task.classes)} classes; recipe {self.file.name}, "
            f"{recipe.epochs:g} epoch{'s' * (recipe.epochs != 1)} of {recipe.batch_size} images a step"
        )
        for note in (*task.notes, *self._seen_before(), *self._long()):
            progress.say(f"  note: {note}")

    def _long(self) -> list[str]:
        """Returns a warning if the training takes a CPU longer than one would wait for."""
        import torch

        images = len(self.task.train) * self.task.recipe.data_fraction * self.task.recipe.epochs
        hours = 3 * self.counts.macs * images / (CPU_RATE * torch.get_num_threads()) / 3600
        if self.device != "cpu" or hours < LONG_HOURS:
            return []
        return [
            f"on this CPU that takes about {hours:,.0f} hours, by its multiply-adds; --device cuda, or less to do: --set epochs=..., "
            "--set channels=... --set depth=... (spaces of cells), --set image_size=..."
        ]

    def _seen_before(self) -> list[str]:
        """Returns a warning if the weights to start from may have been trained on images that are tested here."""
        if self.start is None or not self.task.test_drawn:
            return []
        before, now = facts_at(self.start), self.task.facts
        old = before.get("data") or {}
        same = (before.get("seed"), old.get("max_images"), old.get("validation_share")) == (self.seed, now["max_images"], None)
        if same or not same_place(str(old.get("name")), str(now["name"]), {}, Path()):
            return []
        return [
            f"{self.start} was trained on another split of {now['name']}: images that are tested here may be among those it "
            "learned from; the same seed and number of images give the same split"
        ]

    def train(
        self,
        model: nn.Module,
        team: Team,
        out: Path,
        folder: Job | None,
        progress: Progress,
        on_epoch: Callable[[Epoch], None] | None,
        *,
        compiled: bool | str,
        deterministic: bool,
    ) -> Trained:
        """Trains ``model`` in place and writes the journal."""
        from archduel.spaces.layers import feed_drop_path, set_drop_path
        from archduel.training.loop import train

        teller = Teller(folder, progress, self.task, on_epoch)
        trained = train(
            model,
            self.task.train,
            self.task.recipe,
            seed=self.seed,
            device=self.device,
            validation=self.task.watched,
            checkpoint=out / CHECKPOINT,
            drop_path=feed_drop_path if compiled else set_drop_path,
            on_epoch=teller.tell,
            team=team,
            compiled=compiled,
            on_note=lambda text: progress.say(f"  note: {text}"),
            deterministic=deterministic,
        )
        teller.complete(trained.history)
        if trained.reason:
            raise RunError(f"the training of {self.chosen.name} ended early: {trained.reason}; {out} keeps its last checkpoint")
        return trained

    def finish(self, model: nn.Module, trained: Trained, folder: Job | None, progress: Progress) -> dict[str, Any]:
        """Tests the network once and writes what there is to keep; processes without a folder return nothing."""
        if folder is None:
            return {}
        from archduel.training.metrics import evaluate

        began = time.perf_counter()
        found = evaluate(model, self.task.test.resized(self.scale.image_size), device=self.device)
        result = {
            "test": _scores(found), "pictures": {key: self.task.facts[key] for key in ("train", "validation", "test")},
            "last_epoch": trained.history[-1], "seconds": trained.seconds, "test_seconds": time.perf_counter() - began,
            "images": trained.images, "images_per_second": trained.images / max(trained.seconds, 1e-9),
            "params": self.counts.params, "macs": self.counts.macs,
        }  # fmt: skip
        if trained.compile_note:
            result["compile"] = {"seconds": trained.compile_seconds, "note": trained.compile_note}
        save_trained(folder.path, model, {**self.facts, "test": result["test"]})
        folder.write(RESULT, result)
        (folder.path / CHECKPOINT).unlink(missing_ok=True)  # it is needed no more
        progress.say(
            f"test accuracy {found.accuracy:.4f} on {len(found.labels):,} images after {duration(trained.seconds)}; "
            f"{folder.path} holds the network"
        )
        return result


def _scores(found: Any) -> dict[str, float]:
    from archduel.training.metrics import calibration_error, top_k

    scores = {"accuracy": found.accuracy, "loss": found.loss, "ece": calibration_error(found.probabilities, found.labels)}
    if found.probabilities.shape[1] > 5:
        scores["top5"] = top_k(found.probabilities, found.labels, 5)
    return {name: float(value) for name, value in scores.items()}


class Teller:
    """Writes and prints the numbers of each epoch."""

    def __init__(
        self, folder: Job | None, progress: Progress, task: Task, on_epoch: Callable[[Epoch], None] | None
    ) -> None:
        self.folder, self.progress, self.on_epoch = folder, progress, on_epoch
        self.n, self.epochs = round(len(task.train) * task.recipe.data_fraction), task.recipe.epochs
        self.clock = time.perf_counter()

    def tell(self, numbers: Epoch) -> None:
        """Notes one epoch."""
        if self.folder is None:
            return
        seconds, self.clock = time.perf_counter() - self.clock, time.perf_counter()
        line = {**numbers, "seconds": round(seconds, 3)}
        # what a killed training noted after its last checkpoint is trained again
        self.folder.journal.drop(lambda record: record["epoch"] >= line["epoch"])
        self.folder.journal.append(line)
        held = f"  validation {numbers['val_accuracy']:.4f}" if "val_accuracy" in numbers else ""
        self.progress.say(
            f"epoch {numbers['epoch']:.4g}/{self.epochs:g}  loss {numbers['train_loss']:.4f}  train {numbers['train_accuracy']:.4f}"
            f"{held}  lr {numbers['lr']:.4g}  {self.n / max(seconds, 1e-9):,.0f} images/s"
        )
        if self.on_epoch:
            self.on_epoch(numbers)

    def complete(self, history: Sequence[Epoch]) -> None:
        """Notes the epochs that a checkpoint has and the journal lacks: their process was killed in between."""
        if self.folder is None:
            return
        journal = self.folder.journal
        noted = {record["epoch"]: record for record in journal.records}
        if any(numbers["epoch"] not in noted for numbers in history):
            journal.drop(lambda record: True)
            for numbers in history:
                journal.append(noted.get(numbers["epoch"], numbers))


def train_network(
    arch: str | None,
    data: Any,
    out: str | Path,
    *,
    recipe: Source = "",
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
    quiet: bool | None = None,
    command: str = "",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> dict[str, Any]:
    """Trains a network, tests it once, and returns the content of ``result.json``; the same call continues a killed one.

    Under ``torchrun`` all processes train together; ``batch_size`` of the recipe is that of all of them.

    Args:
        arch: what :func:`archduel.networks.find.find_architecture` takes; None = that of ``start``.
        data: what ``archduel search`` takes; for recipes with ``crop_scale`` a folder like ImageNet's or tar shards.
        out: the training folder.
        recipe: what :func:`archduel.recipes.read` takes: a name, a file, a mapping; empty = chosen by the data and the space.
        changes: settings of the recipe on top.
        space: of ``arch``, where its text does not say so.
        start: a training, a finished search or ``zoo:NAME`` whose weights are taken, all but the classifier if the classes differ.
        seed: of initial weights, order and augmentation, and of splits that are made.
        device: ``cpu``, ``cuda`` (under torchrun: one a process), ``cuda:1``.
        hold_out: keeps the validation split out of the training and watches it.
        max_images: use at most so many.
        accumulate: micro-batches a process adds up before a step.
        sync_norm: batch norm over all processes.
        compiled: through ``torch.compile`` (a text: by this backend of it); where that fails, without, and it is said.
        deterministic: only algorithms that repeat bit for bit.
        workers: processes that read images from disk; None = one a core.
        quiet: print nothing; None = print where a person watches, in a terminal or a notebook.
        command: for the record.
        on_epoch: called with the numbers of each epoch, in the main process.

    Raises:
        ArchduelError: one of its kinds for architectures, data, settings and folders that cannot be used.
    """
    import torch

    from archduel.training.distributed import joined

    accumulate, seed = as_whole("accumulate", accumulate, least=1), as_whole("seed", seed, least=0)
    max_images, workers = (
        None if value is None else as_whole(name, value, least=least)
        for name, value, least in (("max_images", max_images, 1), ("workers", workers, 0))  # no worker: images are read in this process
    )
    out, changes = as_path("out", out), plain_value({} if changes is None else changes)
    if not isinstance(changes, dict):
        raise SettingError(f"changes is {brief(changes)}, expected a mapping such as {{'epochs': 4}}")
    named = os.fspath(data) if isinstance(data, (str, os.PathLike)) else ""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA needs for it, read when it starts
    place = _place(device)
    chosen = _architecture(arch, space, start)
    usual = recipe is None or (isinstance(recipe, str) and not recipe)
    file = open_recipe(default_recipe(named, chosen.space) if usual else recipe)
    known = chosen.size if start is not None or not file.meant_for(chosen.family) else {}
    wanted = file.with_({**known, **changes}, chosen.space)
    task = open_task(
        data, wanted, hold_out=hold_out, max_images=max_images, seed=seed, device=place, workers=workers
    )
    training = Training(chosen, file, task, start, seed, place)
    with joined(torch.device(place), accumulate=accumulate, sync_norm=sync_norm) as team:
        progress = Progress(quiet=quiet if team.main else True)
        options = {"compiled": compiled, "deterministic": deterministic}
        return _in_folder(training, team, Path(out), training.spec(accumulate, team, Path(out)), command, progress, on_epoch, options)


def _in_folder(
    training: Training,
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

    model = training.network()  # first, so that weights that do not fit leave no folder behind
    with ExitStack() as stack:
        folder = Job(out, TRAINING, spec, command=command) if team.main else None
        if folder is not None:
            stack.callback(folder.close)
        done = _finished(folder, progress) if folder is not None else None
        finished = team.total(torch.tensor(int(done is not None), device=training.device))
        if int(finished):
            progress.say(f"{out} is finished already")
            return done or {}
        training.say(progress)
        try:
            trained = training.train(model, team, out, folder, progress, on_epoch, **options)
        except KeyboardInterrupt:
            progress.say("stopped; the same command continues from the last checkpoint")
            raise
        return training.finish(model, trained, folder, progress)


def _finished(folder: Job, progress: Progress) -> dict[str, Any] | None:
    """Returns the result of a training whose network is there as it was written; one whose network is damaged is made again."""
    result = folder.result
    if result is None or is_whole(folder.path):
        return result
    progress.say(f"warning: the network in {folder.path} is missing or damaged; it is trained again")
    return None


def _take_start(model: nn.Module, start: str | Path, scale: Scale) -> None:
    """Gives ``model`` (of ``scale``) the weights of the network at ``start``; a classifier of other classes starts anew.

    Raises:
        RunError: if there is no trained network.
        SettingError: for images of another number of channels.
        StateError: for another architecture, with the keys that differ.
    """
    source, facts = load_trained(start)
    weights: dict[str, torch.Tensor] = dict(source.state_dict())
    before = facts["scale"]
    if before["in_channels"] != scale.in_channels:
        raise SettingError(
            f"{start} was trained on images of {before['in_channels']} channels, these have {scale.in_channels}; "
            "convert the images first"
        )
    own = model.state_dict()
    if before["n_classes"] != scale.n_classes:
        for name in _classifier_keys(source):
            if name in own:
                weights[name] = own[name]
    take_weights(model, weights, str(start))


def _classifier_keys(model: nn.Module) -> list[str]:
    """Returns the keys of the last linear layer outside the auxiliary head."""
    from torch import nn

    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and not n.startswith("auxiliary")]
    return [f"{layers[-1]}.weight", f"{layers[-1]}.bias"] if layers else []


def _place(device: str) -> str:
    """Returns the device of this process."""
    from archduel.training.distributed import member

    if not isinstance(device, str):
        raise SettingError(f"device is {brief(device)}, expected a name such as cpu or cuda")
    _, size, local = member()
    place = f"cuda:{local}" if device == "cuda" and size > 1 else device
    check_device(place)
    return place


def _architecture(arch: str | None, space: str, start: str | Path | None) -> Architecture:
    """Returns what is trained; with weights to start from it has their size, since they fit no other."""
    if not isinstance(space, str):
        raise SettingError(f"space is {brief(space)}, expected a name")
    if arch is not None:
        arch = arch_text(arch)
    if start is not None:
        begun = architecture_at(start)
        return replace(find_architecture(arch, space), size=begun.size) if arch else begun
    if not arch:
        raise SettingError("say which architecture to train (a name, a text, a file, a run folder), or --from a training folder")
    return find_architecture(arch, space)
