"""Two architectures that learn from the same shared weights and leave one set behind (RelativeNAS's weight set).

Source: Tan et al., "RelativeNAS: Relative Neural Architecture Search via Slow-Fast Learning", TNNLS 2021, and its released
search. Deviation: both learners see the same batches, where the released loader reshuffles between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from archduel.core import Arch, Cost, Estimate, State
from archduel.errors import StateError
from archduel.estimators.ownership import Ownership
from archduel.estimators.shared_judge import SharedJudge
from archduel.nets.ops import set_drop_path
from archduel.training.cursor import Cursor
from archduel.training.recipe import Recipe
from archduel.training.seeding import mix_seed
from archduel.training.sgd import SGD

__all__ = ["Pair", "optimizer"]


def optimizer(weights: nn.Module, recipe: Recipe) -> SGD:
    """Returns SGD over ``weights`` as ``recipe`` says."""
    return SGD(
        weights,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        decay_norm_bias=recipe.decay_norm_bias,
        grad_clip=recipe.grad_clip,
    )


class Pair:
    """What the last two competitors learned, until one of them wins.

    Args:
        own: the supernet's tensors by their owners.
        batches: training batches.
        judge: scores the learners.
        loss: mean cross entropy of an architecture on a batch.
        scaler: of mixed precision.
        recipe: optimizer settings.
        seed: of drop path.
    """

    def __init__(
        self,
        own: Ownership,
        batches: Cursor,
        judge: SharedJudge,
        loss: Callable[[Arch, tuple[Tensor, Tensor]], Tensor],
        scaler: Any,
        recipe: Recipe,
        *,
        seed: int,
    ) -> None:
        self.own, self.batches, self.judge, self.loss = own, batches, judge, loss
        self.scaler, self.recipe, self.seed = scaler, recipe, seed
        self._aside: dict[str, dict[str, Tensor]] = {}

    def compete(self, first: Arch, second: Arch, n_batches: int, lr: float, drop_path: float) -> tuple[Estimate, Estimate]:
        """Trains both from the present weights, which are put back, and keeps what they learned aside."""
        start, weights = self.batches.position, self.own.copies(first, second)
        self._aside = {}
        answers: dict[Arch, Estimate] = {}
        for arch in dict.fromkeys((first, second)):
            self.batches.position = start
            answers[arch] = self._learn(arch, n_batches, lr, drop_path)
            self._aside[str(arch)] = self.own.copies(arch)
            self.own.put(weights)
        return answers[first], answers[second]

    def _learn(self, arch: Arch, n_batches: int, lr: float, drop_path: float) -> Estimate:
        """Trains ``arch`` in place with an optimizer of its own and returns its estimate, training included."""
        began, images = time.perf_counter(), 0
        sgd = optimizer(nn.ParameterList(self.own.parameters(arch)), self.recipe)
        sgd.lr = lr
        device = self.batches.pixels.device
        noise = torch.Generator(device).manual_seed(mix_seed(self.seed, "drop", self.batches.position))
        set_drop_path(self.own.network, drop_path, noise)
        for _ in range(n_batches):
            batch = next(self.batches)
            self.scaler.scale(self.loss(arch, batch)).backward()
            self.scaler.step(sgd)
            self.scaler.update()
            sgd.zero_grad()
            images += len(batch[1])
        set_drop_path(self.own.network, 0.0)
        scored = self.judge.estimate(arch)
        return Estimate(scored.score, Cost(time.perf_counter() - began, images), scored.values, scored.reason)

    def inherit(self, winner: Arch, loser: Arch) -> None:
        """Writes the winner's tensors into the network, and the loser's where only it uses the operation.

        Raises:
            StateError: unless these two competed just before.
        """
        if not self._aside or set(self._aside) != {str(winner), str(loser)}:
            raise StateError(f"{winner} and {loser} did not compete just before; call compete with them first")
        won, lost = self._aside[str(winner)], self._aside[str(loser)]
        only_loser = set(lost) - set(won)
        self.own.put({**won, **{name: lost[name] for name in only_loser}})
        self._aside = {}

    def forget(self) -> None:
        """Drops what was learned."""
        self._aside = {}

    def state_dict(self) -> State:
        """Returns what waits for a winner."""
        return {arch: copy(tensors) for arch, tensors in self._aside.items()}  # tensors aside never change

    def load_state_dict(self, state: State) -> None:
        """Takes it back."""
        self._aside = {arch: copy(tensors) for arch, tensors in state.items()}
