"""Rankers compared on a table: learn from few labels, order all the rest, again and again with other labels."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel import registry
from archduel.assemble import check_keys
from archduel.commands.bench.trials import Kept, Trials
from archduel.commands.options import read_entries
from archduel.commands.priors import PRIOR, warm_ranker
from archduel.core import Arch, Space
from archduel.core.storage import environment
from archduel.errors import SettingError, TableError, unknown
from archduel.rankers.published import PROTOCOLS, VARIANTS
from archduel.reporting.statistics import RankQuality, mean_interval, rank_quality, wilcoxon_holm
from archduel.spaces.family import families
from archduel.spaces.lookup import closed_form_costs
from archduel.tables.store import open_table

__all__ = ["PRESETS", "Entrant", "Field", "Protocol", "RankBench", "RankTrial", "Sides", "bench_rank", "open_field", "parse_entrants", "run_rank_trial", "run_rank_trials"]

# -- One ranker on one split of a table, and many of them over the cores; finished ones are kept in a file --------------


# -- Who is compared in `archduel bench rank`, on which labels, and against which truth ---------------------------------


@dataclass(frozen=True)
class Protocol:
    """How rankers are compared.

    Attributes:
        table: name or file.
        labels: how many are learned from, one comparison each.
        splits: repetitions with other labelled architectures (the first are the same for all numbers of labels).
        learn: ``validation`` or ``test``: what is learned from.
        run: of the labels; None = the mean of the table's runs.
        draw: ``random`` labelled architectures, or the ``first`` of the table.
        judge: ``remaining`` architectures, ``all`` (labelled ones included), or a number of held-out ones.
        seed: of the splits and the rankers.
    """

    table: str
    labels: tuple[int, ...]
    splits: int = 20
    learn: str = "validation"
    run: int | None = None
    draw: str = "random"
    judge: str = "remaining"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.learn not in ("validation", "test") or self.draw not in ("random", "first"):
            raise SettingError("learn is 'validation' or 'test', draw is 'random' or 'first'")
        if self.judge not in ("remaining", "all") and not self.judge.isdigit():
            raise SettingError(f"judge is {self.judge!r}, expected 'remaining', 'all' or a number of architectures")
        if self.splits < 1 or not self.labels or min(self.labels) < 2:
            raise SettingError(
                f"splits must be at least 1 and labels numbers of at least 2; got {self.splits} and {', '.join(map(str, self.labels)) or 'none'}"
            )

    def sides(self, n: int, labels: int, split: int) -> Sides:
        """Returns which of ``n`` architectures are labelled and which judged.

        Raises:
            SettingError: if there are not enough.
        """
        order = np.arange(n) if self.draw == "first" else np.random.default_rng([self.seed, split]).permutation(n)
        held_out = int(self.judge) if self.judge.isdigit() else 2
        if labels + held_out > n:
            raise SettingError(f"{labels} labels leave fewer than {held_out} of {n} architectures to judge")
        rest = order[labels : labels + held_out] if self.judge.isdigit() else order[labels:]
        return Sides(order[:labels], np.arange(n) if self.judge == "all" else rest)


@dataclass(frozen=True)
class Sides:
    """Rows of a table: labelled and judged ones."""

    labelled: NDArray[np.int64]
    judged: NDArray[np.int64]

    def distinct(self, classes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Returns (J,) which judged rows are the first of their class and not equal to a labelled one.

        Args:
            classes: (N,) equal for functionally equal architectures.
        """
        judged = classes[self.judged]
        first = np.zeros(len(judged), np.bool_)
        first[np.unique(judged, return_index=True)[1]] = True
        return first & ~np.isin(judged, classes[self.labelled])


PRESETS: Mapping[str, Mapping[str, Any]] = {**{home.name: home.protocols for home in families() if home.protocols}, **PROTOCOLS}
"""Protocols by name: ours for the spaces' tables, and those of the literature."""


@dataclass(frozen=True)
class Entrant:
    """A ranker with settings of its own.

    Attributes:
        title: name and settings, such as ``nac[epochs=500]``.
        ranker: its name on the menu.
        settings: a JSON object.
    """

    title: str
    ranker: str
    settings: str = "{}"

    def make(self, space: Space, seed: int) -> Any:
        """Returns a fresh ranker; those that look at closed-form costs are given them."""
        wants = signature(registry.entry("ranker", self.ranker)).parameters
        settings = json.loads(self.settings)
        prior = settings.pop(PRIOR, None)
        if prior:
            costs = closed_form_costs(space) if "costs" in wants else None
            return warm_ranker(self.ranker, settings, str(prior), space, seed=seed, costs=costs)
        settings = {**({"seed": seed} if "seed" in wants else {}), **settings}
        costs = closed_form_costs(space) if "costs" in wants else None
        return registry.make("ranker", self.ranker, space, *([costs] if costs else []), **settings)


def parse_entrants(text: str) -> list[Entrant]:
    """Returns the rankers of ``best,nac[epochs=500;antisymmetric=false]``.

    Raises:
        SettingError: for text of another form or a ranker that is named twice.
        UnknownNameError: for a name that is not on the menu.
    """
    found = []
    example, menu = "nac[epochs=500]", "archduel list rankers"
    for title, name, given in read_entries(text, "ranker", example=example, menu=menu):
        ranker, settings = VARIANTS.get(name, (name, {}))
        known = registry.names("ranker")
        if ranker not in known and ":" not in ranker:
            raise unknown("ranker", name, [*known, *VARIANTS])
        check_keys("ranker", ranker, given.keys() - {PRIOR})
        found.append(Entrant(title, ranker, json.dumps({**settings, **given})))
    return found


