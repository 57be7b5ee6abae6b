"""From finished searches to curves and records: incumbents chosen by validation, test values read last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.apps.assemble import derived_seed
from archduel.apps.bench_trials import Protocol, Trial
from archduel.core import Query
from archduel.estimators.table import Table
from archduel.estimators.table_estimator import TableEstimator
from archduel.reporting.statistics import mean_interval

__all__ = ["Curve", "area", "best_validation", "curve", "proposals", "record"]

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
    estimator = TableEstimator(table, fidelity=protocol.fidelity, reduce="sample", seed=seed)
    return max(e.score for e in estimator.estimate([Query(arch) for arch in table.archs]) if not e.failed)


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
        "seconds": float(curve.seconds[:, queries - 1].mean()),
        "paid_queries": float(np.minimum(curve.paid, queries).mean()),
        "cpu_seconds": float(curve.cpu_seconds.mean()),
    }


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
