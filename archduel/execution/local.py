"""Judging queries in this process, one after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from archduel.core import Cost, Estimate, Query, evaluation_seed

__all__ = ["Judge", "Sequential", "judged"]

Judge = Callable[[Query, int], Estimate]
"""Says how good a query is, given the seed of the evaluation."""


def judged(judge: Judge, query: Query, seed: int) -> Estimate:
    """Returns ``judge(query, seed)``; an exception becomes a failed estimate that names it."""
    began = time.perf_counter()
    try:
        return judge(query, seed)
    except Exception as error:
        return Estimate(math.nan, Cost(time.perf_counter() - began), {}, f"{type(error).__name__}: {error}")


class Sequential:
    """An executor without workers: each answer is there before the next query begins.

    Args:
        judge: judges one query.
        run_seed: seed of the run; with the ordinal it gives the seed of an evaluation.
    """

    def __init__(self, judge: Judge, *, run_seed: int) -> None:
        self.judge, self.run_seed = judge, run_seed

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query, in order."""
        for query, ordinal in zip(queries, ordinals):
            yield judged(self.judge, query, evaluation_seed(self.run_seed, ordinal))

    def close(self) -> None:
        """Nothing to end."""
