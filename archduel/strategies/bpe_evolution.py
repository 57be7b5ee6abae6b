"""BPE's evolution.

Zheng, Ji, Tang, Wang, et al.: "Rethinking Performance Estimation in Neural Architecture Search", CVPR 2020; released
run_evolution.py: regularized evolution of super-cells, population 50, tournament 10, 100 evaluations in all. Afterwards the best
super-cell is pruned at random ten times and the ten are trained again (``archduel.spaces.supercell.masked``).

Deviations from the released code:
1. The score is what the estimator says, a validation accuracy (released: test accuracy).
2. The founders are distinct by fingerprint.
"""

from __future__ import annotations

import numpy as np

from archduel.core import Constraint, Query, Space
from archduel.strategies.evolution import RegularizedEvolution

__all__ = ["BPEEvolution"]


class BPEEvolution(RegularizedEvolution):
    """Regularized evolution with BPE's numbers.

    Args:
        space: where to search (BPE: super-cells).
        rng: the randomness.
        constraint: which architectures are allowed.
        population: how many live.
        tournament: how many compete to become a parent, drawn with replacement.
        steps: evaluations in all; 0 = as many as the budget allows.
    """

    def __init__(
        self,
        space: Space,
        *,
        rng: np.random.Generator,
        constraint: Constraint | None = None,
        population: int = 50,
        tournament: int = 10,
        steps: int = 100,
        patience: int = 2_000,
    ) -> None:
        super().__init__(
            space, rng=rng, constraint=constraint, population=population, tournament=tournament, patience=patience
        )
        self.steps = steps

    def ask(self, n: int) -> list[Query]:
        """Returns founders, then children, ``steps`` in all."""
        return super().ask(min(n, self.steps - self.told) if self.steps else n)
