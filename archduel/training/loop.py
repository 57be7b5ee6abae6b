"""The training loop: one network, one recipe, in the order in which things happen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archduel.core.storage import if_whole, load_state, save_state
from archduel.errors import DataError, MachineError, StateError, in_one_line, short_of_memory
from archduel.training.augment import Changes, augmented, mixed, mixup_share, normalise
from archduel.training.distributed import ALONE, Team, unused_parameters
from archduel.training.images import Images
from archduel.training.metrics import evaluate
from archduel.training.norms import freeze, synced
from archduel.training.optimizer import WeightAverage, drop_path_at, learning_rate, optimizer_for, plan
from archduel.training.recipe import Recipe
from archduel.training.runtime import (
    INDUCTOR,
    Backend,
    autocast,
    channels_last_for,
    compiled_call,
    isolated,
    mix_seed,
    mode_kept,
)

__all__ = ["Epoch", "Running", "Stateful", "Trained", "autocast", "forward_loss", "identity", "load_training", "save_training", "train"]

# -- A training on disk, so that a killed one continues exactly ---------------------------------------------------------
#
# Every epoch draws its random numbers from a seed of its own, so that weights, optimizer and the number of the epoch are all
# there is to keep.


class Stateful(Protocol):
    """Something whose state can be taken and given back: a network, an optimizer, a scaler."""

    def state_dict(self) -> Any:
        """Returns all that changes."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Takes it back."""


def identity(recipe: Recipe, seed: int, n_images: int) -> dict[str, Any]:
    """Returns what two trainings must have in common for one to continue the other."""
    return {"recipe": asdict(recipe), "seed": seed, "images": n_images}


def save_training(path: Path, parts: Mapping[str, Stateful], progress: Mapping[str, Any], whose: Mapping[str, Any]) -> None:
    """Writes the states of ``parts`` and the ``progress`` (JSON values) of the training that is ``whose``, atomically."""
    # One file for all parts: weights of one epoch and velocities of another would be a training that nobody ran.
    states = {name: dict(part.state_dict()) for name, part in parts.items()}
    save_state(path, {"identity": dict(whose), "progress": dict(progress), "parts": states})


def load_training(path: Path, parts: Mapping[str, Stateful], whose: Mapping[str, Any], say: Callable[[str], None] = lambda text: None) -> dict[str, Any] | None:
    """Gives ``parts`` their saved states and returns the progress, or None if there is no such file yet, or only a damaged one.

    Raises:
        StateError: if the file is no checkpoint, or one of another training or network.
    """
    state = if_whole(path, load_state, say)
    if state is None:
        return None
    if set(state) != {"identity", "progress", "parts"}:
        raise StateError(f"{path} is not a checkpoint of a training; remove it or name another file")
    saved = state["identity"]
    # Continued with another recipe, seed or set, the result would be of neither training.
    if saved != whose:
        flat = {**saved, **saved["recipe"]}, {**whose, **whose["recipe"]}
        other = [f"{k} {flat[0].get(k)!r} (now {v!r})" for k, v in flat[1].items() if k != "recipe" and flat[0].get(k) != v]
        raise StateError(f"{path} belongs to a training with {', '.join(other)}; remove it to start afresh")
    try:
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
    except (RuntimeError, KeyError, ValueError) as error:
        raise StateError(f"{path} does not fit this network ({error}); remove it to start afresh") from error
    return dict(state["progress"])


# -- What a batch costs a network: cross entropy of its labels, mixed ones included, and of its auxiliary head ----------


