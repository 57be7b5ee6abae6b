"""GDAS: DARTS with one sampled operation an edge.

Dong, Yang: "Searching for a Robust Neural Architecture in Four GPU Hours", CVPR 2019.

    paper               here
    A, A-tilde, h       alphas, the softmax of (log-softmax of alpha + Gumbel noise) / tau, its one-hot argmax
    tau                 falls linearly from tau_max to tau_min

Deviations:
 1. One sample of h serves both gradients of a batch pair (the authors' code: a sample each).
 2. Everything else is that of :mod:`archduel.strategies.darts` with ``order=1``: derived cells, candidates, ``verify``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from archduel.core import SharedEstimator, Space
from archduel.errors import check_at_least, check_positive
from archduel.strategies.darts import DARTS, Batch

__all__ = ["GDAS"]


class GDAS(DARTS):
    """Samples one operation for each edge and lets the gradient through its probability.

    Args:
        shared: the weights; its supernet must be able to mix.
        generator: the randomness of alphas, samples and candidates.
        constraint: which architectures are allowed.
        epochs: passes over the training batches.
        batches: of an epoch; 0 = a whole pass.
        lr: Adam's learning rate for alpha.
        weight_decay: Adam's, for alpha.
        tau_max: temperature of the first epoch.
        tau_min: temperature of the last epoch.
        candidates: architectures that are judged in the end, the derived one included.
        verify: of these, how many are evaluated on their own.
        variant: ``judged`` or the ``paper``'s, see :class:`~archduel.strategies.darts.DARTS`.

    Raises:
        SettingError: for a supernet that cannot mix, or numbers out of range.
    """

    updates: ClassVar[int] = 97_500
    most_epochs: ClassVar[int] = 250
    variants: ClassVar[tuple[str, ...]] = ("judged", "paper")

    def __init__(
        self,
        space: Space,
        shared: SharedEstimator,
        *,
        generator: torch.Generator,
        constraint: Any = None,
        epochs: int = 250,
        batches: int = 0,
        lr: float = 3e-4,
        weight_decay: float = 1e-3,
        tau_max: float = 10.0,
        tau_min: float = 0.1,
        candidates: int = 5,
        verify: int = 0,
        variant: str = "judged",
    ) -> None:
        check_positive(tau_min=tau_min)
        check_at_least(tau_min, tau_max=tau_max)
        super().__init__(
            space, shared, generator=generator, constraint=constraint, order=1, epochs=epochs, batches=batches, lr=lr,
            weight_decay=weight_decay, candidates=candidates, verify=verify, variant=variant,
        )  # fmt: skip
        self.tau_max, self.tau_min = tau_max, tau_min
        self._noise: dict[str, Tensor] = {}

    @classmethod
    def mixing(cls, given: Mapping[str, Any], options: int) -> float:
        """Returns what a batch costs: a training batch and a validation batch, one operation an edge each."""
        return 2.0

    def _update_alphas(self, train: Batch, validation: Batch) -> None:
        self._noise = {name: self._gumbel(alpha) for name, alpha in self.alphas.items()}
        super()._update_alphas(train, validation)

    def _weights(self) -> Mapping[str, Tensor]:
        """Returns h: exactly one 1 an edge, whose gradient is that of the relaxed sample; the others are 0 and do not run."""
        tau = self.tau_max + (self.tau_min - self.tau_max) * self.epoch / max(1, self.epochs - 1)
        sampled = {}
        for name, alpha in self.alphas.items():
            relaxed = ((alpha.log_softmax(1) + self._noise[name]) / tau).softmax(1)
            chosen = torch.zeros_like(relaxed).scatter_(1, relaxed.argmax(1, keepdim=True), 1.0)
            sampled[name] = chosen * (1 + (relaxed - relaxed.detach()))  # the bracket is exactly 1
        return sampled
