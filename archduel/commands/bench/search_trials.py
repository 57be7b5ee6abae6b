"""One search on a table, and many of them over the cores: the same results whatever the number of workers."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from archduel import registry
from archduel.assemble import assemble, declaration, derived_seed, settings_of
from archduel.commands.bench.trials import Kept, Trials
from archduel.commands.options import read_entries
from archduel.commands.priors import with_prior
from archduel.core import Allowance, Budget, Known, Local, Objectives, Query, Space, search
from archduel.execution.processes import THREADS
from archduel.spaces.lookup import published_costs
from archduel.tables.estimator import TableEstimator, searchable
from archduel.tables.store import open_table
from archduel.tables.table import Table

__all__ = ["Contestant", "Protocol", "Trial", "by_budget", "first_labels", "objectives_in", "parse_contestants", "run_trial", "run_trials"]

TAIL = 10
"""Queries that a strategy with a fixed number of labels keeps for its candidates."""


@dataclass(frozen=True)
class Contestant:
    """A strategy with settings of its own.

    Attributes:
        title: name and settings, such as ``ctnas[baseline=fixed]``.
        strategy: its name on the menu.
        settings: a JSON object.
    """

    title: str
    strategy: str
    settings: str = "{}"

    def with_defaults(self, settings: Mapping[str, Any]) -> Contestant:
        """Returns the same strategy with settings added where it has none of that name; the title tells them."""
        both = {**settings, **json.loads(self.settings)}
        told = ";".join(f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in both.items())
        return Contestant(f"{self.strategy}[{told}]" if told else self.strategy, self.strategy, json.dumps(both))


@dataclass(frozen=True)
class Protocol:
    """What all trials share: the table and how it answers.

    Attributes:
        table: name or file.
        seed: of the whole comparison; run r of every strategy gets the same seed.
        fidelity: of the evaluations, None = the most expensive.
        reduce: ``mean`` of the table's runs, or ``sample`` = one of them, drawn once a search.
        objectives: what is to be small where a front is searched for: the score and columns of the table; None = the score alone.
        known: those of them that a search knows before it asks.
    """

    table: str
    seed: int = 0
    fidelity: str | None = None
    reduce: str = "mean"
    objectives: tuple[str, ...] | None = None
    known: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Trial:
    """One search and what it paid for.

    Attributes:
        title: the contestant.
        queries: the budget.
        run: number of the paired run.
        rows: the table's row of every paid query, in order.
        scores: what the search was told; nan where that was no accuracy, or one of a cheaper fidelity.
        seconds: simulated seconds paid by then.
        chosen: row of the architecture that the strategy itself calls best.
        cpu_seconds: processor time of the search, table look-ups included; of the whole one where this is its beginning.
    """

    title: str
    queries: int
    run: int
    rows: list[int]
    scores: list[float]
    seconds: list[float]
    chosen: int
    cpu_seconds: float

    @property
    def key(self) -> tuple[str, int, int]:
        """The contestant, its budget and the number of the run."""
        return self.title, self.queries, self.run

    def begun(self, queries: int) -> Trial:
        """Returns the same search as it stood after ``queries`` queries; what it would have chosen is its incumbent."""
        if queries >= self.queries:
            return self
        rows, scores = self.rows[:queries], self.scores[:queries]
        known = [-math.inf if math.isnan(score) else score for score in scores]
        chosen = rows[known.index(max(known))]
        return replace(self, queries=queries, rows=rows, scores=scores, seconds=self.seconds[:queries], chosen=chosen)


def parse_contestants(text: str) -> list[Contestant]:
    """Returns the strategies of ``best,ctnas[baseline=fixed;labels=50]``.

    Raises:
        SettingError: for text of another form or a strategy that is named twice.
        UnknownNameError: for a name that is not on the menu.
    """
    found = []
    example, menu = "ctnas[baseline=fixed;labels=50]", "archduel list strategies"
    for title, name, settings in read_entries(text, "strategy", example=example, menu=menu):
        registry.entry("strategy", name)
        found.append(Contestant(title, name, json.dumps(settings)))
    return found


def by_budget(contestant: Contestant) -> bool:
    """Returns whether the strategy must know the budget: it labels first, and nobody set how many."""
    return declaration(contestant.strategy).kind == "labels-first" and "labels" not in json.loads(contestant.settings)


def first_labels(contestant: Contestant, queries: int) -> int:
    """Returns how many random architectures the strategy labels before it proposes any; 0 = it says no number."""
    if declaration(contestant.strategy).kind != "labels-first":
        return 0
    usual = settings_of("strategy", contestant.strategy)
    return int({**usual, **_settings(contestant, queries)}["labels"])


def _settings(contestant: Contestant, queries: int) -> dict[str, Any]:
    """Returns the settings for a budget, of which a strategy that labels first keeps a part for what it proposes."""
    says, given = declaration(contestant.strategy), json.loads(contestant.settings)
    if says.kind == "labels-first" and "labels" in given:  # they say the rest too
        return dict(given)
    tail = min(TAIL, max(1, queries // 4)) if says.kind == "labels-first" else 0
    return {**says.settings(Allowance(evaluations=queries, proposals=tail, given=given)), **given}


def objectives_in(table: Table, protocol: Protocol) -> Objectives | None:
    """Returns what is to be small, with columns of a table as what is known beforehand; None for a search for accuracy alone."""
    if protocol.objectives is None:
        return None

    def column(name: str) -> Known:
        values = table.column(name)
        return lambda archs: values[[table.find(arch) for arch in archs]]

    return Objectives(protocol.objectives, {name: column(name) for name in protocol.known or ()})


class Arena:
    """A table opened once a process, with the space to search."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.table: Table = open_table(protocol.table)
        self.space: Space = searchable(self.table)
        self.objectives = objectives_in(self.table, protocol)
        self.costs = None if self.objectives is None else published_costs(self.space)

    def run(self, contestant: Contestant, queries: int, run: int) -> Trial:
        """Returns one finished search; selection is by validation, no test value is read."""
        seed = derived_seed(self.protocol.seed, f"run/{run}")
        table, fidelity = self.table, self.protocol.fidelity
        reduce: str | int = int(self.protocol.reduce) if self.protocol.reduce.isdigit() else self.protocol.reduce
        estimator = TableEstimator(table, fidelity=fidelity, reduce=reduce, seed=derived_seed(seed, "table"))
        settings, given = with_prior(contestant.strategy, _settings(contestant, queries), self.space, seed=seed)
        strategy = assemble(contestant.strategy, self.space, seed=seed, objectives=self.objectives, costs=self.costs, settings=settings, given=given)

        def trained(query: Query) -> tuple[int, str | None]:
            return table.find(query.arch), query.fidelity

        began = time.process_time()
        result = search(strategy, Local(estimator.estimate), budget=Budget(queries), key=trained, clock=None)
        took = time.process_time() - began
        usual = None, estimator.fidelity
        return Trial(
            title=contestant.title,
            queries=queries,
            run=run,
            rows=[table.find(told.query.arch) for told in result.told],
            scores=[told.estimate.score if told.query.fidelity in usual else math.nan for told in result.told],
            seconds=[told.paid.seconds for told in result.told],
            chosen=table.find(result.best),
            cpu_seconds=took,
        )


_arenas: dict[Protocol, Arena] = {}


def run_trial(protocol: Protocol, contestant: Contestant, queries: int, run: int) -> Trial:
    """Returns one search; the table stays open in this process for the next one."""
    if protocol not in _arenas:
        _arenas.clear()
        _arenas[protocol] = Arena(protocol)
    return _arenas[protocol].run(contestant, queries, run)


def run_trials(
    protocol: Protocol,
    jobs: Sequence[tuple[Contestant, int, int]],
    kept: Kept,
    workers: int,
    on_trial: Callable[[int, int], None] | None,
) -> Mapping[tuple[Any, ...], Trial]:
    """Returns the searches of all contestants, budgets and runs, by (title, queries, run).

    Args:
        protocol: the table and how it answers.
        jobs: (contestant, queries, run).
        kept: file of finished searches, which are not run again, nor are those that are the beginning of a longer one there.
        workers: processes; 0 = this one.
        on_trial: called with (finished, all) after each search.
    """
    most = max(queries for _, queries, _ in jobs)
    with Trials(kept, Trial, protocol) as trials, _single_threaded() if workers else nullcontext():
        longer = sorted(trials.done.values(), key=lambda trial: -trial.queries)
        latest = {(trial.title, trial.run): trial for trial in longer if trial.queries >= most}
        for contestant, queries, run in jobs:
            if not by_budget(contestant) and (contestant.title, run) in latest:
                trials.done.setdefault((contestant.title, queries, run), latest[contestant.title, run].begun(queries))
        wanted = {(contestant.title, queries, run): (contestant, queries, run) for contestant, queries, run in jobs}
        return trials.finish(partial(run_trial, protocol), wanted, workers=workers, on_trial=on_trial)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Lets processes started inside compute with one thread each: sums do not depend on how many there are."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
