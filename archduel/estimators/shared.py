"""Judging architectures with the weights that they share: supernet, optimizer, data cursor, recalibration."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archduel.core import Arch, Cost, Estimate, MixingSupernet, Query, Scale, State
from archduel.errors import RunError, SettingError, StateError, unknown
from archduel.estimators.shared_steps import Ownership, Pair, SharedJudge
from archduel.spaces.layers import initialise
from archduel.training.images import Cursor, Pixels
from archduel.training.loop import autocast, identity
from archduel.training.optimizer import SGD, learning_rate, plan, sgd_settings
from archduel.training.recipe import Recipe
from archduel.training.runtime import channels_last_for, isolated, mix_seed

__all__ = ["SharedWeights"]

Batch = tuple[Tensor, Tensor]
UNKNOWN_HERE = ("auxiliary_weight", "mixup", "ema", "drop_path")
"""Settings of a recipe that shared weights do not know."""


class SharedWeights:
    """The shared estimator (:class:`archduel.core.SharedEstimator`) over images.

    Args:
        supernet: all weights; trained in place.
        train: training images.
        validation: images that scores are read from; a test split has no place here.
        recipe: optimizer, schedule (over ``recipe.epochs`` passes, then ``lr_min``), batch size, augmentation, precision.
        n_classes: outputs.
        seed: of batch order and augmentation; the weights are the supernet's own.
        metric: ``accuracy``, ``balanced_accuracy`` or ``macro_f1``.
        device: where the supernet works.
        recalibration: training batches (not augmented) that measure batch-norm statistics before each score; 0 = scores
            use the running statistics of the shared training.
        score_share: share of the validation images, of each class, that a score reads.
        running_races: whether the learners of a pair are judged with the running statistics of their own training (RelativeNAS's
            released code), which a few batches do not fill.

    Raises:
        UnknownNameError: for a metric that does not exist.
        SettingError: for images of different channels, or a recipe with auxiliary head, mixup, weight average, drop path, frozen norms,
            rates by layer or another optimizer than SGD.
    """

    def __init__(
        self,
        supernet: Any,
        train: Pixels,
        validation: Pixels,
        recipe: Recipe,
        *,
        n_classes: int,
        seed: int,
        metric: str = "accuracy",
        device: str | torch.device = "cpu",
        recalibration: int = 8,
        score_share: float = 1.0,
        running_races: bool = False,
    ) -> None:
        if train.in_channels != validation.in_channels:
            raise SettingError(
                f"training images have {train.in_channels} channels, validation images {validation.in_channels}"
            )
        if wrong := [name for name in UNKNOWN_HERE if getattr(recipe, name)]:
            raise SettingError(f"shared weights are trained without {', '.join(wrong)}; set {wrong[0]} to 0")
        self._sgd = sgd_settings(recipe)  # refuses what else shared weights do not know
        self.recipe, self.seed, self.device = recipe, seed, torch.device(device)
        layout = torch.channels_last if (last := channels_last_for(supernet, recipe, self.device)) else torch.contiguous_format
        self.supernet = supernet.to(self.device, memory_format=layout).train()
        self._own = Ownership(self.supernet)
        images = train.resized(recipe.image_size).fraction(recipe.data_fraction, mix_seed(seed, "fraction"))
        checked, batches = validation.resized(recipe.image_size), recipe.with_(channels_last=last)
        self._cursors = {
            "train": Cursor(images, batches, seed=mix_seed(seed, "train"), augment=True),
            "validation": Cursor(checked, batches, seed=mix_seed(seed, "validation"), augment=False),
        }
        self._judged = SharedJudge(
            self._own,
            self._cursors["train"],
            checked.fraction(score_share, mix_seed(seed, "score")),
            Scale(recipe.channels, recipe.depth, recipe.image_size, train.in_channels, n_classes),
            metric=metric,
            recalibration=recalibration,
            seed=mix_seed(seed, "calibration"),
        )
        self._plan = plan(recipe, len(images))
        self._optimizer: SGD | None = None  # made at the first update: competitions need none
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self._noisy = any(isinstance(m, nn.Dropout) and m.p > 0 for m in self.supernet.modules())
        self._done = self._resets = 0
        train_batches, pair_seed = self._cursors["train"], mix_seed(seed, "pair")
        self._pair = Pair(self._own, train_batches, self._judged, self.loss, self._scaler, recipe, seed=pair_seed, running=running_races)

    @property
    def metric(self) -> str:
        """``validation_`` and the metric."""
        return f"validation_{self._judged.metric}"

    @property
    def recalibration(self) -> int:
        """Training batches that measure batch-norm statistics before a score; may be changed."""
        return self._judged.recalibration

    @recalibration.setter
    def recalibration(self, batches: int) -> None:
        self._judged.recalibration = batches

    @property
    def lr(self) -> float:
        """The learning rate that the recipe's schedule gives the next batch."""
        return learning_rate(self.recipe, min(self._done, self._plan.steps), self._plan)

    @property
    def momentum(self) -> float:
        """Of SGD (Nesterov)."""
        return self.recipe.momentum

    @property
    def weight_decay(self) -> float:
        """L2, on all weights unless the recipe leaves norms and biases out."""
        return self.recipe.weight_decay

    def n_batches(self, split: str) -> int:
        """Returns the batches of one pass over ``train`` or ``validation``."""
        return self._cursor(split).per_pass

    def batches(self, split: str) -> Iterator[Batch]:
        """Yields batches of ``train`` (augmented) or ``validation`` without end, from where the cursor stands.

        Raises:
            UnknownNameError: for another split.
        """
        return iter(self._cursor(split))

    def _cursor(self, split: str) -> Cursor:
        if split not in self._cursors:
            raise unknown("split", split, self._cursors)
        return self._cursors[split]

    # -- learning ---------------------------------------------------------------------------------------------

    def velocity(self, parameter: nn.Parameter) -> Tensor:
        """Returns the momentum buffer of a weight; not to be changed."""
        if self._optimizer is not None:
            velocities = self._optimizer.state_dict()["velocity"]
            for group, buffers in zip(self._optimizer.param_groups, velocities):
                for candidate, buffer in zip(group["params"], buffers):
                    if candidate is parameter:
                        return buffer
        return torch.zeros_like(parameter)

    def loss(self, what: Arch | Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Returns the mean cross entropy () of an architecture, or of a mix, on a batch; differentiable.

        Raises:
            SettingError: for a mix where the supernet cannot be mixed.
        """
        if not isinstance(what, Arch) and not isinstance(self.supernet, MixingSupernet):
            raise SettingError("the supernet of this space cannot mix operations; differentiable strategies need one that can")
        run = self.supernet if isinstance(what, Arch) else self.supernet.mix
        with isolated(self.device) if self._noisy else nullcontext() as reseed, autocast(self.device, self.recipe.precision):
            if reseed:
                reseed(mix_seed(self.seed, "layers", self._cursors["train"].position))
            logits = run(batch[0], what)
        logits = logits if self.recipe.precision == "fp32" else logits.float()
        return F.cross_entropy(logits, batch[1], label_smoothing=self.recipe.label_smoothing)

    def update(self, loss: Tensor, *, lr: float | None = None) -> None:
        """Moves the shared weights one step down ``loss`` with ``lr``, or the schedule's, and the schedule by one batch."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._step(lr)

    def _step(self, lr: float | None) -> None:
        if self._optimizer is None:
            self._optimizer = SGD(self.supernet, **self._sgd)
        self._optimizer.lr = self.lr if lr is None else lr
        self._scaler.step(self._optimizer)  # type: ignore[arg-type]
        self._scaler.update()
        self._optimizer.zero_grad()
        self._done += 1

    def learn(
        self, archs: Iterable[Arch | Sequence[Arch]], n_batches: int, *, lr: float | None = None
    ) -> Cost:
        """Trains the shared weights on the next batches, one item of ``archs`` a batch, and returns the cost.

        A list of architectures is one step on their mean loss; each counts as images trained on.

        Raises:
            SettingError: if ``archs`` ends before the batches do, or an item is an empty list.
            RunError: if the loss is not finite any more.
        """
        began, items, images, total = time.perf_counter(), iter(archs), 0, torch.zeros((), device=self.device)
        for done in range(n_batches):
            item = next(items, None)
            several = [item] if isinstance(item, Arch) else list(item or ())
            if not several:
                raise SettingError(f"there are architectures for {done} batches, {n_batches} were to be learned")
            batch = next(self._cursors["train"])
            for arch in several:
                loss = self.loss(arch, batch) / len(several)
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                total = total + loss.detach()
            self._step(lr)
            images += len(several) * len(batch[1])
        if not math.isfinite(total.item()):
            raise RunError(f"the loss of the shared weights is not finite after {self._done} batches; try a smaller lr")
        return Cost(time.perf_counter() - began, images)

    # -- pairs ------------------------------------------------------------------------------------------------

    def compete(
        self, first: Arch, second: Arch, n_batches: int, *, lr: float | None = None, drop_path: float = 0.0
    ) -> tuple[Estimate, Estimate]:
        """Trains both from the present weights with fresh optimizers on the same batches; see ``inherit``."""
        answers = self._pair.compete(first, second, n_batches, self.lr if lr is None else lr, drop_path)
        self._done += n_batches
        return answers

    def inherit(self, winner: Arch, loser: Arch) -> None:
        """Makes what two competitors learned the shared weights: the loser's where only it uses the operation.

        Raises:
            StateError: unless these two competed just before.
        """
        self._pair.inherit(winner, loser)

    def reset(self) -> None:
        """Starts again with new weights, a fresh optimizer and the schedule at its beginning; the data cursor goes on."""
        self._resets += 1
        generator = torch.Generator().manual_seed(mix_seed(self.seed, "weights", self._resets))
        initialise(self.supernet.cpu(), generator)
        self.supernet.to(self.device)
        self._pair.forget()
        self._optimizer, self._done = None, 0

    # -- scoring ----------------------------------------------------------------------------------------------

    def estimate(self, queries: Sequence[Query]) -> list[Estimate]:
        """Returns one estimate a query: on the validation images, or for fidelity ``batch`` on their next batch alone."""
        return [self._judge(query) for query in queries]

    def _judge(self, query: Query) -> Estimate:
        if query.fidelity not in (None, "batch"):
            raise unknown("fidelity of shared weights", str(query.fidelity), ["batch"])
        return self._judged.estimate(query.arch, next(self._cursors["validation"]) if query.fidelity else None)

    # -- state ------------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return identity(self.recipe, self.seed, len(self._cursors["train"].pixels))

    def state_dict(self) -> State:
        """Returns weights, optimizer, cursors, place in the schedule and what waits for ``inherit``."""
        weights = {name: value.detach().clone() for name, value in self.supernet.state_dict().items()}
        velocity = self._optimizer.state_dict()["velocity"] if self._optimizer else []
        return {
            "identity": self._identity(),
            "weights": weights,
            "velocity": [[buffer.clone() for buffer in group] for group in velocity],
            "scaler": dict(self._scaler.state_dict()),
            "cursors": {split: cursor.position for split, cursor in self._cursors.items()},
            "done": self._done,
            "resets": self._resets,
            "aside": self._pair.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would.

        Raises:
            StateError: for the state of another recipe, seed, set of images or supernet.
        """
        if state["identity"] != self._identity():
            raise StateError("the saved shared weights belong to another recipe, seed or number of images; start afresh")
        try:
            self.supernet.load_state_dict(state["weights"])
        except RuntimeError as error:
            raise StateError(f"the saved shared weights are those of another supernet: {error}") from error
        self._optimizer = SGD(self.supernet, **self._sgd) if state["velocity"] else None
        if self._optimizer:
            self._optimizer.load_state_dict({"velocity": state["velocity"]})
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        for split, position in state["cursors"].items():
            self._cursors[split].position = int(position)
        self._done, self._resets = int(state["done"]), int(state["resets"])
        self._pair.load_state_dict(state["aside"])
