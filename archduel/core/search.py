"""The only loop: ask, estimate, tell, record, step.

A round asks for a window of queries, answers repeated ones from the cache, takes what the journal holds, has the executor do the rest, and
tells all answers. A strategy that asks for nothing makes a step instead; one that has no step either is done.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from archduel.core.arch import Arch
from archduel.core.roles import Cost, Estimate, Executor, Query, StepReport, Strategy
from archduel.core.storage import Records, estimate_record, record_estimate, record_query
from archduel.errors import RunError, SettingError

__all__ = ["Budget", "Local", "Result", "Told", "evaluation_seed", "search"]


@dataclass(frozen=True)
class Budget:
    """What a search may pay; None = no limit. Evaluations count distinct queries, seconds and images count steps too."""

    evaluations: int | None = None
    seconds: float | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        for name in ("evaluations", "seconds", "images"):
            value = getattr(self, name)
            # "not above" rather than "at most": it refuses nan too, with which no budget would ever be spent
            if value is not None and not value > 0:
                raise SettingError(f"budget {name} must be above 0, got {value}")

    def spent(self, evaluations: int, cost: Cost) -> bool:
        """Whether any limit is reached."""
        return (
            (self.evaluations is not None and evaluations >= self.evaluations)
            or (self.seconds is not None and cost.seconds >= self.seconds)
            or (self.images is not None and cost.images >= self.images)
        )


@dataclass(frozen=True, slots=True)
class Told:
    """One evaluation of a search: what was asked, what came back, and what had been paid by then."""

    ordinal: int
    query: Query
    estimate: Estimate
    paid: Cost


@dataclass
class Result:
    """What a search found and what it cost."""

    best: Arch
    told: list[Told] = field(default_factory=list)
    steps: list[StepReport] = field(default_factory=list)
    cost: Cost = Cost()


def evaluation_seed(run_seed: int, ordinal: int) -> int:
    """Returns the seed of evaluation ``ordinal`` (31 bits)."""
    # A hash of the two numbers and nothing else: an evaluation gets the same seed whichever worker runs it, whatever ran before it,
    # and whether the run was killed. 31 bits, because some libraries take seeds as signed 32-bit numbers.
    digest = hashlib.sha256(f"{run_seed}/{ordinal}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class Local:
    """Runs queries here, one call for all that are given."""

    def __init__(self, estimate: Callable[[list[Query]], list[Estimate]]) -> None:
        self._estimate = estimate

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Returns the estimates in ask order."""
        return iter(self._estimate(list(queries)))

    def close(self) -> None:
        """Nothing to end."""


def _arch_and_fidelity(query: Query) -> Hashable:
    return (query.arch, query.fidelity)


def search(
    strategy: Strategy,
    executor: Executor,
    *,
    budget: Budget,
    window: int = 1,
    journal: Records | None = None,
    key: Callable[[Query], Hashable] = _arch_and_fidelity,
    on_told: Callable[[Told], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    enough: Callable[[int], bool] | None = None,
    clock: Callable[[], float] | None = time.perf_counter,
) -> Result:
    """Runs ``strategy`` until the budget is spent or it has nothing more to do.

    Repeated queries (equal by ``key``) are answered from the cache and charged once. Evaluations that ``journal``
    already holds are not run again: a killed search, started again with the same seed, asks the same questions, gets the
    recorded answers and goes on from there.

    Args:
        budget: evaluations stop exactly, seconds and images at the first answer past the limit.
        window: how many queries are asked at a time, whatever the number of workers, so that this does not change a search.
        journal: record of the run, also read.
        key: what makes two queries the same.
        on_told: called after each paid evaluation.
        on_step: called after each step.
        enough: asked with the number of steps made before each further one; true ends the search there.
        clock: measures steps that report no cost (None: count only what they report).

    Raises:
        RunError: if the journal holds another search.
    """
    result = Result(best=Arch("", ()))
    cache: dict[Hashable, Estimate] = {}
    # read once: what is appended below is already in the cache
    recorded = [r for r in journal.records if r["event"] == "estimate"] if journal is not None else []
    while not budget.spent(len(result.told), result.cost):
        # a window is cut to what the budget leaves, so that evaluations stop exactly
        left = math.inf if budget.evaluations is None else budget.evaluations - len(result.told)
        queries = strategy.ask(int(min(window, left)))
        if not queries:
            if enough is not None and enough(len(result.steps)):
                break
            began = clock() if clock else 0.0
            report = strategy.step()
            if report is None:
                break
            # a step that says what it cost is believed: simulated seconds of a table are not those of this machine
            if clock and not report.cost.seconds:
                report = StepReport(report.metrics, Cost(clock() - began, report.cost.images))
            result.steps.append(report)
            result.cost = result.cost + report.cost
            if on_step:
                on_step(report)
            continue
        new = [q for q in dict.fromkeys(queries) if key(q) not in cache]
        # of equal queries the first one stands, in its place: reversed twice, because a later key replaces an earlier value
        unique = list({key(q): q for q in reversed(new)}.values())[::-1]
        for query, estimate in _answers(unique, len(result.told), executor, recorded, journal):
            cache[key(query)] = estimate
            result.cost = result.cost + estimate.cost
            result.told.append(told := Told(len(result.told), query, estimate, result.cost))
            if on_told:
                on_told(told)
        strategy.tell(queries, [cache[key(q)] for q in queries])
    result.best = strategy.best()
    return result


def _answers(
    queries: list[Query], ordinal: int, executor: Executor, recorded: list[dict[str, Any]], journal: Records | None
) -> Iterable[tuple[Query, Estimate]]:
    """Yields answers in ask order: recorded ones first, then new ones, each journalled as it comes."""
    known = recorded[ordinal : ordinal + len(queries)]
    # strategies are deterministic, so that a difference means another seed, setting or version: better no search than a mixed one
    for query, record in zip(queries, known):
        if record_query(record) != query:
            raise RunError(f"the journal's evaluation {record['ordinal']} is {record['arch']}, now {query.arch} is asked")
        yield query, record_estimate(record)
    rest = queries[len(known) :]
    ordinals = range(ordinal + len(known), ordinal + len(queries))
    if rest:
        for number, query, estimate in zip(ordinals, rest, executor.run(rest, list(ordinals))):
            # before it is told: a search killed in between takes the answer from the journal instead of paying for it again
            if journal is not None:
                journal.append(estimate_record(number, query, estimate))
            yield query, estimate
