"""The first half of decoupled one-shot searches: shared weights that learn from uniformly or fairly sampled architectures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archduel.core import Arch, Cost, SharedEstimator, Space, fair_sample, sample
from archduel.errors import SettingError

__all__ = ["SAMPLING", "SupernetTraining"]

SAMPLING = ("uniform", "fair")


class SupernetTraining:
    """Epochs of learning with one architecture a batch, or with a fair group of them.

    Args:
        space: where architectures are drawn.
        shared: the weights.
        rng: the randomness.
        epochs: how many.
        batches: of an epoch; 0 = a whole pass.
        sampling: ``uniform`` (SPOS) or ``fair`` (FairNAS: each batch teaches a group in which every option of a decision
            occurs once; one step on their mean loss).
    """

    def __init__(
        self, space: Space, shared: SharedEstimator, *, rng: np.random.Generator, epochs: int, batches: int, sampling: str
    ) -> None:
        if epochs < 1 or batches < 0 or sampling not in SAMPLING:
            raise SettingError(
                f"epochs must be at least 1, batches 0, sampling one of {', '.join(SAMPLING)}; got {epochs}, {batches}, {sampling!r}"
            )
        self.space, self.shared, self.rng, self.epochs, self.sampling = space, shared, rng, epochs, sampling
        self.batches = batches or shared.n_batches("train")
        self.epoch = 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are made."""
        return self.epoch == self.epochs

    def run_epoch(self) -> Cost:
        """Learns for one epoch and returns its cost."""
        cost = self.shared.learn(self._items(), self.batches)
        self.epoch += 1
        return cost

    def _items(self) -> Iterator[Arch | list[Arch]]:
        most = max(self.space.kinds.values())
        while True:
            yield sample(self.space, self.rng) if self.sampling == "uniform" else fair_sample(self.space, most, self.rng)
