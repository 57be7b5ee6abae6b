"""RelativeNAS (first PairNAS): pairs of learners, the slow one of which moves towards the fast one.

Tan, Cheng, Huang, He, Qiu, Yang, Luo: "RelativeNAS: Relative Neural Architecture Search via Slow-Fast Learning", TNNLS 2021.

    paper               here
    N, G                population, generations
    x, v                positions, velocities       a row each, see coding.py
    x_f, x_s            fast, slow                  lower and higher validation loss of a pair
    r_1, r_2            two fresh uniform vectors
    W                   shared                      the weight set; its update rule is shared.inherit

Follows the released code (R), as the paper's notation could not be confirmed. Deviations:
 1. R chooses no cell. Here the whole last population is judged on validation images with recalibrated batch norm, and the
    best is named; ``verify`` of the best are evaluated on their own before.
 2. Validation images are not augmented (R: both halves share the training transform).
 3. An architecture decides by the options of its space, one gene a decision: 32 in the DARTS space with preset ``relativenas``,
    where it is R's coding.
 4. A slow learner that would leave the constraint draws r_1, r_2 again, at most ``TRIES`` times, and else stays where it is.
 5. Estimation on a part of an epoch: ``batches`` (R: one epoch).
 6. A pair that fails with both learners teaches nothing; a failed learner is slow.
 7. Two learners of one architecture: the first counts as the fast one, its training is W.
 8. A race is judged with batch norm recalibrated, as a few batches fill no running statistics (R: the learner's own running ones, which
    ``supernet.running_races=true`` uses).
 9. The choice at the end goes by accuracy, loss and multiply-adds together; with ``judged_by="score"`` by accuracy alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import (
    Allowance,
    Arch,
    Constraint,
    Cost,
    Prices,
    SharedEstimator,
    Space,
    State,
    StepReport,
    decisions,
    sample,
)
from archduel.errors import SettingError, check_at_least, check_below_one, check_positive
from archduel.strategies.one_shot import OneShot, feasible, within

__all__ = ["Coding", "RelativeNAS", "cosine"]

# -- Architectures as points: one continuous gene for each decision of a space (RelativeNAS's coding, for any space) ----


Vector = NDArray[np.float64]
PROBES = 256


class Coding:
    """The box of all vectors of a space, and what they mean.

    Decision number i has gene i in [0, K] where K is its largest number of options; a gene says which option by its floor.
    A gene that is a whole number g > 0 means option g - 1, so that the upper bound means the last option (as in the released
    code). Where earlier answers leave fewer than K options, the gene is stretched; genes beyond the last decision mean nothing.

    Attributes:
        upper: (D,) upper bounds; the lower bounds are 0.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        rng = np.random.default_rng(0)
        most: list[int] = []
        for _ in range(PROBES):
            for i, decision in enumerate(decisions(space, sample(space, rng).choices)):
                most += [0] * (i == len(most))
                most[i] = max(most[i], len(decision.options))
        self.upper: Vector = np.array(most, np.float64)

    def draw(self, rng: np.random.Generator) -> Vector:
        """Returns a (D,) vector, uniform in the box."""
        return rng.uniform(0.0, self.upper)

    def decode(self, x: Vector) -> Arch:
        """Returns the architecture that the (D,) vector ``x`` in the box means."""
        choices: tuple[int, ...] = ()
        while (decision := self.space.decision(choices)) is not None:
            options, i = decision.options, len(choices)
            gene = float(x[i]) * len(options) / float(self.upper[i]) if i < len(x) else 0.0
            choices += (options[max(0, min(math.ceil(gene), len(options)) - 1)],)
        return Arch(self.space.name, choices)

    def encode(self, arch: Arch) -> Vector:
        """Returns the (D,) vector in the middle of the cell that means ``arch``; unused genes are in the middle of the box."""
        x = self.upper / 2
        for i, (decision, choice) in enumerate(zip(decisions(self.space, arch.choices), arch.choices)):
            if i < len(x):
                x[i] = (decision.options.index(choice) + 0.5) * self.upper[i] / len(decision.options)
        return x


