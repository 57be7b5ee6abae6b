"""NSGA-II: a population that survives by fronts and by distance from its neighbours.

Deb, Pratap, Agarwal, Meyarivan: "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Trans. Evol. Comp. 6 (2002).

    N  population      P  its members      Q  their children

Deviations from the paper:
1. N = 20 (paper: 100); searches here have 50 to 500 evaluations.
2. Architectures are answers to questions: crossover takes each answer from either parent (by the question's name where the parents'
   questions differ), and a mutation changes one answer (paper: simulated binary crossover, polynomial or bitwise mutation).
3. A child that computes the same as an architecture asked before is replaced by another one; after ``patience`` in vain by a random one.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    decisions,
    mutate,
    parse,
)
from archduel.core.fronts import crowding, layers
from archduel.errors import InfeasibleError, InvalidArchError, check_at_least, check_share
from archduel.strategies.rounds import AskTell, Distinct, first_distinct

__all__ = ["NSGA2", "crossed"]


def crossed(space: Space, first: Arch, second: Arch, rng: np.random.Generator) -> Arch:
    """Returns a child that has each answer from either parent; where neither has one that is an option, a random one."""
    answers = [{d.name: answer for d, answer in zip(decisions(space, arch.choices), arch.choices)} for arch in (first, second)]
    prefix: tuple[int, ...] = ()
    while (decision := space.decision(prefix)) is not None:
        parent = int(rng.integers(2))
        inherited = [answers[p][decision.name] for p in (parent, 1 - parent) if answers[p].get(decision.name) in decision.options]
        prefix = (*prefix, inherited[0] if inherited else decision.options[int(rng.integers(len(decision.options)))])
    return Arch(space.name, prefix)


class NSGA2(AskTell):
    """Children of tournament winners; of parents and children together the first fronts survive, of the last one the loneliest.

    Args:
        objectives: what is to be small; None = 1 - score alone.
        constraint: which architectures are allowed.
        population: how many live.
        crossover: share of children that have two parents.
        mutation: share of children in which one answer is changed; those of one parent always are.
        patience: children that are not new in a row before a random architecture is asked.
    """

    def __init__(
        self,
        space: Space,
        *,
        rng: np.random.Generator,
        objectives: Objectives | None = None,
        constraint: Constraint | None = None,
        population: int = 20,
        crossover: float = 0.9,
        mutation: float = 0.8,
        patience: int = 100,
    ) -> None:
        check_at_least(2, population=population)
        check_at_least(1, patience=patience)
        check_share(crossover=crossover, mutation=mutation)
        super().__init__(space, rng, constraint)
        self.population, self.crossover, self.mutation, self.patience = population, crossover, mutation, patience
        self.outcomes = Outcomes(objectives or Objectives())
        self.pool = Distinct(space, rng, constraint)
        self.alive: list[Arch] = []  # P
        self.children: list[Arch] = []  # Q, as far as told
        self.founders = 0

    @property
    def random_first(self) -> int:
        """How many of its first questions are random architectures: the founders."""
        return self.population

    def ask(self, n: int) -> list[Query]:
        """Returns founders first, then children; empty once the space is exhausted."""
        return [Query(arch) for _ in range(n) if (arch := self._next()) is not None]

    def _next(self) -> Arch | None:
        if self.founders < self.population and (founder := self.pool.draw()) is not None:
            self.founders += 1
            return founder
        # founders that were told are parents even where others have not been: a search may ask for many at a time
        parents = self.alive or self.children
        ranks, lonely = self._merits(parents) if parents else ([], [])
        for _ in range(self.patience if parents else 0):
            child = self._child(parents, ranks, lonely)
            if child is not None and self.pool.add(child):
                return child
        return self.pool.draw()

    def _child(self, parents: Sequence[Arch], ranks: Sequence[int], lonely: Sequence[float]) -> Arch | None:
        """Returns a child, None for one that is not allowed."""
        first, second = (parents[self._winner(ranks, lonely)] for _ in range(2))
        twice = self.rng.random() < self.crossover
        child = crossed(self.space, first, second, self.rng) if twice else first
        try:
            if not twice or self.rng.random() < self.mutation:
                return mutate(self.space, child, self.rng, self.constraint, tries=50)
            self.space.validate(child)
        except (InfeasibleError, InvalidArchError):
            return None
        return child if self.constraint is None or self.constraint(child) else None

    def _winner(self, ranks: Sequence[int], lonely: Sequence[float]) -> int:
        """Returns who wins a tournament of two, section III-C."""
        a, b = self.rng.integers(len(ranks), size=2).tolist()
        return int(min((a, b), key=lambda i: (ranks[i], -lonely[i])))

    def _merits(self, archs: Sequence[Arch]) -> tuple[list[int], list[float]]:
        """Returns the front each belongs to, 0 = the first, and its crowding distance there."""
        losses = np.array([self.outcomes.losses(arch) for arch in archs])
        ranks, lonely = layers(losses), np.zeros(len(archs))
        for rank in np.unique(ranks):
            rows = np.flatnonzero(ranks == rank)
            lonely[rows] = crowding(losses[rows]) if np.isfinite(losses[rows]).all() else 0.0
        return ranks.tolist(), lonely.tolist()

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Takes the answers; once there are as many children as parents, the fittest of both survive."""
        self.ledger.record(queries, estimates)
        self.children += [arch for arch, _ in self.outcomes.record(queries, estimates)]
        if len(self.children) >= self.population:
            both = list(dict.fromkeys([*self.alive, *self.children]))
            ranks, lonely = self._merits(both)
            order = sorted(range(len(both)), key=lambda i: (ranks[i], -lonely[i]))
            self.alive, self.children = [both[i] for i in order[: self.population]], []

    def best(self) -> Arch:
        """Returns the knee of the front of all that was told; raises StateError before any tell."""
        return self.outcomes.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns ``n`` members of the front, spread over it, its knee first; fewer if it has fewer."""
        return first_distinct(self.space, self.outcomes.members(n), n)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return super().state_dict() | {
            "outcomes": self.outcomes.state_dict(),
            "seen": self.pool.state_dict(),
            "alive": [str(arch) for arch in self.alive],
            "children": [str(arch) for arch in self.children],
            "founders": self.founders,
        }

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        super().load_state_dict(state)
        self.outcomes.load_state_dict(state["outcomes"])
        self.pool.load_state_dict(state["seen"])
        self.alive, self.children = ([parse(text) for text in state[name]] for name in ("alive", "children"))
        self.founders = int(state["founders"])
