"""`archduel bench search`: strategies on a tabular benchmark, paired runs, honest statistics."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.assemble import declaration, derived_seed, settings_of
from archduel.commands.bench.search_trials import (
    Contestant,
    Protocol,
    Trial,
    by_budget,
    first_labels,
    parse_contestants,
    run_trials,
)
from archduel.commands.bench.trials import Kept
from archduel.errors import BudgetError, SettingError, TableError, unknown
from archduel.reporting.rows import Rows
from archduel.reporting.statistics import Comparison, Nemenyi, mean_interval, nemenyi, wilcoxon_holm
from archduel.tables.estimator import TableEstimator
from archduel.tables.store import open_table
from archduel.tables.table import Table
from archduel.version import __version__

__all__ = [
    "Bench", "Curve", "area", "bench_search", "best_validation", "checked", "configured", "curve", "facts_of", "note_tests", "proposals", "record",
    "reference_of", "start_of_best", "worker_count",
]  # fmt: skip

# -- From finished searches to curves and records: incumbents chosen by validation, test values read last ---------------


REACHED = 1e-9
"""An incumbent this close to the table's best validation accuracy is the best."""


@dataclass(frozen=True)
class Curve:
    """All runs of one strategy with one budget, seen by what was known after every query.

    Attributes:
        title: the strategy.
        queries: the budget Q.
        validation: (R, Q) validation accuracy of the incumbent.
        regret: (R, Q) the table's best validation accuracy minus that.
        seconds: (R, Q) simulated seconds paid.
        rows: (R, Q) the incumbent's row in the table.
        paid: (R,) queries that were paid; fewer than Q where a search ended by itself.
        cpu_seconds: (R,) processor time of each search.
    """

    title: str
    queries: int
    validation: NDArray[np.float64]
    regret: NDArray[np.float64]
    seconds: NDArray[np.float64]
    rows: NDArray[np.int64]
    paid: NDArray[np.int64]
    cpu_seconds: NDArray[np.float64]


def curve(trials: Sequence[Trial], best: Sequence[float]) -> Curve:
    """Returns the curve of paired runs 0..R-1; ``best`` (R,) is the highest score that each could have met."""
    queries = trials[0].queries
    rows = np.empty((len(trials), queries), np.int64)
    validation, seconds = np.empty((2, len(trials), queries))
    for run, trial in enumerate(trials):
        scores = np.array([-math.inf if math.isnan(score) else score for score in trial.scores])
        rises = np.concatenate([[True], scores[1:] > np.maximum.accumulate(scores)[:-1]])
        incumbent = np.maximum.accumulate(np.where(rises, np.arange(len(scores)), 0))
        take = np.minimum(np.arange(queries), len(scores) - 1)  # a search that ended early keeps its last
        rows[run] = np.array(trial.rows)[incumbent[take]]
        worst = min((score for score in scores if score > -math.inf), default=math.nan)
        validation[run] = np.maximum(scores[incumbent[take]], worst)  # before the first success: as the worst success
        seconds[run] = np.array(trial.seconds)[take]
    return Curve(
        title=trials[0].title,
        queries=queries,
        validation=validation,
        regret=np.asarray(best)[:, None] - validation,
        seconds=seconds,
        rows=rows,
        paid=np.array([len(trial.rows) for trial in trials]),
        cpu_seconds=np.array([trial.cpu_seconds for trial in trials]),
    )


def best_validation(table: Table, protocol: Protocol, run: int) -> float:
    """Returns the highest score that a query of paired run ``run`` can be told."""
    if protocol.reduce != "sample":
        number = int(protocol.reduce) if protocol.reduce.isdigit() else None
        return float(np.nanmax(table.validation(fidelity=protocol.fidelity, run=number)))
    seed = derived_seed(derived_seed(protocol.seed, f"run/{run}"), "table")
    return TableEstimator(table, fidelity=protocol.fidelity, reduce="sample", seed=seed).highest()


def area(curve: Curve, queries: int) -> NDArray[np.float64]:
    """Returns (R,) mean validation regret over the first ``queries`` queries: the area under its curve, per query."""
    return np.asarray(curve.regret[:, :queries].mean(1))


