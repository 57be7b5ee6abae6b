"""Simulated annealing, written outside archduel in fifty lines.

    archduel bench search --table digits201 --strategies random,examples/my_strategy.py:Annealing --queries 50 --runs 20
    pytest examples/test_my_strategy.py
"""

import math

from archduel.core import Query, mutate, parse, sample
from archduel.errors import StateError


class Annealing:
    """Moves to a mutant that is better, or a little worse while it is hot.

    The collaborators come first (a strategy may also name ``policy`` and ``ranker``), then the randomness and settings.
    """

    def __init__(self, space, *, rng, constraint=None, heat=0.05, cooling=0.97):
        self.space, self.rng, self.constraint, self.heat, self.cooling = space, rng, constraint, heat, cooling
        self.here, self.there, self.told = None, -math.inf, {}

    def ask(self, n):
        if self.heat < 1e-6:
            return []  # cold: nothing left to do
        if self.here is None:
            return [Query(sample(self.space, self.rng, self.constraint))]
        return [Query(mutate(self.space, self.here, self.rng, self.constraint)) for _ in range(n)]

    def tell(self, queries, estimates):
        for query, estimate in zip(queries, estimates):
            score = -math.inf if estimate.failed else estimate.score
            self.told[query.arch] = score
            gain = score - self.there
            if gain >= 0 or self.rng.random() < math.exp(max(gain, -1.0) / self.heat):
                self.here, self.there = query.arch, score
            self.heat *= self.cooling

    def step(self):
        return None  # learns nothing between questions

    def best(self):
        if not self.told:
            raise StateError("nothing was told yet; ask, evaluate and tell first")
        return max(self.told, key=self.told.get)

    def state_dict(self):
        place = [None if self.here is None else str(self.here), self.there, self.heat]
        told = [[str(arch), score] for arch, score in self.told.items()]
        return {"place": place, "told": told, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        here, self.there, self.heat = state["place"]
        self.here = None if here is None else parse(here)
        self.told = {parse(text): score for text, score in state["told"]}
        self.rng.bit_generator.state = state["rng"]
