"""The strategy of my_strategy.py, held to the same contract as the strategies inside archduel: `pytest examples/test_my_strategy.py`."""

import numpy as np
from my_strategy import Annealing

from archduel.testing import StrategyContract


class TestAnnealing(StrategyContract):
    def make(self, seed, constraint=None):
        return Annealing(self.space, rng=np.random.default_rng(seed), constraint=constraint)