Key = tuple[str, int, int]


@dataclass(frozen=True)
class RankTrial:
    """One ranker on one split.

    Attributes:
        ranker: its title.
        labels: how many it learned from.
        split: number of the split.
        quality: measures on the judged architectures.
        distinct: the same measures without functionally equal architectures.
        judged: how many architectures were judged.
        judged_distinct: and how many without equal ones.
        fit_seconds: how long learning took; measurements that were read from a cache count as if they were made.
        query_seconds: how long scoring all judged architectures took, their encoding included.
        fit_cpu_seconds: processor time of the former, which other work on the machine does not lengthen.
        query_cpu_seconds: and of the latter.
    """

    ranker: str
    labels: int
    split: int
    quality: dict[str, float]
    distinct: dict[str, float]
    judged: int
    judged_distinct: int
    fit_seconds: float
    query_seconds: float
    fit_cpu_seconds: float
    query_cpu_seconds: float

    @property
    def key(self) -> Key:
        """The ranker, from how many labels and which split."""
        return self.ranker, self.labels, self.split


@dataclass(frozen=True)
class Field:
    """A table as arrays: architectures, labels (N,), truth (N,), classes of equal architectures (N,)."""

    space: Space
    archs: list[Arch]
    labels: NDArray[np.float64]
    truth: NDArray[np.float64]
    classes: NDArray[np.int64]
    judged_by: str


@lru_cache(1)
def open_field(table_name: str, learn: str, run: int | None) -> Field:
    """Returns the table's architectures with both labels; the truth is mean test accuracy, validation if there is none."""
    table = open_table(table_name)
    if table.space is None:
        raise TableError(f"table {table.name!r} does not say which space its architectures are of")
    judged_by = "test" if "test" in table.splits else "validation"
    if learn not in table.splits:
        raise TableError(f"table {table.name!r} has no {learn} values to learn from, it has {', '.join(table.splits)}")
    labels, truth = table.read(learn, run=run), table.read(judged_by)
    there = np.flatnonzero(np.isfinite(labels) & np.isfinite(truth))
    archs = [table.archs[row] for row in there.tolist()]
    return Field(table.space, archs, labels[there], truth[there], table.classes[there], judged_by)


def run_rank_trial(protocol: Protocol, entrant: Entrant, labels: int, split: int) -> RankTrial:
    """Returns one ranker's result on one split; it gets labelled architectures and their labels and nothing else."""
    from threadpoolctl import threadpool_limits

    field = open_field(protocol.table, protocol.learn, protocol.run)
    sides = protocol.sides(len(field.archs), labels, split)
    learned = [field.archs[i] for i in sides.labelled.tolist()]
    judged = [field.archs[i] for i in sides.judged.tolist()]
    with threadpool_limits(1):
        clock = [_clock()]
        ranker = entrant.make(field.space, int(np.random.SeedSequence([protocol.seed, split]).generate_state(1)[0]))
        ranker.fit(learned, field.labels[sides.labelled])
        clock.append(_clock() + getattr(ranker, "saved_seconds", 0.0))
        scores = ranker.predict(judged)
        clock.append(_clock() + getattr(ranker, "saved_seconds", 0.0))
    (fit, fit_cpu), (query, query_cpu) = (clock[1] - clock[0], clock[2] - clock[1])
    trial = RankTrial(entrant.title, labels, split, {}, {}, 0, 0, fit, query, fit_cpu, query_cpu)
    return _judge(field, sides, scores, trial)


def _clock() -> NDArray[np.float64]:
    """Returns (2,) seconds on the wall and of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def _judge(field: Field, sides: Sides, scores: NDArray[np.float64], trial: RankTrial) -> RankTrial:
    """Returns the trial with the quality of its scores."""
    truth = field.truth[sides.judged]
    distinct = sides.distinct(field.classes)
    found = {
        "quality": rank_quality(scores, truth)._asdict(),
        "distinct": rank_quality(scores[distinct], truth[distinct])._asdict(),
        "judged": len(truth),
        "judged_distinct": int(distinct.sum()),
    }
    return RankTrial(**{**asdict(trial), **found})


def run_rank_trials(
    protocol: Protocol,
    entrants: Sequence[Entrant],
    workers: int,
    kept: Kept,
    on_trial: Callable[[int, int], None] | None,
) -> Mapping[tuple[Any, ...], RankTrial]:
    """Returns the trials of all rankers, numbers of labels and splits, by (ranker, labels, split).

    Args:
        protocol: table, labels, splits.
        entrants: the rankers.
        workers: processes; 0 = this one.
        kept: a file of finished trials, which are not run again; new ones are added to it.
        on_trial: called with (finished, all) after each trial.
    """
    jobs = {(e.title, n, s): (e, n, s) for n in protocol.labels for s in range(protocol.splits) for e in entrants}
    with Trials(kept, RankTrial, protocol, free=("labels", "splits")) as trials:  # more of these are added to those there
        return trials.finish(partial(run_rank_trial, protocol), jobs, workers=workers, on_trial=on_trial)


MEASURES = RankQuality._fields


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
    track: str = "",
    command: str = "",
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
        track: a tracker that is told too, such as ``"mlflow"`` (`archduel list trackers`); needs ``trials``.
        command: how it was started, for `archduel resume`.
        on_trial: called with (finished, all) after each trial.
        changes: further fields of :class:`~archduel.commands.bench.rank.Protocol` (learn, run, draw, judge).

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
    finished = run_rank_trials(protocol, entrants, workers, Kept(trials, track, command), on_trial)
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
