"""NSGA-II of pymoo and of Optuna as strategies, to compare with under one protocol: ``front_outside:PymooNSGA2``, ``front_outside:OptunaNSGA2``.

Both see architectures of a fixed number of decisions as integers or categories, are given populations of 20 and leave the rest at their
libraries' defaults. Repeated questions are answered from the cache and are not counted as queries, for every strategy alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from archduel.core import (
    Arch,
    Constraint,
    Estimate,
    Objectives,
    Outcomes,
    Query,
    Space,
    State,
    StepReport,
    decisions,
    sample,
)

POPULATION = 20
PATIENCE = 2_000  # repeated questions in a row after which a search ends


class _Outside:
    """What both share: choices of a regular space, and losses as they are told."""

    def __init__(self, space: Space, *, rng: np.random.Generator, objectives: Objectives | None = None, constraint: Constraint | None = None) -> None:
        self.space, self.rng, self.objectives = space, rng, objectives or Objectives()
        self.outcomes = Outcomes(self.objectives)
        self.options = [d.options for d in decisions(space, sample(space, np.random.default_rng(0)).choices)]
        self.repeats = 0

    def step(self) -> StepReport | None:
        """Returns None: it learns when told."""
        return None

    def best(self) -> Arch:
        """Returns the knee of the front."""
        return self.outcomes.best()

    def _record(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> list[list[float]]:
        self.repeats = sum(q.arch in self.outcomes for q in queries) and self.repeats + len(queries)
        return [list(losses) for _, losses in self.outcomes.record(queries, estimates)]

    def state_dict(self) -> State:
        """Not needed in a comparison."""
        raise NotImplementedError

    def load_state_dict(self, state: State) -> None:
        """Not needed in a comparison."""
        raise NotImplementedError


class PymooNSGA2(_Outside):
    """pymoo's NSGA-II over integers, with its integer operators and without duplicates."""

    def __init__(self, space: Space, *, rng: np.random.Generator, objectives: Objectives | None = None, constraint: Constraint | None = None) -> None:
        super().__init__(space, rng=rng, objectives=objectives, constraint=constraint)
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling

        sizes = np.array([len(options) for options in self.options])
        self.problem = Problem(n_var=len(sizes), n_obj=len(self.objectives), xl=np.zeros(len(sizes)), xu=sizes - 1, vtype=int)
        self.algorithm = NSGA2(
            pop_size=POPULATION, sampling=IntegerRandomSampling(), crossover=SBX(prob=0.9, eta=15, vtype=float, repair=RoundingRepair()),
            mutation=PM(eta=20, vtype=float, repair=RoundingRepair()), eliminate_duplicates=True,
        )  # fmt: skip
        self.algorithm.setup(self.problem, termination=("n_gen", 10_000), seed=int(rng.integers(2**31)), verbose=False)
        self.waiting: Any = None
        self.queue: list[Arch] = []
        self.told: list[list[float]] = []

    def ask(self, n: int) -> list[Query]:
        """Returns the next individuals of a generation."""
        if not self.queue and self.repeats < PATIENCE and self.algorithm.has_next():
            self.waiting, self.told = self.algorithm.ask(), []
            if self.waiting is None or not len(self.waiting):
                return []
            rows = self.waiting.get("X").astype(int)
            self.queue = [Arch(self.space.name, tuple(o[i] for o, i in zip(self.options, row))) for row in rows]
        batch, self.queue = self.queue[:n], self.queue[n:]
        return [Query(arch) for arch in batch]

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Ends a generation once all of it was told."""
        from pymoo.problems.static import StaticProblem

        self.told += self._record(queries, estimates)
        if len(self.told) == len(self.waiting):
            losses = np.where(np.isfinite(self.told), self.told, 1e9)
            self.algorithm.evaluator.eval(StaticProblem(self.problem, F=losses), self.waiting)
            self.algorithm.tell(infills=self.waiting)


class OptunaNSGA2(_Outside):
    """Optuna's NSGAIISampler over categories."""

    def __init__(self, space: Space, *, rng: np.random.Generator, objectives: Objectives | None = None, constraint: Constraint | None = None) -> None:
        super().__init__(space, rng=rng, objectives=objectives, constraint=constraint)
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=int(rng.integers(2**31)))
        self.study = optuna.create_study(directions=["minimize"] * len(self.objectives), sampler=sampler)
        self.trials: list[Any] = []

    def ask(self, n: int) -> list[Query]:
        """Returns what the sampler suggests, one at a time."""
        if self.repeats >= PATIENCE:
            return []
        self.trials = [self.study.ask() for _ in range(n)]
        picked = [[trial.suggest_categorical(f"d{i}", list(o)) for i, o in enumerate(self.options)] for trial in self.trials]
        return [Query(Arch(self.space.name, tuple(map(int, choices)))) for choices in picked]

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Hands the losses to the study."""
        for trial, losses in zip(self.trials, self._record(queries, estimates)):
            self.study.tell(trial, losses if np.isfinite(losses).all() else [1e9] * len(losses))
