"""The training loop: one network, one recipe, in the order in which things happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from archduel.errors import DataError
from archduel.training.compiling import INDUCTOR, Backend
from archduel.training.modes import mode_kept
from archduel.training.pixels import Images
from archduel.training.recipe import Recipe
from archduel.training.running import Epoch, Running, Trained
from archduel.training.schedule import plan
from archduel.training.seeding import isolated, mix_seed, seeded_build
from archduel.training.sync_norm import synced
from archduel.training.team import ALONE, Team

__all__ = ["Epoch", "Trained", "seeded_build", "train"]

TOO_LARGE = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "alloc_failed")
"""What libraries say, in lower case, when they raise a plain RuntimeError for too little memory."""
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
        team: the processes that train together (:func:`archduel.training.team.joined`). Their weights are those of one
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
    images = train.resized(recipe.image_size).fraction(recipe.data_fraction, seed=0)
    if len(images) < 2:
        raise DataError(f"training needs at least 2 images, got {len(images)}")
    team.check(len(images) // plan(recipe, len(images)).per_epoch)
    with isolated(device) as reseed, mode_kept(model), synced(model, team.sync_norm), repeatable(deterministic):
        reseed(seed)
        training = Running(model, images, recipe, torch.device(device), seed, drop_path, team)
        scored = validation.resized(recipe.image_size) if validation is not None else None
        training.resume(checkpoint)
        if compiled and training.epochs():
            training.compile(INDUCTOR if isinstance(compiled, bool) else compiled)
            if on_note:
                on_note(training.result.compile_note)
        with failures_as_reason(training.result):
            for epoch in training.epochs():
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
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(wanted or before)
    torch.backends.cudnn.benchmark = not wanted
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def failures_as_reason(result: Trained) -> Iterator[None]:
    """Turns "out of memory" into the reason of ``result``; every other error goes on."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error).lower()
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not any(t in text for t in TOO_LARGE):
            raise
        result.reason = f"out of memory: {str(error).splitlines()[0] if str(error) else 'allocation failed'}"
