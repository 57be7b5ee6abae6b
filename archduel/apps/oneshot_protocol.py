"""What is compared when shared weights are compared: how paths are sampled, for how long, in which order operations come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archduel import nets
from archduel.core import Arch, Scale, Space, fair_sample, sample
from archduel.errors import SettingError, unknown

__all__ = ["SAMPLING", "OneshotProtocol", "Paths", "Variant", "operations_in_order"]

SAMPLING = ("uniform", "fair", "strict")
"""One uniform path a batch; one path a batch, each operation of an edge once per round; a whole round in each step."""


@dataclass(frozen=True)
class Variant:
    """One way to train a supernet.

    Attributes:
        sampling: one of ``SAMPLING``.
        curriculum: share of the training in which operations are still added, one at a time; 0 = all from the start.
        seed: of weights, batches and paths.
    """

    sampling: str
    curriculum: float
    seed: int

    @property
    def title(self) -> str:
        """What it is called."""
        return self.sampling + (f", curriculum {self.curriculum:g}" if self.curriculum else "")


@dataclass(frozen=True)
class OneshotProtocol:
    """What is measured.

    Attributes:
        table: name or file of the table that knows the truth.
        data: where the images come from, in words.
        cells: architectures of different function that are scored.
        passes: lengths: passes over the training images, each path's images counted; scored on the way to the last.
        sampling: variants of ``SAMPLING``.
        curriculum: variants of the share of the training in which operations are added.
        recalibration: variants of the number of batches that measure batch-norm statistics before a score; 0 = none.
        tune: variants of the number of batches that each cell learns on its own, from the shared weights, before its score.
        seeds: trainings of each variant.
        seed: which cells, and the split and sample of the images.
        first: seed of the first training; the others count on.
        score_share: share of the validation images that scores read.
        recipe: settings of the recipe that differ from the default.
        supernet: options of the supernet.
        load: settings of loading the images.

    Raises:
        SettingError: for values out of range.
    """

    table: str
    data: str
    cells: int = 100
    passes: tuple[float, ...] = (10.0,)
    sampling: tuple[str, ...] = ("fair",)
    curriculum: tuple[float, ...] = (0.0,)
    recalibration: tuple[int, ...] = (8,)
    tune: tuple[int, ...] = (0,)
    seeds: int = 1
    seed: int = 0
    first: int = 0
    score_share: float = 1.0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    supernet: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for way in self.sampling:
            if way not in SAMPLING:
                raise unknown("sampling", way, SAMPLING)
        if self.cells < 5:
            raise SettingError(f"--cells {self.cells}: a rank correlation needs at least 5 cells")
        if self.seeds < 1 or not (self.sampling and self.curriculum and self.recalibration and self.tune):
            raise SettingError("there is nothing to train: give at least one sampling, curriculum, recalibration, tune and seed")
        if not self.passes or min(self.passes) <= 0 or list(self.passes) != sorted(set(self.passes)):
            raise SettingError(f"--passes must be ascending numbers above 0, got {list(self.passes)}")
        if not all(0 <= share < 1 for share in self.curriculum):
            raise SettingError(f"--curriculum must be shares in [0, 1), got {list(self.curriculum)}")
        for option, batches in (("recalibration", self.recalibration), ("tune", self.tune)):
            if min(batches) < 0:
                raise SettingError(f"--{option} must be numbers of batches from 0, got {list(batches)}")

    def variants(self) -> list[Variant]:
        """Returns the trainings."""
        return [
            Variant(sampling, curriculum, self.first + run)
            for run in range(self.seeds)
            for sampling in self.sampling
            for curriculum in self.curriculum
        ]


def operations_in_order(space: Space, scale: Scale, seed: int) -> tuple[int, ...]:
    """Returns the operations as a curriculum adds them: the one with most weights first, the others shuffled.

    Raises:
        SettingError: for a space without decisions of the kind ``op``.
    """
    if "op" not in space.kinds:
        raise SettingError(f"a curriculum adds operations; the decisions of {space.name} are {', '.join(space.kinds)}")

    def params(op: int) -> int:
        """Returns the weights of the architecture that has ``op`` wherever it may."""
        choices: tuple[int, ...] = ()
        while (decision := space.decision(choices)) is not None:
            wanted = decision.kind == "op" and op in decision.options
            choices += (op if wanted else decision.options[0],)
        return nets.count(Arch(space.name, choices), scale).params

    ops = list(range(space.kinds["op"]))
    first = max(ops, key=params)
    rest = [op for op in ops if op != first]
    order = np.random.default_rng([seed, 17]).permutation(len(rest))
    return (first, *(rest[i] for i in order))


class Paths:
    """The architectures of each batch, a function of the number of the batch alone.

    Args:
        space: what to sample from.
        variant: how.
        batches: batches of the whole training.
        order: operations as a curriculum adds them; unused without one.
    """

    def __init__(self, space: Space, variant: Variant, batches: int, order: Sequence[int]) -> None:
        self.space, self.variant, self.batches, self.order = space, variant, batches, order
        self.round = max(space.kinds.values())
        self._drawn: tuple[int, list[Arch]] = (-1, [])

    @property
    def per_batch(self) -> int:
        """Paths in one step."""
        return self.round if self.variant.sampling == "strict" else 1

    def __getitem__(self, batch: int) -> list[Arch]:
        """Returns the paths of a batch."""
        rng: Callable[[int], np.random.Generator] = lambda n: np.random.default_rng([self.variant.seed, n])  # noqa: E731
        allowed = self.allowed(batch)
        if self.variant.sampling == "strict":
            return fair_sample(self.space, self.round, rng(batch), allowed=allowed)
        if self.variant.sampling == "uniform" and not allowed:
            return [sample(self.space, rng(batch))]
        if self.variant.sampling == "uniform":
            return fair_sample(self.space, 1, rng(batch), allowed=allowed)
        number = batch // self.round
        if self._drawn[0] != number:
            self._drawn = number, fair_sample(self.space, self.round, rng(number), allowed=allowed)
        return [self._drawn[1][batch % self.round]]

    def allowed(self, batch: int) -> dict[str, Sequence[int]]:
        """Returns the operations that a curriculum allows at a batch (fair rounds are not divided); empty = all."""
        if not self.variant.curriculum:
            return {}
        start = batch - batch % self.round if self.variant.sampling == "fair" else batch
        stage = int(start / (self.variant.curriculum * self.batches) * (len(self.order) - 1))
        return {"op": self.order[: stage + 1]} if stage + 1 < len(self.order) else {}
