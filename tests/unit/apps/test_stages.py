"""The stages of a search: each returns what it came to, pays once, and keeps what the clock decided."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from archduel.commands.progress import Progress
from archduel.commands.search.one_shot import shared_scores
from archduel.commands.search.pace import Pace, whole_epochs
from archduel.commands.search.plan import Plan, fixed_plan
from archduel.commands.search.settings import make_settings
from archduel.commands.search.stages import Context, best_first, random_search, reevaluate, trainings
from archduel.core import Arch, Cost, Estimate, Query, enumerate_space, parse
from archduel.core.job import RUN, Job
from archduel.core.storage import estimate_record
from archduel.errors import RunError
from archduel.spaces.family import family
from archduel.spaces.nasbench201.space import NASBench201
from archduel.testing.toy import ToySpace

SPACE = NASBench201()
SMALL, MIDDLE, LARGE = (parse(f"nasbench201:{op}.{op}.{op}.{op}.{op}.{op}") for op in (1, 2, 3))
SAME = [parse("nasbench201:3.0.0.3.0.0"), parse("nasbench201:0.0.0.3.0.0")]  # nothing reads the first edge


def costs(archs):
    return np.array([[0, sum(arch.choices)] for arch in archs], float)


def test_scores_decide_without_a_belief_and_failures_are_left_out() -> None:
    scored = [(LARGE, 0.2), (SMALL, 0.9), (MIDDLE, math.nan)]
    assert best_first(SPACE, scored, costs) == [SMALL, LARGE]
    assert best_first(SPACE, [(MIDDLE, math.nan)], costs) == []


def test_a_strong_belief_decides_by_size() -> None:
    scored = [(SMALL, 0.9), (MIDDLE, 0.5), (LARGE, 0.2)]
    assert best_first(SPACE, scored, costs, belief=10.0) == [LARGE, MIDDLE, SMALL]


def test_one_of_each_class_the_better_and_of_equal_ones_the_earlier() -> None:
    assert SPACE.fingerprint(SAME[0]) == SPACE.fingerprint(SAME[1])
    assert best_first(SPACE, [(SAME[0], 0.1), (LARGE, 0.5), (SAME[1], 0.3)], costs) == [LARGE, SAME[1]]
    assert best_first(SPACE, [(SMALL, 0.5), (LARGE, 0.5)], costs) == [SMALL, LARGE]


@pytest.mark.parametrize(
    ("planned", "possible", "epochs"),
    [(12, 40.0, 12), (12, 7.9, 7), (12, 3.0, 3), (12, 2.9, None), (12, -5.0, None), (4, 2.0, 2), (4, 1.9, None), (1, 1.2, 1), (1, 0.9, None)],
)
def test_too_few_epochs_are_none(planned: float, possible: float, epochs: float | None) -> None:
    assert whole_epochs(planned, possible) == epochs


IMAGES: Any = SimpleNamespace(image_size=8, flip=True, train=range(60), validation=range(20), test=range(20), in_channels=1, n_classes=2)
ARCHS = list(enumerate_space(ToySpace()))[:6]


class Executor:
    """Trains nothing: the score is the number of choices, a second each; remembers what it was asked."""

    def __init__(self, failing: Sequence[Arch] = ()) -> None:
        self.failing, self.asked = failing, list[tuple[int, Query]]()

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        self.asked += zip(ordinals, queries)
        for query in queries:
            failed = query.arch in self.failing
            yield Estimate(math.nan if failed else float(len(query.arch.choices)), Cost(1.0), {}, "out of memory" if failed else "")

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with Job(tmp_path / "run", RUN, {"run": {}}) as opened:
        yield opened


def context(job: Job, executor: Executor, plan: dict[str, Any] | None = None, **given: Any) -> Context:
    settings = make_settings(**{"data": "x", "workers": 1, "strategy": "evolution", "space": "nasbench201", "evaluations": 8, **given})
    planned: Plan = replace(fixed_plan(make_settings(data="x", evaluations=8), IMAGES, family("nasbench201").ladder), **(plan or {}))
    return Context(
        job, settings, planned, ToySpace(), IMAGES, executor, None, lambda archs: np.ones((len(archs), 2)),
        Pace(job, settings, planned), Progress(quiet=True),
    )  # fmt: skip


def label(job: Job, archs: Sequence[Arch], fidelity: str | None = None) -> None:
    for ordinal, arch in enumerate(archs):
        job.part("label").append(estimate_record(ordinal, Query(arch, fidelity), Estimate(0.5, Cost(2.0))))


def test_a_label_is_the_same_training_with_and_without_a_word_about_fidelity(job: Job) -> None:
    label(job, ARCHS[:1])
    job.part("verify").append(estimate_record(0, Query(ARCHS[1]), Estimate(0.5, Cost(2.0))))
    assert set(trainings(job)) == {(ARCHS[0], "label"), (ARCHS[1], None)}


def test_random_search_counts_what_is_shared_and_trains_the_rest_once(job: Job) -> None:
    label(job, ARCHS[:2])
    first, executor = [(arch, 0.5) for arch in ARCHS[:2]], Executor()
    stage = random_search(context(job, executor), first, paid=10.0, extra=3)
    assert list(stage.scored[:2]) == first
    assert [ordinal for ordinal, _ in executor.asked] == [100_000, 100_001, 100_002]
    assert not {query.arch for _, query in executor.asked} & set(ARCHS[:2])
    assert stage.seconds == {"random": 3.0}
    assert random_search(context(job, again := Executor()), first, paid=99.0, extra=9) == stage
    assert again.asked == []


@pytest.mark.parametrize(("paid", "number"), [(4.0, 1), (9.0, 3), (0.0, 1)])
def test_with_a_time_random_search_gets_the_seconds_that_the_search_cost_more(job: Job, paid: float, number: int) -> None:
    label(job, ARCHS[:2])  # two seconds each
    executor = Executor()
    random_search(context(job, executor, seconds=100.0), [(arch, 0.5) for arch in ARCHS[:2]], paid=paid, extra=50)
    assert len(executor.asked) == number


def test_a_re_evaluation_that_fails_alone_is_left_out_and_all_of_a_list_are_an_error(job: Job) -> None:
    few, many = ARCHS[0], max(ARCHS, key=lambda arch: len(arch.choices))
    result = reevaluate(context(job, Executor([few]), size_belief=0.0), [[few, many], [many]])
    assert result.winners == [many, many]
    assert math.isnan(result.scores[few])
    assert result.seconds == {"reevaluate": 2.0}
    with pytest.raises(RunError, match="every re-evaluation failed"):
        reevaluate(context(job, Executor(), size_belief=0.0), [[many], [few]])


def test_final_epochs_fill_the_time_that_is_left_and_are_decided_once(job: Job) -> None:
    pace = context(job, Executor(), seconds=100.0, workers=2).pace
    # two trainings follow each other on one worker: 4 s an epoch of the 95 s that may be used
    assert pace.final({"search": "a"}, lambda: [2.0, 4.0, 2.0]) == "final@23"
    assert pace.final({"search": "a"}, lambda: [50.0]) == "final@23"


def test_final_epochs_have_a_least_a_most_and_what_the_user_says(tmp_path: Path) -> None:
    for name, seconds, given, expected in (
        ("slow", 1e3, {}, "final@1"), ("fast", 1e-3, {}, "final@48"), ("given", 1e-3, {"final.epochs": 16}, "final@16"),
    ):  # fmt: skip
        with Job(tmp_path / name, RUN, {"run": {}}) as job:
            assert context(job, Executor(), seconds=100.0, set=given).pace.final({}, lambda each=seconds: [each]) == expected


def test_shared_weights_are_asked_once_and_a_failure_stays_one(job: Job) -> None:
    estimates = [Estimate(0.25), Estimate(math.nan, reason="not finite")]
    shared: Any = SimpleNamespace(estimate=lambda queries: [estimates.pop(0) for _ in queries])
    first = shared_scores(context(job, Executor()), shared, "finalists", ARCHS[:2])
    again = shared_scores(context(job, Executor()), shared, "finalists", ARCHS[:2])
    assert first[0] == again[0] == (ARCHS[0], 0.25)
    assert math.isnan(first[1][1])
    assert math.isnan(again[1][1])