def record(table: Table, protocol: Protocol, curve: Curve, queries: int) -> dict[str, Any]:
    """Returns the numbers of a strategy at ``queries`` queries; here, and only here, test values are read."""
    return {
        "strategy": curve.title,
        "queries": queries,
        "runs": len(curve.rows),
        **_at(table, protocol, curve.rows[:, queries - 1]),
        **_spread("validation", curve.validation[:, queries - 1]),
        **_spread("regret", curve.regret[:, queries - 1]),
        **_spread("regret_area", area(curve, queries)),
        "share_best": float(np.mean(curve.regret[:, queries - 1] < REACHED)),
        **_to_best(curve.regret[:, :queries] < REACHED),
        "seconds": float(curve.seconds[:, queries - 1].mean()),
        "paid_queries": float(np.minimum(curve.paid, queries).mean()),
        "cpu_seconds": float(curve.cpu_seconds.mean()),
    }


def _to_best(reached: NDArray[np.bool_]) -> dict[str, float | None]:
    """Returns after how many queries the table's best validation accuracy was met, of (R, Q): None where too many runs never did."""
    first = np.where(reached.any(1), reached.argmax(1) + 1.0, np.inf)
    low, median, high = (np.quantile(first, share, method="inverted_cdf") for share in (0.25, 0.5, 0.75))
    numbers = {"mean": first.mean(), "median": median, "lower": low, "upper": high}
    return {f"{name}_to_best": float(number) if np.isfinite(number) else None for name, number in numbers.items()}


def proposals(table: Table, protocol: Protocol, trials: Sequence[Trial], labels: int) -> dict[str, Any]:
    """Returns how good the first architecture is that was asked after ``labels`` random ones: what was learned, unverified."""
    rows = np.array([trial.rows[labels] for trial in trials if len(trial.rows) > labels], np.int64)
    return _at(table, protocol, rows, "proposed_") if len(rows) else {}


def _at(table: Table, protocol: Protocol, rows: NDArray[np.int64], prefix: str = "") -> dict[str, Any]:
    """Returns what the test values of ``rows`` (R,) are, and their ranks among all rows in percent."""
    every = table.test(fidelity=protocol.fidelity)  # (N,) mean of the runs
    test = every[rows]
    known = test[~np.isnan(test)]
    ranks = np.array([100.0 * (np.count_nonzero(every > value) + 1) for value in known]) / np.count_nonzero(~np.isnan(every))
    return {
        **_spread(f"{prefix}test", known),
        **_spread(f"{prefix}test_rank_percent", ranks),
        f"{prefix}best_test": float(known.max()) if len(known) else None,
        f"{prefix}std_test": float(known.std(ddof=1)) if len(known) > 1 else None,
    }


