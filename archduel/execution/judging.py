"""Judging queries in this process, one after the other.

An evaluation's seed depends on the run's seed and its ordinal only. A failure that is the machine's (a full disk, too little memory) is
never an answer about a network: it is tried again, and then ends the run, which goes on from there.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from archduel.core import Cost, Estimate, Query, evaluation_seed
from archduel.errors import MachineError, in_one_line, of_the_machine, short_of_memory

__all__ = [
    "ATTEMPTS", "AtOnce", "GroupJudge", "Judge", "Sequential", "Shrinking", "all_judged", "grouped", "judged", "of_too_little_memory", "one_by_one", "shrink",
    "stopped", "too_large",
]  # fmt: skip

Judge = Callable[[Query, int], Estimate]
"""Says how good a query is, given the seed of the evaluation."""

AtOnce = Callable[[Sequence[Query], Sequence[int]], int]
"""Says how many of the waiting queries, the first ones, are judged at once, given their seeds too."""

ATTEMPTS = 3
"""How often a query is tried that the machine failed in, before the run stops: what passes by itself is over by then."""


@runtime_checkable
class GroupJudge(Protocol):
    """A judge that also judges several queries at once."""

    def __call__(self, query: Query, seed: int) -> Estimate:
        """Returns how good a query is."""

    def together(self, queries: Sequence[Query], seeds: Sequence[int]) -> list[Estimate]:
        """Returns how good each query is."""


@runtime_checkable
class Shrinking(Protocol):
    """Group sizes that learn what does not fit into memory."""

    def __call__(self, queries: Sequence[Query], seeds: Sequence[int]) -> int:
        """Returns how many of the waiting queries are judged at once."""

    def shrink(self, queries: Sequence[Query], reason: str) -> None:
        """Is told that these queries, judged at once, took more memory than there was."""


def one_by_one(queries: Sequence[Query], seeds: Sequence[int]) -> int:
    """Returns 1: each query is judged by itself."""
    return 1


def judged(judge: Judge, query: Query, seed: int) -> Estimate:
    """Returns ``judge(query, seed)``; an exception becomes a failed estimate that names it, unless it is the machine's.

    Raises:
        Exception: what :func:`archduel.errors.of_the_machine` says is none of the network's.
    """
    began = time.perf_counter()
    try:
        return judge(query, seed)
    except Exception as error:
        if of_the_machine(error):
            raise
        return Estimate(math.nan, Cost(time.perf_counter() - began), {}, f"{type(error).__name__}: {error}")


def all_judged(judge: Judge, queries: Sequence[Query], seeds: Sequence[int]) -> list[Estimate]:
    """Returns the estimates of queries, judged at once if they are several; where that raises, each gets its own answer.

    Raises:
        Exception: as :func:`judged`; also where several at once take more memory than there is: whoever gave them out gives out fewer.
    """
    if len(queries) > 1 and isinstance(judge, GroupJudge):
        try:
            return judge.together(queries, seeds)
        except Exception as error:  # the one query that it is about will say so by itself
            if short_of_memory(error):
                raise
    return [judged(judge, query, seed) for query, seed in zip(queries, seeds)]


def grouped(queries: Sequence[Query], seeds: Sequence[int], at_once: AtOnce) -> Iterator[tuple[int, list[Query], list[int]]]:
    """Yields (place of the first, queries, seeds) of each group, in ask order."""
    place = 0
    while place < len(queries):
        n = max(1, at_once(queries[place:], seeds[place:]))
        yield place, list(queries[place : place + n]), list(seeds[place : place + n])
        place += n


def of_too_little_memory(estimate: Estimate) -> bool:
    """Returns whether a training ended because a GPU had no more memory: for that network alone, or because others use it."""
    return estimate.failed and estimate.reason.startswith("out of memory")


def shrink(at_once: AtOnce, queries: Sequence[Query], reason: str) -> None:
    """Tells whoever says how many are judged at once that these were too many."""
    if isinstance(at_once, Shrinking):
        at_once.shrink(queries, reason)


def too_large(reason: str, seconds: float = 0.0) -> Estimate:
    """Returns the verdict on a network that needs more memory than there is, alone and while others could be trained."""
    return Estimate(math.nan, Cost(seconds), {}, reason if reason.startswith("out of memory") else f"out of memory: {reason}")


def stopped(query: Query, reason: str) -> MachineError:
    """Returns the error that ends a run without a word in its journal about ``query``."""
    return MachineError(
        f"{reason}, {ATTEMPTS} times in a row with {query.arch}; that says nothing of the network, so nothing was written down about it: "
        "the same command goes on from there once the machine can"
    )


class Sequential:
    """An executor without workers: each answer is there before the next query begins.

    Args:
        judge: judges one query, or a group if ``at_once`` makes any.
        run_seed: seed of the run; with the ordinal it gives the seed of an evaluation.
        at_once: how many waiting queries are one group.
    """

    def __init__(self, judge: Judge, *, run_seed: int, at_once: AtOnce = one_by_one) -> None:
        self.judge, self.run_seed, self.at_once = judge, run_seed, at_once

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query, in order.

        Raises:
            MachineError: where the machine fails again and again.
        """
        seeds = [evaluation_seed(self.run_seed, ordinal) for ordinal in ordinals]
        yield from self._answers(queries, seeds)

    def _answers(self, queries: Sequence[Query], seeds: Sequence[int]) -> Iterator[Estimate]:
        for _, some, theirs in grouped(queries, seeds, self.at_once):
            yield from self._tried(some, theirs)

    def _tried(self, queries: list[Query], seeds: list[int]) -> list[Estimate]:
        """Returns the answers to a group; where its memory is not there, those of its halves.

        Raises:
            MachineError: where the machine fails again and again.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return all_judged(self.judge, queries, seeds)
            except Exception as error:
                if not of_the_machine(error):
                    raise
                reason, short = in_one_line(error), short_of_memory(error)
                # no verdict, whatever else can be trained: what this process holds already says nothing of a new one
                if attempt == ATTEMPTS:
                    raise stopped(queries[0], reason) from error
            gc.collect()  # what an interrupted training still holds may be all that is missing
            if short and len(queries) > 1:
                shrink(self.at_once, queries, reason)
                half = -(-len(queries) // 2)
                return [*self._answers(queries[:half], seeds[:half]), *self._answers(queries[half:], seeds[half:])]
        return []

    def close(self) -> None:
        """Nothing to end."""