TRIES = 20
ENOUGH_BATCHES = 30
"""Batches of a training, or a whole pass, before there are more learners or generations. The paper trains as long as it judges (98 batches
each); with 2 batches a training, four fifths of the time went into judging, and 6 learners x 5 generations of 30 batches found better
cells than 10 x 10 of 2 in three of three searches (mean 92.2 against 85.3 % in NAS-Bench-201's table)."""
SIZES = ((20, 50), (20, 30), (20, 20), (16, 16), (12, 12), (10, 10), (8, 7), (6, 5), (4, 4), (4, 2))
"""Learners and generations, from the paper's down."""


def cosine(start: float, end: float, share: float) -> float:
    """Returns the learning rate after ``share`` (0..1) of a half cosine from ``start`` to ``end``."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class RelativeNAS(OneShot):
    """A population of vectors that learns in pairs, over one set of shared weights.

    Args:
        shared: the weight set.
        constraint: which architectures are allowed.
        population: learners, an even number.
        generations: how often all are paired.
        batches: training batches of an estimation; 0 = one epoch.
        lr: learning rate of the first generation.
        lr_min: learning rate that the cosine over the generations runs to.
        drop_path: largest drop-path probability, rising linearly over the generations.
        verify: learners that are evaluated on their own in the end.
        judged_by: what the choice among candidates goes by: ``joint``, shared weights and multiply-adds, or the ``score`` alone (the paper's).

    Raises:
        SettingError: for an odd population, or numbers out of range.
    """

    def __init__(
        self,
        space: Space,
        shared: SharedEstimator,
        *,
        rng: np.random.Generator,
        constraint: Constraint | None = None,
        population: int = 20,
        generations: int = 50,
        batches: int = 0,
        lr: float = 0.1,
        lr_min: float = 0.001,
        drop_path: float = 0.3,
        verify: int = 0,
        judged_by: str = "joint",
    ) -> None:
        if population < 2 or population % 2:
            raise SettingError(f"population is {population}, expected an even number above 0, because its members are paired")
        check_at_least(1, generations=generations)
        check_at_least(0, batches=batches)
        check_positive(lr_min=lr_min)
        check_at_least(lr_min, lr=lr)
        check_below_one(drop_path=drop_path)
        super().__init__(space, shared, constraint, verify, judged_by)
        self.rng = rng
        self.population, self.generations = population, generations
        self.batches = batches or shared.n_batches("train")
        self.lr, self.lr_min, self.drop_path = lr, lr_min, drop_path
        self.coding = Coding(space)
        self.positions: Vector = np.zeros((0, len(self.coding.upper)))
        self.velocities: Vector = np.zeros((population, len(self.coding.upper)))
        self.generation = 0
        self.pairs: list[list[int]] = []  # of this generation, still to come
        self.races: list[list[int]] = []  # of this generation: fast, slow

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices) -> dict[str, Any]:
        """Returns settings: the paper's population where there is time to train all of it, and fewer learners before shorter trainings."""
        least = min(ENOUGH_BATCHES, allowance.batches)
        fits = (size for size in SIZES if size[0] * size[1] * (least * prices.learn + prices.score) <= allowance.work)
        population, generations = next(fits, SIZES[-1])
        work = max(0.5 * allowance.work, allowance.work - population * prices.score)  # all are judged in the end
        batches = within(2, (work / (population * generations) - prices.score) / prices.learn, allowance.batches)
        generations = within(generations, work / (population * (batches * prices.learn + prices.score)), 50)
        return {"population": population, "generations": generations, "batches": batches}

    @classmethod
    def learns(cls, settings: Mapping[str, Any], allowance: Allowance) -> int:
        """Returns the batches of all estimations."""
        return int(settings["population"] * settings["generations"] * (settings["batches"] or allowance.batches))

    @classmethod
    def judges(cls, settings: Mapping[str, Any], allowance: Allowance, validation: int) -> int:
        """Returns the validation batches of all races and the choice."""
        return int(settings["population"] * (settings["generations"] + 1) * validation)

    def step(self) -> StepReport | None:
        """Lets one pair compete; after the last pair of a generation the slow learners move. None when finished."""
        if self.generation == self.generations:
            return None
        if not len(self.positions):
            self._begin()
        if not self.pairs:
            order = self.rng.permutation(self.population).tolist()
            self.pairs = [order[i : i + 2] for i in range(0, self.population, 2)]
        metrics, cost = self._compete(*self.pairs.pop(0))
        if not self.pairs:
            self._move()
            metrics["diversity"] = self.diversity()
            self.generation += 1
            if self.generation == self.generations:
                cost += self.closing.judge(self.shared, self.archs())
                self.closing.finish()
        per_generation = self.population // 2
        made = self.generation * per_generation + (per_generation - len(self.pairs)) % per_generation
        return StepReport(metrics | {"generation": self.generation, "done": made / (per_generation * self.generations)}, Cost(images=cost.images))

    def _begin(self) -> None:
        """Draws the population, uniform in the box (where the constraint allows hardly anything: uniform architectures)."""
        rows = []
        for _ in range(self.population):
            drawn = (self.coding.draw(self.rng) for _ in range(TRIES))
            x = next((x for x in drawn if self._allows(x)), None)
            rows.append(self.coding.encode(sample(self.space, self.rng, self.constraint)) if x is None else x)
        self.positions = np.stack(rows)  # (N, D)
        self.closing.any = self.coding.decode(self.positions[0])

    def _allows(self, x: Vector) -> bool:
        return feasible(self.space, self.coding.decode(x), self.constraint)

    def archs(self) -> list[Arch]:
        """Returns what the population means, in its order."""
        return [self.coding.decode(x) for x in self.positions]

    def _compete(self, a: int, b: int) -> tuple[dict[str, float], Cost]:
        """Trains both from W, finds the fast and the slow learner, and updates W; returns losses and cost."""
        first, second = self.coding.decode(self.positions[a]), self.coding.decode(self.positions[b])
        share = self.generation / self.generations
        estimates = self.shared.compete(
            first, second, self.batches, lr=cosine(self.lr, self.lr_min, share), drop_path=self.drop_path * share
        )
        cost = estimates[0].cost + estimates[1].cost
        losses = [math.inf if e.failed else float(e.values["val_loss"]) for e in estimates]
        if min(losses) == math.inf:
            return {"loss": math.nan}, cost
        fast, slow = ((a, first), (b, second)) if losses[0] <= losses[1] else ((b, second), (a, first))
        self.shared.inherit(fast[1], slow[1])
        self.races.append([fast[0], slow[0]])
        self.closing.any = fast[1]
        return {"loss": min(losses), "gap": max(losses) - min(losses)}, cost

    def _move(self) -> None:
        """v_s <- r_1 v_s + r_2 (x_f - x_s); x_s <- x_s + v_s, clipped to the box; fast learners stay."""
        for fast, slow in self.races:
            for _ in range(TRIES):
                r1, r2 = self.rng.random((2, len(self.coding.upper)))
                v = r1 * self.velocities[slow] + r2 * (self.positions[fast] - self.positions[slow])
                x = np.clip(self.positions[slow] + v, 0.0, self.coding.upper)
                if self._allows(x):
                    self.velocities[slow], self.positions[slow] = v, x
                    break
        self.races = []

    def diversity(self) -> float:
        """Returns the mean Euclidean distance of the learners to their mean."""
        return float(np.linalg.norm(self.positions - self.positions.mean(0), axis=1).mean())

    def state_dict(self) -> State:
        """Returns all that changes, the weight set included."""
        state = {name: getattr(self, name) for name in ("positions", "velocities", "generation", "pairs", "races")}
        return deepcopy(super().state_dict() | state | {"rng": self.rng.bit_generator.state})

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        state = deepcopy(state)
        super().load_state_dict(state)
        for name in ("positions", "velocities", "generation", "pairs", "races"):
            setattr(self, name, state[name])
        self.rng.bit_generator.state = state["rng"]
