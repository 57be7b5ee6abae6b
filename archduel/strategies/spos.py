"""SPOS: a supernet trained with uniform single paths, then evolution on inherited weights. The baseline for one-shot methods.

Guo, Zhang, Mu, Heng, Liu, Wei, Sun: "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020.

    paper               here
    P, T                population, generations
    k (Algorithm 1)     parents             the best of all so far, kept over the generations
    n, m, prob          crossovers, mutants, rate

Deviations:
 1. Spaces are trees of decisions: crossover and mutation answer decision by decision; an answer that is no option is redrawn.
 2. Population, crossovers and mutants never repeat an architecture that was scored; where none is new, random ones come instead.
 3. ``sampling="fair"`` is FairNAS's strict fairness (Chu, Zhang, Xu, ICCV 2021). P also chooses channels, which are not searched here.
 4. w learns from all architectures of the space; the constraint holds for what is scored.
 5. Added: ``verify`` of the best are evaluated on their own in the end.
 6. Added: ``judged_by="joint"`` (the default) breeds and chooses by accuracy, loss and multiply-adds together; ``score`` is P's.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

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
    parse,
    sample,
)
from archduel.errors import InfeasibleError, check_at_least, check_share
from archduel.strategies.one_shot import (
    OneShot,
    SupernetTraining,
    epochs_within,
    feasible,
    group_prices,
    within,
)

__all__ = ["SPOS"]

TRIES = 100


class SPOS(OneShot):
    """Trains the supernet, then breeds what it scores highest.

    Args:
        shared: the weights.
        constraint: which architectures are allowed.
        epochs: of the supernet.
        batches: of an epoch; 0 = a whole pass.
        sampling: ``uniform`` or ``fair``.
        population: architectures of the first generation.
        generations: how many are bred after it.
        parents: how many of the best breed.
        crossovers: children of two parents in a generation.
        mutants: children of one parent.
        rate: probability that a mutant's answer is redrawn.
        verify: the best that are evaluated on their own in the end.
        judged_by: what the choice among candidates goes by: ``joint``, shared weights and multiply-adds, or the ``score`` alone (the paper's).
    """

    def __init__(
        self,
        space: Space,
        shared: SharedEstimator,
        *,
        rng: np.random.Generator,
        constraint: Constraint | None = None,
        epochs: int = 120,
        batches: int = 0,
        sampling: str = "uniform",
        population: int = 50,
        generations: int = 20,
        parents: int = 10,
        crossovers: int = 25,
        mutants: int = 25,
        rate: float = 0.1,
        verify: int = 0,
        judged_by: str = "joint",
    ) -> None:
        check_at_least(1, population=population, parents=parents)
        check_at_least(0, generations=generations, crossovers=crossovers, mutants=mutants)
        check_share(rate=rate)
        super().__init__(space, shared, constraint, verify, judged_by)
        self.rng = rng
        self.population, self.generations, self.parents = population, generations, parents
        self.crossovers, self.mutants, self.rate = crossovers, mutants, rate
        self.training = SupernetTraining(space, shared, rng=rng, epochs=epochs, batches=batches, sampling=sampling)
        self.generation = -1  # while the supernet is trained
        self.living: list[Arch] = []

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices) -> dict[str, Any]:
        """Returns settings: seven tenths for training, the rest for breeding."""
        prices = group_prices(allowance, prices)
        epochs, batches = epochs_within(0.7 * allowance.work / prices.learn, allowance.batches, 20, 1000)
        scores = 0.3 * allowance.work / prices.score
        population = within(6, scores / 4, 50)
        half = population // 2
        return {
            "epochs": epochs, "batches": batches, "population": population, "generations": within(1, scores / population - 1, 20),
            "crossovers": half, "mutants": half, "parents": max(2, population // 5),
        }  # fmt: skip

    def step(self) -> StepReport | None:
        """Makes one epoch of the supernet, later one generation; None when finished."""
        if self.generation == self.generations:
            return None
        if self.closing.any is None:
            self.closing.any = sample(self.space, self.rng, self.constraint)
        steps = self.training.epochs + self.generations + 1
        if not self.training.finished:
            cost = self.training.run_epoch()
            return StepReport({"epoch": self.training.epoch, "done": self.training.epoch / steps}, Cost(images=cost.images))
        self.generation += 1
        self.living = self._children() if self.generation else self._fresh(self.population, set())
        self.closing.judge(self.shared, self.living, afresh=self.generation == 0)
        if self.generation == self.generations:
            self.closing.finish()
        metrics = {"generation": self.generation, "diversity": self._diversity()}
        if ranked := self.closing.by_weights():
            metrics["score"] = self.closing.inherited.score(ranked[0])
        return StepReport(metrics | {"done": (self.training.epochs + self.generation + 1) / steps}, Cost())

    def _children(self) -> list[Arch]:
        """Returns a generation: crossovers and mutants of the best so far, and random ones for those that are not new."""
        best = self.closing.by_weights()[: self.parents] or self.living
        known = set(self.closing.inherited.ranked())
        found: dict[Arch, None] = {}
        for number, breed in ((self.crossovers, self._crossover), (self.mutants, self._mutant)):
            wanted = len(found) + number
            for _ in range(TRIES * number):
                if len(found) == wanted:
                    break
                child = breed(best)
                if child not in known and feasible(self.space, child, self.constraint):
                    found[child] = None
        return [*found, *self._fresh(self.crossovers + self.mutants - len(found), known | found.keys())]

    def _fresh(self, n: int, known: set[Arch]) -> list[Arch]:
        """Returns at most ``n`` random architectures that are not in ``known``."""
        found: dict[Arch, None] = {}
        for _ in range(TRIES * n):
            if len(found) == n:
                break
            try:
                arch = sample(self.space, self.rng, self.constraint)
            except InfeasibleError:
                if known:  # the next generation lives without them
                    break
                raise
            if arch not in known:
                found[arch] = None
        return list(found)

    def _answered(self, wanted: Sequence[Sequence[int]], redraw: float) -> Arch:
        """Returns an architecture that answers each decision as one of ``wanted`` does, at random, and sometimes anew."""
        choices: tuple[int, ...] = ()
        while (decision := self.space.decision(choices)) is not None:
            donor = wanted[int(self.rng.integers(len(wanted)))]
            answer = donor[len(choices)] if len(choices) < len(donor) else -1
            if answer not in decision.options or (redraw and self.rng.random() < redraw):
                answer = decision.options[int(self.rng.integers(len(decision.options)))]
            choices += (answer,)
        return Arch(self.space.name, choices)

    def _crossover(self, best: Sequence[Arch]) -> Arch:
        places = self.rng.integers(len(best), size=2).tolist()
        return self._answered([best[i].choices for i in places], 0.0)

    def _mutant(self, best: Sequence[Arch]) -> Arch:
        return self._answered([best[int(self.rng.integers(len(best)))].choices], self.rate)

    def _diversity(self) -> float:
        """Returns the share of answers in which two of the generation differ, on average."""
        rows = [arch.choices for arch in self.living]
        pairs = [(a, b) for i, a in enumerate(rows) for b in rows[:i]]
        shares = [sum(x != y for x, y in zip(a, b)) / max(1, min(len(a), len(b))) for a, b in pairs]
        return float(np.mean(shares)) if shares else 0.0

    def state_dict(self) -> State:
        """Returns all that changes, the shared weights included."""
        state = {"epoch": self.training.epoch, "generation": self.generation, "living": [str(arch) for arch in self.living]}
        return deepcopy(super().state_dict() | state | {"rng": self.rng.bit_generator.state})

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        state = deepcopy(state)
        super().load_state_dict(state)
        self.training.epoch, self.generation = state["epoch"], state["generation"]
        self.living = [parse(text) for text in state["living"]]
        self.rng.bit_generator.state = state["rng"]