def _spread(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    """Returns mean, 95 % t interval and median of ``values`` under names made of ``name``; nothing for none."""
    if not len(values):
        return {}
    mean = mean_interval(values)
    ends = {f"{name}_low": mean.low, f"{name}_high": mean.high} if mean.known else {}
    return {f"mean_{name}": mean.value, **ends, f"median_{name}": float(np.median(values))}


@dataclass(frozen=True)
class Bench:
    """A finished comparison.

    Attributes:
        records: one JSON-able mapping a strategy and number of queries.
        curves: title and budget -> its runs.
        comparisons: number of queries -> paired Wilcoxon tests on the area under the regret curve up to there, of one
            strategy minus each other one, Holm-corrected together.
        ranks: number of queries -> average ranks by that area; empty for a single strategy.
        facts: table, protocol, seeds, versions: what a reader needs to repeat it.
    """

    records: list[dict[str, Any]]
    curves: dict[tuple[str, int], Curve]
    comparisons: dict[int, list[Comparison]]
    ranks: dict[int, Nemenyi]
    facts: dict[str, Any]

    def table(self) -> Rows:
        """Returns one row a strategy and number of queries; ``.frame()`` makes a data frame of it."""
        return Rows(self.records)

    def trajectories(self) -> Rows:
        """Returns one row a strategy, run and number of queries: what the incumbent's validation accuracy was, and how far from the best."""
        return Rows(
            {"strategy": curve.title, "run": run, "query": query + 1, "validation": float(curve.validation[run, query]), "regret": float(curve.regret[run, query])}
            for curve in self.curves.values() for run in range(len(curve.rows)) for query in range(curve.queries)
        )  # fmt: skip


def bench_search(
    table: str | Path,
    strategies: str | Sequence[str],
    *,
    queries: int | Sequence[int] = 150,
    runs: int = 100,
    seed: int = 0,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    fidelity: str | None = None,
    reduce: str = "mean",
    against: str = "",
    equal_start: bool = False,
    workers: int | None = None,
    trials: Path | None = None,
    track: str = "",
    command: str = "",
    on_trial: Callable[[int, int], None] | None = None,
) -> Bench:
    """Returns the comparison of ``strategies`` on a table.

    A query counts when its row of the table was not asked before in that search, the incumbent is chosen by validation
    accuracy, and its test accuracy is read after the last search has ended.

    Args:
        table: a table's name or file.
        strategies: names, with settings where wanted: ``best,ctnas[baseline=fixed]``.
        queries: at how many queries the strategies are compared; the largest is the budget.
        runs: paired repetitions: run r has the same seed for every strategy.
        seed: of the whole comparison.
        settings: strategy's name -> settings for all its entries.
        fidelity: of the evaluations; None = the most expensive.
        reduce: what the search is told: ``mean`` of the table's runs, ``sample`` = one of them, or a run's number.
        against: the strategy that all others are tested against; empty = ``best`` if it takes part, else the one of least area.
        equal_start: every strategy that has such settings begins with as many random labels as ``best`` and asks as many at a time.
        workers: processes; None = one a core, 0 = this one.
        trials: a file that keeps finished searches; the same call goes on from there.
        track: a tracker that is told too, such as ``"mlflow"`` (`archduel list trackers`); needs ``trials``.
        command: how it was started, for `archduel resume`.
        on_trial: called with (finished, all) after each search.

    Raises:
        BudgetError: for more queries than architectures, or none.
        SettingError: for zero runs or unknown settings.
        TableError: for a table without test values.
        UnknownNameError: for a table or strategy that there is not.
    """
    contestants = configured(strategies, settings or {}, equal_start=equal_start)
    opened = open_table(table)
    budgets = checked(opened, queries, runs, reduce)
    if against and against not in {contestant.title for contestant in contestants}:
        raise unknown("strategy to compare with", against, [contestant.title for contestant in contestants])
    protocol = Protocol(str(table), seed, fidelity, reduce)
    jobs = [
        (contestant, budget, run)
        for run in range(runs)
        for contestant in contestants
        for budget in (budgets if by_budget(contestant) else budgets[-1:])
    ]
    found = run_trials(protocol, jobs, Kept(trials, track, command), worker_count(workers), on_trial)
    best = [best_validation(opened, protocol, run) for run in range(runs)]
    curves = {
        (title, budget): curve([found[title, budget, run] for run in range(runs)], best)
        for title, budget in dict.fromkeys((contestant.title, budget) for contestant, budget, _ in jobs)
    }
    shown = {(c, budget): curves[c.title, budget if by_budget(c) else budgets[-1]] for c in contestants for budget in budgets}
    records = [record(opened, protocol, seen, budget) for (_, budget), seen in shown.items()]
    for known, ((contestant, budget), seen) in zip(records, shown.items()):
        if 0 < (labels := first_labels(contestant, budget)) < budget:
            known |= proposals(opened, protocol, [found[seen.title, seen.queries, run] for run in range(runs)], labels)
    comparisons: dict[int, list[Comparison]] = {}
    ranks: dict[int, Nemenyi] = {}
    for budget in reversed(budgets):
        areas = {c.title: area(shown[c, budget], budget) for c in contestants}
        against = against or reference_of(areas)
        comparisons[budget] = wilcoxon_holm(areas, pairs=[(against, title) for title in areas if title != against])
        note_tests(records, comparisons[budget], budget)
        if len(areas) > 1:
            ranks[budget] = nemenyi({title: -values for title, values in areas.items()})
    return Bench(records, curves, dict(sorted(comparisons.items())), dict(sorted(ranks.items())), facts_of(opened, protocol, runs, budgets))


def configured(
    strategies: str | Sequence[str], settings: Mapping[str, Mapping[str, Any]], *, equal_start: bool = False
) -> list[Contestant]:
    """Returns the strategies that take part, each with the settings that were given for it, and with the start of ``best`` if that is wanted."""
    text = strategies if isinstance(strategies, str) else ",".join(strategies)
    contestants = parse_contestants(text)
    for name in settings:
        if name not in {contestant.strategy for contestant in contestants}:
            raise SettingError(f"settings for {name!r} were given, but it does not take part in {text!r}")
    contestants = [contestant.with_defaults(settings.get(contestant.strategy, {})) for contestant in contestants]
    return [contestant.with_defaults(start_of_best(contestant.strategy)) for contestant in contestants] if equal_start else contestants


def start_of_best(strategy: str) -> dict[str, int]:
    """Returns the settings with which ``strategy`` begins as ``best`` does; empty for one without such settings, or that does so anyway."""
    if declaration(strategy).kind != "asks":  # labels-first ones are told how many labels there are, one-shot ones ask for none
        return {}
    usual, known = settings_of("strategy", "best"), settings_of("strategy", strategy)
    wanted = {"initial": usual["initial"], "startup": usual["initial"], "batch": usual["batch"]}
    return {name: value for name, value in wanted.items() if name in known and known[name] != value}


def checked(table: Table, queries: int | Sequence[int], runs: int, reduce: str, *, tested: bool = True) -> list[int]:
    """Returns the numbers of queries, ascending.

    Raises:
        BudgetError: for more queries than architectures, or none.
        SettingError: for zero runs or another way to reduce them.
        TableError: where test values are needed (``tested``) and there are none.
    """
    budgets = sorted({queries} if isinstance(queries, int) else set(queries))
    if runs < 1:
        raise SettingError(f"a comparison needs at least 1 run, got {runs}")
    if not budgets or budgets[0] < 1:
        raise BudgetError(f"queries must be at least 1, got {budgets}")
    if budgets[-1] > len(table):
        raise BudgetError(f"{budgets[-1]} queries were asked for, table {table.name!r} has {len(table)} architectures")
    if tested and "test" not in table.splits:
        raise TableError(
            f"table {table.name!r} has no test values (only {', '.join(table.splits)}); import it with --test COLUMN"
        )
    if reduce not in ("mean", "sample") and not (reduce.isdigit() and int(reduce) < table.runs):
        raise SettingError(f"reduce is {reduce!r}, expected mean, sample or the number of a run from 0 to {table.runs - 1}")
    return budgets


def worker_count(workers: int | None) -> int:
    """Returns how many processes search; None = one a core."""
    if workers is not None and workers < 0:
        raise SettingError(f"workers must not be negative, got {workers}")
    if workers is not None:
        return workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reference_of(areas: Mapping[str, NDArray[np.float64]]) -> str:
    """Returns which strategy the others are tested against unless one was named; lower areas are better."""
    return "best" if "best" in areas else min(areas, key=lambda title: float(areas[title].mean()))


def note_tests(records: Sequence[dict[str, Any]], comparisons: Sequence[Comparison], queries: int) -> None:
    """Adds the tests to the records they are about."""
    for comparison in comparisons:
        for found in records:
            if found["strategy"] == comparison.second and found["queries"] == queries:
                found |= {"against": comparison.first, "p_wilcoxon": comparison.p, "p_holm": comparison.p_holm}


def facts_of(table: Table, protocol: Protocol, runs: int, budgets: Sequence[int]) -> dict[str, Any]:
    """Returns what a reader needs to repeat a comparison."""
    import platform

    import scipy

    return {
        "table": table.name,
        "architectures": len(table),
        "space": table.space_name,
        "fidelity": table.fidelities[table.position(protocol.fidelity)].name,
        "reduce": protocol.reduce,
        "simulated_seconds": "seconds" in table.splits,
        "best_validation": table.best_validation,
        "queries": list(budgets),
        "runs": runs,
        "seed": protocol.seed,
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "archduel": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }
