"""Distillation: a network within tight limits learns from what a larger one, which is not, says of the same images.

Where the limits keep out networks that would do better, one of them is fine-tuned for a part of the last training's time and then
asked about all images, plain and mirrored. What it says (logits, softened) is the larger part of the target of the network that is
handed over.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015. That the teacher is asked once, and not about
each augmented image again, costs some of the gain (Beyer et al., "A good teacher is patient and consistent", CVPR 2022) and a fortieth of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archduel.core import Arch, Scale
from archduel.core.storage import if_whole, load_state, save_state
from archduel.race.alone import Stretch, train_alone
from archduel.race.clock import Stopwatch
from archduel.race.training import Anytime
from archduel.training.augment import normalise
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe
from archduel.training.runtime import at_a_time, autocast

__all__ = ["LEAST_TO_LEARN", "LESSON", "TEACHER_SHARE", "Teacher", "asked", "learns_from", "lesson_loss", "taught"]

LESSON = "lesson.safetensors"
"""File in the folder of checkpoints."""
SHARE = 0.9
"""Of the loss that the teacher's answers are; the labels are the rest."""
TEMPERATURE = 4.0
"""By which both sides' logits are divided; of 2 and 4 no difference was seen."""
BATCH = 128
TEACHER_SHARE, LEAST_TO_LEARN = 0.2, 200.0
"""Of the last training's seconds what a teacher may have, and how many there must be: 100 s of a teacher and 250 s of learning were 1 point ahead of 300 s
alone on CIFAR-10's classes, 120 s of learning were not (``benchmarks/records/distillation.json``)."""
WARMUP = 0.2
"""Share of the teacher's training over which its rate rises, so that what it knows is not lost first."""


@runtime_checkable
class Teacher(Protocol):
    """A source of networks that also has some that are above the limits, to learn from."""

    def teacher(self, pupil: Arch, reached: float, seconds: float, n: int) -> tuple[Arch, Scale] | None:
        """Returns a network that should come to clearly more than the one that would learn from it; None where there is none.

        Args:
            pupil: the one that would learn.
            reached: its validation accuracy.
            seconds: that its training may take.
            n: images that it is trained on.
        """

    def open(self, arch: Arch, scale: Scale, images: Pixels, seed: int, *, fresh: bool) -> nn.Module:
        """Returns it with its weights."""

    def recipe(self, arch: Arch, recipe: Recipe) -> Recipe:
        """Returns how it is trained."""

    def named(self, arch: Arch) -> str:
        """Returns a name for people."""


def lesson_loss(logits: Tensor, lesson: Tensor, loss: Tensor) -> Tensor:
    """Returns the loss () of a batch that is taught: of the labels, and how far its answers are from the teacher's.

    Args:
        logits: (N, K) of the network.
        lesson: (N, K) of the teacher.
        loss: () cross entropy with the labels.
    """
    target = F.softmax(lesson / TEMPERATURE, 1)
    # times the square of the temperature, so that gradients keep their size
    distance = F.kl_div(F.log_softmax(logits.float() / TEMPERATURE, 1), target, reduction="batchmean") * TEMPERATURE**2
    return (1 - SHARE) * loss + SHARE * distance


def learns_from(trainer: Anytime, lesson: Tensor | None) -> Anytime:
    """Returns a training on the images of a lesson, which looks at it from now on; without one the training as it is."""
    if lesson is not None:
        said = lesson.to(trainer.device)
        trainer.teach = lambda rows, logits, loss: lesson_loss(logits, said[rows.to(said.device)], loss)
    return trainer


def taught(path: Path, n: int, say: Callable[[str], None] = lambda text: None) -> Tensor | None:
    """Returns the lesson (n, K) in a file; None where there is none, or one of other images."""
    state = if_whole(path, load_state, say)
    lesson = None if state is None else torch.as_tensor(state["lesson"])
    return lesson if lesson is not None and len(lesson) == n else None


def asked(
    teacher: Teacher, arch: Arch, scale: Scale, images: Pixels, recipe: Recipe, seconds: float, folder: Path, watch: Stopwatch, *,
    seed: int, device: str, threads: int,
) -> Tensor:  # fmt: skip
    """Returns what a teacher says of all images, (N, K) logits, after it was trained on them for ``seconds``; kept in ``folder``.

    An interrupted training goes on from its last save.

    Args:
        teacher: opens the network.
        arch: which one.
        scale: of it.
        images: at its size, in the order of the lesson.
        recipe: of the race.
        seconds: of training, on the clock of ``watch``.
        folder: of checkpoints.
        watch: the clock of the budget.
        seed: of heads, orders and augmentation.
        device: of torch.
        threads: of torch, at most.

    Raises:
        RunError: if the training diverges.
    """
    state = folder / "teacher-0.safetensors"
    trainer = Anytime(teacher.open(arch, scale, images, seed, fresh=not state.exists()), images, teacher.recipe(arch, recipe), seed=seed, device=device)
    saved = if_whole(state, trainer.load)
    done = 0.0 if saved is None else saved["done"]

    def save(now: float) -> None:
        trainer.save(state, done=now, clock=watch.seconds)

    train_alone(trainer, Stretch(seconds, done, threads=threads, warmup=WARMUP), save=save, clock=watch.clock)
    lesson = _answers(trainer, images, mirrored=recipe.flip)
    save_state(folder / LESSON, {"lesson": lesson})
    state.unlink(missing_ok=True)
    return lesson


def _answers(trainer: Anytime, images: Pixels, *, mirrored: bool) -> Tensor:
    """Returns (N, K) logits, the mean of those of each image and of its mirror image."""
    model = trainer.model.eval()
    parts = []
    with torch.no_grad(), autocast(trainer.device, trainer.recipe.precision):
        for rows in torch.arange(len(images)).split(at_a_time(model, images.image_size, BATCH, trainer.device)):
            x = normalise(images.batch(rows)[0], images.mean, images.std, channels_last=trainer.recipe.channels_last)
            said = model(x).float()
            parts.append(((said + model(x.flip(3)).float()) / 2 if mirrored else said).cpu())
    return torch.cat(parts)
