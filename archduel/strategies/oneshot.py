"""The first half of decoupled one-shot searches: shared weights that learn from uniformly or fairly sampled architectures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archduel.core import Arch, Cost, SharedEstimator, Space, decisions, fair_sample, sample
from archduel.errors import SettingError

__all__ = ["SAMPLING", "SupernetTraining", "group_size"]

SAMPLING = ("uniform", "fair")
PROBES = 64  # random architectures that are looked at to find the largest decision


def group_size(space: Space) -> int:
    """Returns how many architectures a fair group has: the largest number of options that a decision offers."""
    rng = np.random.default_rng(0)
    return max(len(d.options) for _ in range(PROBES) for d in decisions(space, sample(space, rng).choices))


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
        group = group_size(self.space)
        while True:
            yield sample(self.space, self.rng) if self.sampling == "uniform" else fair_sample(self.space, group, self.rng)
