"""`archduel bench search --objectives`: how much of a table's true front strategies have after so many queries.

The front is that of all rows of the table, its losses in ranges between the ideal (0) and the nadir (1), and its hypervolume up to 1.1;
the share of a search is the hypervolume of what it asked over that. Everything is validation: no test value is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.commands.bench.search import (
    checked,
    configured,
    facts_of,
    note_tests,
    reference_of,
    worker_count,
)
from archduel.commands.bench.search_trials import Protocol, Trial, run_trials
from archduel.commands.bench.trials import Kept
from archduel.core import SCORE, Objectives
from archduel.core.fronts import MARGIN, attainment, front, hypervolume, normalised
from archduel.errors import SettingError, TableError, unknown
from archduel.reporting.rows import Rows
from archduel.reporting.statistics import Comparison, mean_interval, wilcoxon_holm
from archduel.reporting.text import text_table
from archduel.tables.store import open_table
from archduel.tables.table import Table

__all__ = ["FrontBench", "TrueFront", "bench_fronts", "fronts_summary", "parse_objectives"]

Matrix = NDArray[np.float64]
SCORES = ("val_error", "error", "accuracy", SCORE)
"""What people call the objective that is validation accuracy, or its error."""
BEFOREHAND = ("params", "macs")
"""Columns that anybody can work out from an architecture, so that a search knows them before it asks."""
LEAST_MISSING = 1e-6
"""Of a share that is all of the front, so that it has a logarithm."""


def parse_objectives(table: Table, objectives: Sequence[str], known: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names of the objectives, and of those that a search knows before it asks.

    Args:
        table: whose columns they are.
        objectives: validation error (``val_error``) and columns, or columns alone.
        known: those that are known beforehand; None = parameters and multiply-adds.

    Raises:
        SettingError: for fewer than two objectives, one that is there twice, or one known beforehand that is none.
        UnknownNameError: for one without a measure: no column of the table.
        TableError: for a table in which no row has all of them.
    """
    wanted = tuple(SCORE if name in SCORES else name for name in objectives)
    Objectives(wanted)
    if len(wanted) < 2:
        raise SettingError(f"a front has at least two objectives, got {', '.join(objectives)}; such as val_error,macs")
    for name in wanted:
        if name != SCORE and name not in table.columns:
            raise unknown(f"objective (a column of table {table.name!r}, or val_error)", name, table.columns)
    before = tuple(name for name in wanted if name in BEFOREHAND) if known is None else tuple(known)
    for name in before:
        if name not in wanted or name == SCORE:
            raise SettingError(f"{name!r} is said to be known beforehand; expected some of {', '.join(n for n in wanted if n != SCORE)}")
    return wanted, before


class TrueFront:
    """The front of a whole table, and what a part of its rows has of it.

    Args:
        table: the benchmark.
        protocol: which objectives, and at which fidelity.

    Attributes:
        losses: (N, M) of all rows in ranges of the front, nan where a row lacks one.
        rows: of the front.

    Raises:
        TableError: if no row has all objectives.
    """

    def __init__(self, table: Table, protocol: Protocol) -> None:
        columns = [
            1 - table.validation(fidelity=protocol.fidelity) if name == SCORE else table.column(name) for name in protocol.objectives or ()
        ]
        losses = np.stack(columns, 1)
        self.rows = front(losses)
        if not len(self.rows):
            raise TableError(f"no row of table {table.name!r} has all of {', '.join(protocol.objectives or ())}, so it has no front")
        self.losses = normalised(losses, losses[self.rows])
        self.reference = np.full(losses.shape[1], 1 + MARGIN)
        self.volume = hypervolume(self.losses[self.rows], self.reference)

    def shares(self, rows: Sequence[int], queries: int) -> Matrix:
        """Returns (queries,) the share of the front's hypervolume that the first 1, 2, ... of ``rows`` have; the last stays."""
        found = np.empty(queries)
        members, share = np.empty(0, np.int64), 0.0
        for query in range(queries):
            if query < len(rows):
                both = np.append(members, rows[query])
                left = both[front(self.losses[both])]
                if not np.array_equal(left, members):
                    members, share = left, hypervolume(self.losses[left], self.reference) / self.volume
            found[query] = share
        return found


@dataclass(frozen=True)
class FrontBench:
    """A finished comparison.

    Attributes:
        records: one JSON-able mapping a strategy and number of queries.
        shares: title -> (R, Q) share of the true front's hypervolume after each query.
        surfaces: title -> (K, M) the losses, in ranges of the true front, that half of the runs attained with all queries.
        comparisons: number of queries -> paired Wilcoxon tests of the share there, Holm-corrected together.
        facts: what a reader needs to repeat it.
    """

    records: list[dict[str, Any]]
    shares: dict[str, Matrix]
    surfaces: dict[str, list[list[float]]]
    comparisons: dict[int, list[Comparison]]
    facts: dict[str, Any]

    def table(self) -> Rows:
        """Returns one row a strategy and number of queries; ``.frame()`` makes a data frame of it."""
        return Rows(self.records)


def bench_fronts(
    table: str | Path,
    strategies: str | Sequence[str],
    objectives: Sequence[str],
    *,
    known: Sequence[str] | None = None,
    queries: int | Sequence[int] = (25, 50, 100, 200),
    runs: int = 100,
    seed: int = 0,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    fidelity: str | None = None,
    against: str = "",
    workers: int | None = None,
    trials: Path | None = None,
    track: str = "",
    command: str = "",
    on_trial: Callable[[int, int], None] | None = None,
) -> FrontBench:
    """Returns how much of the true front each strategy has after so many distinct queries.

    A strategy that does not weigh several objectives itself is told how far each answer lies beyond the front so far
    (:class:`archduel.core.scalarised.Scalarised`).

    Args:
        table: a table's name or file.
        strategies: names, with settings where wanted.
        objectives: ``val_error`` and columns of the table; all are to be small.
        known: columns that a search knows before it asks; None = ``params`` and ``macs``.
        queries: at how many queries the strategies are compared; the largest is the budget.
        runs: paired repetitions.
        seed: of the whole comparison.
        settings: strategy's name -> settings for all its entries.
        fidelity: of the evaluations; None = the most expensive.
        against: the strategy that all others are tested against; empty = ``best`` if it takes part, else the one of the largest share.
        workers: processes; None = one a core, 0 = this one.
        trials: a file that keeps finished searches; the same call goes on from there.
        track: a tracker that is told too, such as ``"mlflow"`` (`archduel list trackers`); needs ``trials``.
        command: how it was started, for `archduel resume`.
        on_trial: called with (finished, all) after each search.

    Raises:
        BudgetError, SettingError, TableError, UnknownNameError: as :func:`archduel.commands.bench.search.bench_search`; objectives as
            :func:`parse_objectives`.
    """
    contestants, opened = configured(strategies, settings or {}), open_table(table)
    budgets = checked(opened, queries, runs, "mean", tested=False)
    titles = [contestant.title for contestant in contestants]
    if against and against not in titles:
        raise unknown("strategy to compare with", against, titles)
    names, before = parse_objectives(opened, objectives, known)
    protocol = Protocol(str(table), seed, fidelity, "mean", names, before)
    truth = TrueFront(opened, protocol)
    jobs = [(contestant, budgets[-1], run) for run in range(runs) for contestant in contestants]
    found = run_trials(protocol, jobs, Kept(trials, track, command), worker_count(workers), on_trial)
    searches = {title: [found[title, budgets[-1], run] for run in range(runs)] for title in titles}
    shares = {title: np.stack([truth.shares(t.rows, budgets[-1]) for t in each]) for title, each in searches.items()}
    records = [_record(title, budget, shares[title][:, budget - 1], searches[title]) for title in titles for budget in budgets]
    against = against or reference_of({title: 1 - values[:, -1] for title, values in shares.items()})
    comparisons = {budget: _compared(shares, budget, against) for budget in budgets} if len(titles) > 1 else {}
    for budget, tests in comparisons.items():
        note_tests(records, tests, budget)
    surfaces = {title: attainment([truth.losses[t.rows] for t in each]).round(6).tolist() for title, each in searches.items()}
    facts = facts_of(opened, protocol, runs, budgets) | {
        "objectives": ["val_error" if name == SCORE else name for name in names], "known_beforehand": list(before), "front_members": len(truth.rows), "reference": 1 + MARGIN,
        "ideal_and_nadir": "of the front of all rows",
    }  # fmt: skip
    return FrontBench(records, shares, surfaces, comparisons, facts)


def _record(title: str, queries: int, shares: Matrix, trials: Sequence[Trial]) -> dict[str, Any]:
    """Returns the numbers of a strategy at a number of queries."""
    share, missing = mean_interval(shares), mean_interval(np.log10(np.maximum(1 - shares, LEAST_MISSING)))
    return {
        "strategy": title, "queries": queries, "runs": len(shares),
        "mean_share": share.value, "share_low": share.low, "share_high": share.high, "median_share": float(np.median(shares)),
        "mean_log10_missing": missing.value, "log10_missing_low": missing.low, "log10_missing_high": missing.high,
        "paid_queries": float(np.mean([min(len(trial.rows), queries) for trial in trials])),
        "cpu_seconds": float(np.mean([trial.cpu_seconds for trial in trials])),
    }  # fmt: skip


def _compared(shares: Mapping[str, Matrix], queries: int, against: str) -> list[Comparison]:
    """Returns the paired tests of what is missing of the front."""
    missing = {title: 1 - values[:, queries - 1] for title, values in shares.items()}
    return wilcoxon_holm(missing, pairs=[(against, title) for title in missing if title != against])


def fronts_summary(bench: FrontBench) -> str:
    """Returns the comparison as text: shares, what is missing, tests."""
    facts = bench.facts
    p = {(c.second, budget): c.p_holm for budget, tests in bench.comparisons.items() for c in tests}
    rows = [
        [
            r["strategy"], r["queries"], f"{r['mean_share']:.3f}", "–" if r["share_low"] is None else f"{r['share_low']:.3f} to {r['share_high']:.3f}",
            f"{r['mean_log10_missing']:.2f}", f"{r['cpu_seconds']:.2f}",
            f"{p[r['strategy'], r['queries']]:.2g}" if (r["strategy"], r["queries"]) in p else "",
        ]
        for r in bench.records
    ]  # fmt: skip
    against = {c.first for tests in bench.comparisons.values() for c in tests}
    beforehand = f"; known before asking: {', '.join(facts['known_beforehand'])}" if facts["known_beforehand"] else ""
    return "\n".join([
        f"{facts['table']}: {facts['architectures']:,} architectures, {facts['front_members']} of them the true front of"
        f" {' and '.join(facts['objectives'])}{beforehand}; {facts['runs']} paired runs, seed {facts['seed']}",
        "",
        text_table(["strategy", "queries", "share", "95 % interval", "log10(1 - share)", "CPU seconds", "p (Holm)"], rows),
        "",
        f"share: hypervolume over that of the true front, in its ranges up to {facts['reference']:g}; validation only, no test value is read",
        *([f"p: paired Wilcoxon tests of the share against {', '.join(sorted(against))}, Holm-corrected at each number of queries"] if against else []),
    ])  # fmt: skip

