"""Anytime training: a network that can be stopped after any step, scored as if it were finished, and gone on with.

The learning rate is constant after a short warm-up; whoever trains says when it falls to zero (:mod:`archduel.race.plan`), so
a training has no length that must be known beforehand. In between a network is scored with an average of its latest weights,
which costs no training and stands in for the weights after a decay; how near it comes is not measured. Handed over are the last
weights, which after the decay were right more often than that average (``trials`` in ``benchmarks/records/race_recipe.json``).
Everything random in a step follows from the seed and the number of the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archduel.core.storage import load_state, save_state
from archduel.errors import StateError
from archduel.training.depthwise import quick_depthwise
from archduel.training.images import Cursor, Pixels
from archduel.training.loop import forward_loss
from archduel.training.norms import freeze
from archduel.training.optimizer import optimizer_for
from archduel.training.recipe import Recipe
from archduel.training.runtime import channels_last_for, in_parts, isolated, mix_seed, mode_kept

__all__ = ["Anytime", "Trail", "best_precision"]

CHECK_EVERY = 20  # steps between two looks at the loss: a loss that is not finite stays so
AVERAGE_EVERY = 4  # steps between two updates of the average, which cost memory traffic only


def best_precision(device: str | torch.device) -> str:
    """Returns ``bf16`` where the processor multiplies it in hardware (1.6 to 2.1 times the images a second there), else ``fp32``."""
    device = torch.device(device)
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # without them bf16 is emulated and slower than fp32
    return "bf16" if any(getattr(torch.cpu, name, bool)() for name in names) else "fp32"


class Trail:
    """An average of a network's weights and statistics over about the last ``1 / weight`` of its steps, however many there are.

    Args:
        model: the network that is trained.
        weight: the share of all steps that the average looks back, at least; 1/8 is insensitive.

    Source: polynomial-decay averaging, Shamir and Zhang, ICML 2013.
    """

    def __init__(self, model: nn.Module, weight: float = 8.0) -> None:
        self.weight, self.updates = weight, 0
        self._live = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
        self._average = [tensor.clone() for tensor in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the present weights in."""
        self.updates += 1
        torch._foreach_lerp_(self._average, self._live, min(1.0, (1 + self.weight) / (self.updates + self.weight)))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Lets the network have the average weights for a while."""
        kept = [live.clone() for live in self._live]
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, values: list[Tensor]) -> None:
        for live, value in zip(self._live, values):
            live.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Returns the average."""
        return {"average": self._average, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the average of :meth:`state_dict`."""
        self.updates = int(state["updates"])
        for mine, saved in zip(self._average, state["average"]):
            mine.copy_(saved)


class Anytime:
    """A network in training.

    Attributes:
        steps: batches so far.
        images: images so far, repetitions counted.
        passes: passes over the training images so far.
        turn: what the latest step added to them; whoever goes on decides by it whether another one fits.
        loss: mean training loss of the latest steps, in nats.
        teach: given the rows of a batch, its logits and its loss, returns the loss with what a teacher says (:mod:`archduel.race.teaching`).

    Args:
        model: the network, initialised.
        images: what it is trained on.
        recipe: batch size, augmentation, SGD's settings, precision, layout; lengths and schedule are not used.
        seed: of orders, augmentation and dropout.
        device: where to train.
    """

    def __init__(self, model: nn.Module, images: Pixels, recipe: Recipe, *, seed: int, device: str | torch.device = "cpu") -> None:
        self.device, self.seed = torch.device(device), seed
        last = channels_last_for(model, recipe, self.device)
        self.recipe = recipe.with_(channels_last=last)
        layout = torch.channels_last if last else torch.contiguous_format
        self.model = model.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self.optimizer = optimizer_for(model, recipe)
        self.trail = Trail(model)
        self.steps, self.images, self.passes, self.loss = 0, 0, 0.0, math.nan
        self.turn = 0.0
        self.joined_at = -1
        self.teach: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        self.cursor = self._cursor(images)

    def _cursor(self, images: Pixels) -> Cursor:
        joined = int(self.joined_at >= 0)
        return Cursor(images, self.recipe, seed=mix_seed(self.seed, "images", joined), augment=True)

    def join(self, images: Pixels) -> None:
        """Goes on with other images, such as training and validation images together."""
        self.joined_at = self.steps
        self.cursor = self._cursor(images)

    def run(self, rate: Callable[[], float | None]) -> bool:
        """Trains until ``rate``, asked before each step for its learning rate, says None.

        Returns:
            Whether the training is sound: false ends it as soon as the loss is found not to be finite.
        """
        self.model.train()
        if self.recipe.frozen_norms:
            freeze(self.model)
        total = torch.zeros((), device=self.device)
        count = 0
        with isolated(self.device) as reseed, quick_depthwise(self.model):
            while (lr := rate()) is not None:
                reseed(mix_seed(self.seed, "layers", self.steps))  # of layers that draw: dropout, drop path
                total += self._step(lr)
                count += 1
                if count % CHECK_EVERY == 0:
                    self.loss = float(total) / CHECK_EVERY
                    total.zero_()
                    if not math.isfinite(self.loss):
                        return False
        rest = count % CHECK_EVERY
        self.loss = float(total) / rest if rest else self.loss
        return not rest or math.isfinite(self.loss)

    def _step(self, lr: float) -> Tensor:
        """One step; returns its loss ()."""
        x, labels = next(self.cursor)
        self.optimizer.lr = lr
        self.optimizer.zero_grad()
        number = self._parts(x)
        total = torch.zeros((), device=self.device)
        for images, answers, rows in zip(*(each.chunk(number) for each in (x, labels, self.cursor.rows))):
            loss, logits = forward_loss(self.model, images, answers, self.recipe)
            if self.teach is not None:
                loss = self.teach(rows, logits, loss)
            loss = loss * (len(answers) / len(labels))
            loss.backward()
            total += loss.detach()
        self.optimizer.step()
        self.steps += 1
        self.images += len(labels)
        self.turn = len(labels) / len(self.cursor.pixels)
        self.passes += self.turn
        if self.steps % AVERAGE_EVERY == 0:
            self.trail.update()
        return total

    def _parts(self, x: Tensor) -> int:
        """Returns in how many parts a batch goes through the network: where norms keep their statistics the gradients are those of the whole."""
        return in_parts(self.model, x.shape[-1], len(x), self.device) if self.recipe.frozen_norms else 1

    @contextmanager
    def averaged(self, images: int = 512) -> Iterator[nn.Module]:
        """Lets the network have its average weights for a while, with batch-norm statistics of these weights.

        Statistics that were averaged along with the weights, or had only a few dozen steps to form, say little of them: a network
        of 95 % came out at 10 %.

        Args:
            images: training images that the statistics are taken from.
        """
        every = [] if self.recipe.frozen_norms else self.model.modules()
        norms = [m for m in every if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
        momenta = [norm.momentum for norm in norms]
        n = len(self.cursor.pixels)
        rows = torch.arange(0, n, max(1, n // images))[:images]
        with self.trail.applied(), torch.no_grad(), mode_kept(self.model):
            self.model.eval()
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean of all batches
                norm.train()
            for part in rows.split(self.recipe.batch_size) if norms else ():
                if len(part) > 1:
                    self.model(self.cursor.plain(self.cursor.pixels.batch(part)[0]))
            for norm, momentum in zip(norms, momenta):
                norm.momentum = momentum
            yield self.model

    def save(self, path: Path, **facts: float) -> None:
        """Writes all that changes, and ``facts``, atomically."""
        progress = {"steps": self.steps, "images": self.images, "passes": self.passes, "joined_at": self.joined_at, "turn": self.turn, **facts}
        parts = {"model": self.model, "optimizer": self.optimizer, "trail": self.trail}
        save_state(path, {"progress": progress, **{name: dict(part.state_dict()) for name, part in parts.items()}})

    def load(self, path: Path, joined: Pixels | None = None) -> dict[str, float]:
        """Continues exactly as the one that was saved would; returns the facts saved with it.

        Args:
            path: file of :meth:`save`.
            joined: the images of :meth:`join`, for a training that had gone on with them.

        Raises:
            StateError: for a file of another network, or ``joined`` missing.
        """
        state = load_state(path)
        try:
            progress = state["progress"]
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.trail.load_state_dict(state["trail"])
        except (KeyError, RuntimeError) as error:
            raise StateError(f"{path} does not fit this network ({error}); remove it to train it again") from error
        self.steps, self.images, self.passes = progress["steps"], progress["images"], progress["passes"]
        self.joined_at, self.turn = progress["joined_at"], progress.get("turn", 0.0)
        if self.joined_at >= 0:
            if joined is None:
                raise StateError(f"{path} is of a training on more images, which are missing here")
            self.cursor = self._cursor(joined)
        self.cursor.position = self.steps - max(0, self.joined_at)
        return dict(progress)
