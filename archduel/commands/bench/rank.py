"""Rankers compared on a table: learn from few labels, order all the rest, again and again with other labels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archduel.commands.bench.rank_trials import (
    PRESETS,
    Entrant,
    Protocol,
    RankTrial,
    open_field,
    parse_entrants,
    run_rank_trials,
)
from archduel.core.storage import environment
from archduel.errors import SettingError, unknown
from archduel.reporting.statistics import RankQuality, mean_interval, wilcoxon_holm

__all__ = ["RankBench", "bench_rank"]

MEASURES = RankQuality._fields
Key = tuple[str, int, int]
TIMES = ("fit_seconds", "query_seconds", "fit_cpu_seconds", "query_cpu_seconds")


@dataclass(frozen=True)
class RankBench:
    """A finished comparison.

    Attributes:
        records: one a ranker and number of labels.
        facts: table, protocol, versions, hardware.
    """

    records: list[dict[str, Any]]
    facts: dict[str, Any]


def bench_rank(
    table: str,
    rankers: str,
    *,
    preset: str = "",
    labels: Sequence[int] = (),
    splits: int | None = None,
    seed: int = 0,
    against: str = "",
    workers: int = 0,
    trials: Path | None = None,
    on_trial: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> RankBench:
    """Returns the comparison of rankers on a table.

    Args:
        table: name or file.
        rankers: titles, such as ``best,nac[epochs=500]``.
        preset: a protocol of ``PRESETS``; what else is given overrides it.
        labels: numbers of labels.
        splits: repetitions; None = the preset's, or 20.
        seed: of splits and rankers.
        against: the ranker that others are tested against; empty = each against the best other one.
        workers: processes; 0 = this one. Results do not depend on it.
        trials: a file that keeps finished trials, so that the same call goes on where it was stopped.
        on_trial: called with (finished, all) after each trial.
        changes: further fields of :class:`~archduel.commands.bench.rank_trials.Protocol` (learn, run, draw, judge).

    Raises:
        SettingError: for settings out of range.
        TableError: for a table without what is to be learned.
        UnknownNameError: for a table, ranker or preset that there is not.
    """
    if preset and preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    given = {"labels": tuple(labels) or None, "splits": splits, **changes}
    settings = {**PRESETS.get(preset, {}), **{name: value for name, value in given.items() if value is not None}}
    if "labels" not in settings:
        raise SettingError("say how many labels to learn from, such as --labels 78,156, or name a --preset")
    protocol = Protocol(table=table, seed=seed, **settings)
    entrants = parse_entrants(rankers)
    if against and against not in [entrant.title for entrant in entrants]:
        raise unknown("ranker to compare with", against, [entrant.title for entrant in entrants])
    n_archs = len(open_field(protocol.table, protocol.learn, protocol.run).archs)
    protocol.sides(n_archs, max(protocol.labels), 0)
    finished = run_rank_trials(protocol, entrants, workers, trials, on_trial)
    return RankBench(_records(protocol, entrants, finished, against), _facts(protocol, workers))


def _records(
    protocol: Protocol, entrants: Sequence[Entrant], found: Mapping[Key, RankTrial], against: str
) -> list[dict[str, Any]]:
    """Returns one record a ranker and number of labels, with tests against another ranker."""
    records = []
    for labels in protocol.labels:
        group = {e.title: [found[e.title, labels, s] for s in range(protocol.splits)] for e in entrants}
        rows = {e.title: _record(protocol, e, group[e.title]) for e in entrants}
        _compare(rows, group, against)
        records += list(rows.values())
    return records


def _record(protocol: Protocol, entrant: Entrant, trials: Sequence[RankTrial]) -> dict[str, Any]:
    first = trials[0]
    record: dict[str, Any] = {
        "ranker": entrant.title,
        "settings": json.loads(entrant.settings),
        "table": protocol.table,
        "labels": first.labels,
        "splits": len(trials),
        "judged": first.judged,
        "judged_distinct": float(np.mean([trial.judged_distinct for trial in trials])),
    }
    for suffix, side in (("", "quality"), ("_distinct", "distinct")):
        for measure in MEASURES:
            interval = mean_interval([getattr(trial, side)[measure] for trial in trials])
            ends = {"": interval.value, "_low": interval.low, "_high": interval.high}
            record |= {
                f"{measure}{suffix}{end}": value if math.isfinite(value) else None for end, value in ends.items()
            }
    for name in TIMES:
        record[name] = float(np.median([getattr(trial, name) for trial in trials]))
    record["kendall_taus"] = [trial.quality["kendall_tau"] for trial in trials]
    return record


def _compare(rows: Mapping[str, dict[str, Any]], group: Mapping[str, Sequence[RankTrial]], against: str) -> None:
    """Adds to every record the paired difference of tau to ``against``, or to the best other ranker."""
    taus = {title: [trial.quality["kendall_tau"] for trial in trials] for title, trials in group.items()}
    means = {title: float(np.mean(values)) for title, values in taus.items()}
    pairs = []
    for title in rows:
        others = [other for other in rows if other != title]
        rival = against if against and against != title else max(others, key=means.__getitem__) if others else ""
        pairs += [(title, rival)] if rival else []
    for found in wilcoxon_holm(taus, pairs=pairs) if pairs else []:
        difference = found.difference
        rows[found.first] |= {
            "against": found.second,
            "difference": difference.value,
            "difference_low": difference.low if math.isfinite(difference.low) else None,
            "difference_high": difference.high if math.isfinite(difference.high) else None,
            "p_wilcoxon": found.p,
            "p_holm": found.p_holm,
        }


def _facts(protocol: Protocol, workers: int) -> dict[str, Any]:
    import scipy
    import sklearn

    field = open_field(protocol.table, protocol.learn, protocol.run)
    around = environment()
    return {
        **asdict(protocol),
        "space": field.space.name,
        "architectures": len(field.archs),
        "classes": len(np.unique(field.classes)),
        "judged_by": field.judged_by,
        "versions": {**around["versions"], "scipy": scipy.__version__, "scikit-learn": sklearn.__version__},
        "hardware": around["hardware"],
        "processes": max(1, workers),
        "threads_each": 1,
    }
