"""Estimators that need nothing but a table keep the contract."""

from __future__ import annotations

import numpy as np

from archduel.core import Estimator, sample
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables.build import make_table
from archduel.tables.estimator import TableEstimator
from archduel.tables.table import Table
from archduel.testing.estimators import EstimatorContract


def small_table() -> Table:
    """A table of 40 cells with two runs each."""
    rng, space = np.random.default_rng(0), NASBench201()
    archs = list(dict.fromkeys(sample(space, rng) for _ in range(40)))
    values = rng.uniform(0.1, 0.9, (1, 2, len(archs)))
    return make_table(archs, {"validation": values, "test": values, "seconds": 100 * values}, name="small", space=space)


class TestTableEstimator(EstimatorContract):
    space = NASBench201()
    table = small_table()

    def make(self, seed: int) -> Estimator:
        return TableEstimator(self.table, reduce="sample", seed=seed)