def forward_loss(
    call: Callable[[Tensor], Any], x: Tensor, labels: Tensor, recipe: Recipe, share: float = 1.0, partner: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the loss, that of the auxiliary head included, and the logits.

    Args:
        call: the network: (N, C, H, W) -> logits (N, classes), or logits and those of the auxiliary head.
        x: (N, C, H, W) normalised images.
        labels: (N,) int64.
        recipe: precision, label smoothing and the weight of the auxiliary head.
        share: how much of each image is its own where images are mixed.
        partner: (N,) the image that each is mixed with; None = not mixed.
    """
    with autocast(x.device, recipe.precision):
        out = call(x)
        logits, extra = out if isinstance(out, tuple) else (out, None)
        # The auxiliary head sees the same targets; its weight alone says how much it counts.
        loss = _cross_entropy(logits, labels, recipe.label_smoothing, share, partner)
        if extra is not None and recipe.auxiliary_weight:
            loss = loss + recipe.auxiliary_weight * _cross_entropy(extra, labels, recipe.label_smoothing, share, partner)
    return loss, logits


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float, share: float, partner: Tensor | None) -> Tensor:
    """Returns cross entropy, of two labels for mixed images."""
    # Half precision loses small differences in the sum of exponentials; float64 is that of exactness tests.
    logits = logits if logits.dtype == torch.float64 else logits.float()
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    if partner is None:
        return loss
    # Cross entropy is linear in the target, so two losses are the loss of the mixed label, without making one-hot labels.
    return share * loss + (1 - share) * F.cross_entropy(logits, labels[partner], label_smoothing=smoothing)


# -- A network in the middle of its training: what happens in an epoch and in a step ------------------------------------


Epoch = dict[str, float]
"""One epoch's numbers: epoch (from 1, a fraction for a part), lr, train_loss, train_accuracy, val_loss, val_accuracy."""

CHECK_EVERY = 25  # steps between two looks at the loss: reading it makes an accelerator wait


@dataclass
class Trained:
    """What a training came to.

    Attributes:
        history: the numbers of each finished epoch.
        seconds: time spent, that of interrupted attempts up to their last checkpoint included.
        images: images trained on, repetitions counted.
        reason: why it ended early, empty if it did not.
        compile_seconds: of them, what compiling took (each attempt compiles anew).
        compile_note: how the last attempt's compiling went, empty without any.
    """

    history: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0
    images: int = 0
    reason: str = ""
    compile_seconds: float = 0.0
    compile_note: str = ""


class Running:
    """A network, its optimizer and where they are in the plan."""

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        recipe: Recipe,
        device: torch.device,
        seed: int,
        drop_path: Callable[[nn.Module, float], object] | None,
        team: Team = ALONE,
    ) -> None:
        last = channels_last_for(model, recipe, device)
        layout = torch.channels_last if last else torch.contiguous_format
        self.changing = recipe.with_(channels_last=last)  # what batches are made with
        self.model = model.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.images, self.recipe, self.device, self.seed, self.drop_path = images, recipe, device, seed, drop_path
        self.team = team
        self.plan = plan(recipe, len(images))
        self.optimizer = optimizer_for(model, recipe)
        # Gradients of fp16 underflow without it; bf16 has the exponents of float32.
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.average = WeightAverage(model, recipe.ema) if recipe.ema else None
        self.result = Trained()
        self.done = 0  # finished epochs
        # DistributedDataParallel waits for the gradient of every parameter; looking for unused ones costs each step, so only if there are any.
        unused = team.size > 1 and bool(unused_parameters(self.model, images, device))
        self.forward = team.wrapped(self.model, device, some_unused=unused)
        self.call: Callable[[Tensor], Any] = self.forward
        self._clock = self._saved = time.perf_counter()
        # Kept on the device: reading a number in every step would make an accelerator wait for it.
        self._sums = torch.zeros(3, device=device)  # loss x images, correct, images of the running epoch

    def compile(self, backend: Backend) -> None:
        """Compiles what a step calls, on all processes or on none, and notes how it went."""
        n, per_epoch = len(self.images), self.plan.per_epoch
        # Equal batches differ by one image at most: these are the two sizes.
        steps = {n // per_epoch, -(-n // per_epoch)}
        sizes = {part.stop - part.start for step in steps for part in self.team.parts(step)}
        raw, labels = next(self.images.batches([torch.arange(max(sizes))], 0))
        x = normalise(raw, self.images.mean, self.images.std, channels_last=self.changing.channels_last)
        self.forward.train()
        self._set_drop_path(self.done)
        with self.team.adding(self.forward, False):
            made = compiled_call(self.forward, lambda call, x: forward_loss(call, x, labels, self.recipe)[0], x, backend=backend, sizes=len(sizes))
        self.result.compile_seconds += made.seconds
        if int(self.team.total(torch.tensor(int(bool(made.reason)), device=self.device))):
            why = made.reason or "it failed in another process"
            self.result.compile_note = f"torch.compile failed after {made.seconds:.1f} s, the training goes on without it: {why}"
            return
        self.call = made.call
        self.result.compile_note = f"compiled in {made.seconds:.1f} s"

    def epochs(self) -> range:
        """The epochs that are left."""
        return range(self.done, self.plan.epochs)

    def run_epoch(self, epoch: int, stop: Callable[[], bool] | None) -> bool:
        """Trains one epoch; false if it was left early, with the reason in the result."""
        # Drawn on the CPU whatever the device, so that the same images come in the same order everywhere.
        order = torch.randperm(len(self.images), generator=_generator("cpu", self.seed, "order", epoch))
        noise = _generator(self.device, self.seed, "noise", epoch)
        # Seeds of each epoch, not one stream: a continued training draws what an uninterrupted one would.
        rng = np.random.default_rng(mix_seed(self.seed, "mixup", epoch))
        self._sums.zero_()
        self.forward.train()
        if self.recipe.frozen_norms:
            freeze(self.forward)
        self._set_drop_path(epoch)
        steps = self.plan.steps_of(epoch)
        wanted = list(zip(steps, order.tensor_split(self.plan.per_epoch)))
        # All parts of the epoch at once, so that images that are read from disk are read ahead.
        parts = [rows[part] for _, rows in wanted for part in self.team.parts(len(rows))]
        batches = self.images.batches(parts, mix_seed(self.seed, "crops", epoch))
        for step, rows in wanted:
            if stop is not None and stop():
                self.result.reason = f"stopped in epoch {epoch + 1} of {self.plan.epochs}"
                return False
            self.optimizer.lr = learning_rate(self.recipe, step, self.plan)
            self._step(len(rows), batches, noise, rng)
            self.result.images += len(rows)
            # A loss that is not a number stays one: the rest of the epoch would be wasted.
            if (step + 1) % CHECK_EVERY == 0 and not self._finite():
                break
        if not self._finite():
            self.result.reason = f"the training loss was not finite in epoch {epoch + 1}; a smaller lr may help"
            return False
        return True

    def _set_drop_path(self, epoch: int) -> None:
        if self.drop_path and self.recipe.drop_path:
            self.drop_path(self.model, drop_path_at(self.recipe, epoch))

    def _finite(self) -> bool:
        """Whether the epoch's loss is a number, on all processes."""
        # The sum of the epoch, not the last loss: one that was not finite stays in it.
        return math.isfinite(self.team.total(self._sums[0]).item())

    def _step(
        self, n: int, batches: Iterator[tuple[Tensor, Tensor]], noise: torch.Generator, rng: np.random.Generator
    ) -> None:
        """One step of ``n`` images, of which this process takes its parts: forward, backward, clip, update, average."""
        changes: Changes | None = None
        parts = self.team.parts(n)
        self.optimizer.zero_grad()
        for number, part in enumerate(parts, 1):
            raw, labels = next(batches)
            # Drawn for the whole step, of which each process takes its part: what happens to an image does not depend on how many there are.
            changes = changes or Changes.draw(self.recipe, n, raw.shape[2], noise)
            x = augmented(raw, self.changing, self.images.mean, self.images.std, changes.part(part))
            # A part's mean loss counts by its share of the images, so that unequal parts add up to the mean of the step.
            with self.team.adding(self.forward, number == len(parts)):
                self._add(x, labels, len(labels) * self.team.size / n, noise, rng)
        self.scaler.step(self.optimizer)  # type: ignore[arg-type]
        self.scaler.update()
        if self.average:
            self.average.update()

    def _add(
        self, x: Tensor, labels: Tensor, weight: float, noise: torch.Generator, rng: np.random.Generator
    ) -> None:
        """Adds the gradients of a micro-batch, whose mean loss counts ``weight``."""
        recipe = self.recipe
        share, partner = 1.0, None
        if recipe.mixup:
            share = mixup_share(recipe.mixup, rng)
            x, partner = mixed(x, share, noise)
        loss, logits = forward_loss(self.call, x, labels, recipe, share, partner)
        self.scaler.scale(loss if weight == 1 else loss * weight).backward()
        right = (logits.detach().argmax(1) == labels).sum()
        self._sums += torch.stack((loss.detach().float() * len(labels), right, right.new_tensor(len(labels))))

    def note_epoch(self, epoch: int, validation: Images | None) -> Epoch:
        """Writes the epoch's numbers into the history and returns them."""
        # Before anything is scored: processes normalise by their own statistics in training, but there is one network to keep.
        self._share_buffers()
        loss, right, count = self.team.total(self._sums).tolist()
        steps = self.plan.steps_of(epoch)
        numbers: Epoch = {
            "epoch": epoch + len(steps) / self.plan.per_epoch,
            "lr": learning_rate(self.recipe, steps[-1], self.plan),
            "train_loss": loss / count,
            "train_accuracy": right / count,
        }
        if validation is not None:
            # What will be kept is what is scored.
            with self.average.applied() if self.average else nullcontext():
                numbers |= self._scored(validation)
        self.result.history.append(numbers)
        self.done = epoch + 1
        # Before the checkpoint is written, which is to have what was paid until now.
        now = time.perf_counter()
        self.result.seconds += now - self._clock
        self._clock = now
        return numbers

    def _share_buffers(self) -> None:
        """Gives all processes the mean of their running statistics, unless they are synchronised anyway."""
        if self.team.size > 1 and not self.team.sync_norm:
            self.team.average([b for b in self.model.buffers() if b.is_floating_point()])
            self.team.average(self.average.buffers() if self.average else [])

    def _scored(self, validation: Images) -> dict[str, float]:
        """Returns loss and accuracy on ``validation``, of which each process looks at its share."""
        n, team = len(validation), self.team
        # Every n-th image; a process beyond the last one looks at that and counts 0, since all must take part in the sum.
        rows = torch.arange(min(team.rank, n - 1), n, team.size)
        scored = evaluate(self.model, validation if team.size == 1 else validation.subset(rows), device=self.device)
        if team.size == 1:
            return {"val_loss": scored.loss, "val_accuracy": scored.accuracy}
        weight = float(len(rows)) if team.rank < n else 0.0
        sums = torch.tensor([scored.loss * weight, scored.accuracy * weight], device=self.device)
        loss, right = team.total(sums).tolist()
        return {"val_loss": loss / n, "val_accuracy": right / n}

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        return {**parts, "average": self.average} if self.average else parts

    def save(self, path: Path | None, every_seconds: float) -> None:
        """Writes the checkpoint if there is one and it is time."""
        late = time.perf_counter() - self._saved >= every_seconds
        # Processes hold equal weights, so one of them writes.
        if path is None or not self.team.main or not (late or self.done == self.plan.epochs):
            return
        progress = {
            "done": self.done,
            "history": self.result.history,
            "seconds": self.result.seconds,
            "images": self.result.images,
            "compile_seconds": self.result.compile_seconds,
        }
        save_training(path, self._parts(), progress, identity(self.recipe, self.seed, len(self.images)))
        self._saved = time.perf_counter()

    def resume(self, path: Path | None, say: Callable[[str], None] | None = None) -> None:
        """Goes to where the checkpoint stands, if there is one; ``say`` is told of a damaged one, which is put aside."""
        whose = identity(self.recipe, self.seed, len(self.images))
        progress = load_training(path, self._parts(), whose, say or (lambda text: None)) if path is not None else None
        if progress is not None:
            self.done = progress["done"]
            self.result = Trained(progress["history"], progress["seconds"], progress["images"])
            self.result.compile_seconds = progress.get("compile_seconds", 0.0)  # earlier versions did not count them
        self.team.agree(self.done, "the checkpoint", self.device)

    def finish(self) -> None:
        """Counts the time of an unfinished epoch and leaves the averaged weights in the network."""
        self.result.seconds += time.perf_counter() - self._clock
        if self.average:
            self.average.keep()


def _generator(device: str | torch.device, seed: int, purpose: str, epoch: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(mix_seed(seed, purpose, epoch))


# Long against the time of a write, short against what a person minds losing.
CHECKPOINT_SECONDS = 10.0


def train(
    model: nn.Module,
    train: Images,
    recipe: Recipe,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    validation: Images | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    drop_path: Callable[[nn.Module, float], object] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    stop: Callable[[], bool] | None = None,
    team: Team = ALONE,
    compiled: bool | Backend = False,
    on_note: Callable[[str], None] | None = None,
    deterministic: bool = False,
) -> Trained:
    """Trains ``model`` in place and returns what happened; the same arguments give the same weights on a CPU.

    A loss that is not finite or too little memory ends the training early with a reason. In training mode the network
    returns logits (B, classes), or logits and those of an auxiliary head.

    Args:
        model: the network, initialised (``seeding.seeded_build``).
        train: training images; ``data_fraction`` and ``image_size`` of the recipe are applied to them here.
        recipe: how to train.
        seed: of batch order, augmentation, dropout and drop path.
        device: where to train.
        validation: evaluated after each epoch (weights are not chosen by it).
        checkpoint: file that is written after an epoch and continued from if it exists.
        checkpoint_seconds: least time between two writes (the end is always written).
        drop_path: sets the drop-path probability of a network; without it that of the recipe has no effect.
        on_epoch: called with each epoch's numbers.
        stop: asked before each step; true ends the training there (for one process).
        team: the processes that train together (:func:`archduel.training.distributed.joined`). Their weights are those of one
            process with the same batch size, to rounding, if batch norm is synchronised and the network draws no random
            numbers of its own (dropout, drop path: each process draws its own masks) and there is no mixup.
        compiled: calls the network through ``torch.compile`` in training steps (a text or function: by this backend of it); where that fails
            the training goes on without.
        on_note: called with what a person should know besides: how long compiling took, or why it failed.
        deterministic: only algorithms that repeat bit for bit, also on CUDA; slower there.

    Raises:
        DataError: for fewer than two training images.
        SettingError: for a step too small for the team.
        StateError: for a checkpoint of another training.
    """
    # The seed is not the training's: all networks of a recipe are to see the same part of the images.
    images = train.resized(recipe.image_size).fraction(recipe.data_fraction, seed=0)
    if len(images) < 2:
        raise DataError(f"training needs at least 2 images, got {len(images)}")
    team.check(len(images) // plan(recipe, len(images)).per_epoch)
    with isolated(device) as reseed, mode_kept(model), synced(model, team.sync_norm), repeatable(deterministic):
        reseed(seed)
        training = Running(model, images, recipe, torch.device(device), seed, drop_path, team)
        scored = validation.resized(recipe.image_size) if validation is not None else None
        training.resume(checkpoint, on_note)
        if compiled and training.epochs():
            training.compile(INDUCTOR if isinstance(compiled, bool) else compiled)
            if on_note:
                on_note(training.result.compile_note)
        with failures_as_reason(training.result):
            for epoch in training.epochs():
                # Dropout and drop path draw from torch's global generator; processes must not draw the same masks.
                reseed(mix_seed(seed, "layers", epoch, *([team.rank] if team.size > 1 else [])))
                if not training.run_epoch(epoch, stop):
                    break
                numbers = training.note_epoch(epoch, scored)
                training.save(checkpoint, checkpoint_seconds)
                if on_epoch:
                    on_epoch(numbers)
        training.finish()
    return training.result


@contextmanager
def repeatable(wanted: bool) -> Iterator[None]:
    """Lets torch use deterministic algorithms only, for a while; else lets CUDA try which convolution is fastest."""
    benchmark, changes = torch.backends.cudnn.benchmark, wanted and not torch.are_deterministic_algorithms_enabled()
    if changes:  # the call imports torch's compiler, which takes seconds that the first training would be charged
        torch.use_deterministic_algorithms(True)
    # Shapes do not change within a training, so the search for the fastest convolution is paid once.
    torch.backends.cudnn.benchmark = not wanted
    try:
        yield
    finally:
        if changes:
            torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def failures_as_reason(result: Trained) -> Iterator[None]:
    """Turns "out of memory" of a GPU into the reason of ``result``; every other error goes on.

    Too large a network for a GPU is an answer about it; the machine's memory is shared, and what was too much now may fit in an hour.

    Raises:
        MachineError: for too little memory of the machine.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            result.reason = f"out of memory: {str(error).splitlines()[0] if str(error) else 'allocation failed'}"
        elif short_of_memory(error):
            raise MachineError(f"this machine has too little memory at present: {in_one_line(error)}") from error
        else:
            raise
