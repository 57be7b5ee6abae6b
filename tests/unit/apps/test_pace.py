"""What the clock decides while a search goes on, on a clock that tests turn: each decision once, and noted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from archduel.commands.search.pace import Pace, whole_epochs
from archduel.commands.search.plan import Plan, fixed_plan
from archduel.commands.search.settings import make_settings
from archduel.spaces.family import family

IMAGES: Any = SimpleNamespace(image_size=8, flip=True, train=range(60), validation=range(20), test=range(20), in_channels=1, n_classes=2)


class Clocked:
    """A job in memory whose clock tests turn."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.journal = SimpleNamespace(records=[{"event": "plan", "clock": 10.0}])

    def note(self, event: str, **values: Any) -> None:
        self.journal.records.append({"event": event, "clock": self.clock, **values})

    def noted(self, event: str) -> dict[str, Any] | None:
        return next((record for record in reversed(self.journal.records) if record["event"] == event), None)


def pace(plan: dict[str, Any] | None = None, **given: Any) -> tuple[Pace, Clocked]:
    """Returns a pace and its job; 100 s for labels, 20 to compare, 30 for the last stage."""
    settings = make_settings(**{"data": "x", "workers": 2, "strategy": "evolution", "space": "nasbench201", "seconds": 1000.0, **given})
    base = fixed_plan(make_settings(data="x", evaluations=8), IMAGES, family("nasbench201").ladder)
    shares = {"seconds": {"label": 100.0, "compare": 20.0, "final": 30.0}, "labels": 40, "confirm": 10, "seconds_per_label": 2.0, "seconds_per_epoch": 4.0}
    planned: Plan = replace(base, **{**shares, **(plan or {})})
    job = Clocked()
    return Pace(job, settings, planned), job  # type: ignore[arg-type]




@pytest.mark.parametrize(
    ("planned", "possible", "epochs"), [(12.0, 3.0, 3.0), (12.0, 2.999, None), (4.0, 2.5, 2.0), (100.0, 25.0, 25.0), (100.0, 24.0, None), (2.0, 9.9, 2.0), (1.5, 1.2, None), (1.0, 1.0, 1.0)]
)  # fmt: skip
def test_a_quarter_of_the_epochs_and_two_are_the_least(planned: float, possible: float, epochs: float | None) -> None:
    assert whole_epochs(planned, possible) == epochs


def test_the_budget_of_a_strategy_has_a_fifth_to_spare_unless_it_keeps_pace_itself() -> None:
    budget = pace()[0].label_budget()
    assert (budget.evaluations, budget.seconds) == (50, pytest.approx(1.2 * 100 * 2))
    assert pace(strategy="ctnas")[0].label_budget().seconds is None
    assert pace({"seconds": {}})[0].label_budget().seconds is None


def test_labels_that_take_much_longer_than_planned_become_fewer_once() -> None:
    one, job = pace()
    job.clock = 10.0 + 8 * 2.5 * 1.3  # 8 labels, at exactly 1.3 times the rate that 40 in 100 s are
    assert one.labels(8, 40) == 40
    job.clock += 0.1
    assert one.labels(7, 40) == 40  # before a few rounds of all workers it is not asked
    assert one.labels(9, 40) == 40
    assert one.labels(8, 40) == int(100 / ((job.clock - 10) / 8)) == 30
    assert job.noted("fewer labels") == {"event": "fewer labels", "clock": job.clock, "labels": 30, "seconds_per_label": round((job.clock - 10) / 8, 3)}
    assert one.labels(20, 40) == 30
    assert one.labels(20, 25) == 25


def test_more_workers_are_waited_for_and_so_many_labels_are_left() -> None:
    one, job = pace(workers=4)
    job.clock = 1e6
    assert one.labels(8, 40) == 40
    assert one.labels(16, 40) == 16
    single, job = pace(workers=1)
    job.clock = 1e6
    assert single.labels(8, 40) == 8
    endless, job = pace({"seconds": {}})
    job.clock = 1e6
    assert endless.labels(8, 40) == 40


def test_a_comparison_ends_when_its_share_is_used_and_makes_as_many_steps_again() -> None:
    one, job = pace()
    job.clock = 50.0
    assert not one.enough_steps(0)
    job.clock = 69.9
    assert not one.enough_steps(5)
    assert job.noted("compared") is None
    job.clock = 70.0
    assert one.enough_steps(6)
    assert job.noted("compared")["steps"] == 6  # type: ignore[index]
    assert not one.enough_steps(5)
    assert one.enough_steps(6)
    assert one.enough_steps(7)


def test_a_comparison_begins_anew_with_its_first_step_and_without_a_share_never_ends() -> None:
    one, job = pace()
    job.clock = 50.0
    assert not one.enough_steps(3)  # a continued run: its clock begins here
    job.clock = 60.0
    assert not one.enough_steps(0)
    job.clock = 79.0
    assert not one.enough_steps(1)
    job.clock = 80.0
    assert one.enough_steps(1)
    endless, job = pace({"seconds": {}})
    endless.enough_steps(0)
    job.clock = 1e9
    assert not endless.enough_steps(9)


@pytest.mark.parametrize(("owed", "each", "labels"), [(9.0, 2.0, 5), (8.0, 2.0, 4), (0.0, 2.0, 1), (-5.0, 2.0, 1), (1.0, 0.0, 1_000_000)])
def test_random_search_is_owed_the_seconds_that_the_search_cost_more(owed: float, each: float, labels: int) -> None:
    one, job = pace()
    assert one.random_labels(owed, lambda: each, 77) == labels
    assert job.noted("random arm")["labels"] == labels  # type: ignore[index]
    assert job.noted("random arm")["owed_seconds"] == max(round(owed, 2), 0.0)  # type: ignore[index]
    assert one.random_labels(1e6, lambda: each, 3) == labels  # decided once


def test_where_a_run_repeats_exactly_the_number_is_given() -> None:
    one, job = pace(seconds=None, evaluations=8)
    assert one.random_labels(9.0, lambda: pytest.fail("nothing is measured"), 77) == 77
    assert job.noted("random arm")["owed_seconds"] == 9.0  # type: ignore[index]


def re_evaluated(one: Pace, n: int, each: float = 2.0) -> str | None:
    return one.reevaluation(n, lambda: each)


def test_a_re_evaluation_gets_what_the_last_stage_leaves() -> None:
    one, job = pace()
    epochs = one.plan.reevaluate.epochs
    assert epochs == 8
    job.clock = 1000.0 - 30 - 2 * 4.0 * 5.5  # two rounds of two workers, 5.5 epochs each
    assert re_evaluated(one, 4) == "reevaluate@5"
    assert re_evaluated(one, 4, 1e9) == "reevaluate@5"  # decided once
    assert job.noted("reevaluation plan")["fidelity"] == "reevaluate@5"  # type: ignore[index]


def test_a_re_evaluation_on_a_slower_machine_is_shorter_or_none() -> None:
    one, job = pace()
    job.clock = 1000.0 - 30 - 2 * 4.0 * 5.5
    assert re_evaluated(one, 3, 4.0) == "reevaluate@2"  # twice as slow; three networks are two rounds as well
    one, job = pace()
    job.clock = 1000.0 - 30 - 2 * 4.0 * 1.9
    assert re_evaluated(one, 4) is None
    assert re_evaluated(one, 1) is None
    one, job = pace()
    assert re_evaluated(one, 4, 0.1) == "reevaluate@8"  # a faster one has no more than planned
    job.clock = 0.0
    fast, job = pace()
    job.clock = 1000.0 - 30 - 2 * 4.0 * 5.5
    assert re_evaluated(fast, 4, 0.1) == "reevaluate@5"  # and is not believed to be faster than measured
    fixed, job = pace(seconds=None, evaluations=8)
    job.clock = 1e9
    assert re_evaluated(fixed, 4, 1e9) == "reevaluate@8"
    given, job = pace(set={"reevaluate.epochs": 8})
    job.clock = 1e9
    assert re_evaluated(given, 4, 1e9) == "reevaluate@8"


def finally_(one: Pace, *seconds: float) -> str:
    return one.final({"search": "a"}, lambda: list(seconds))


def test_the_last_stage_fills_what_is_left_up_to_three_times_the_plan() -> None:
    one, job = pace()
    assert one.plan.final.epochs == 16
    job.clock = 900.0
    assert finally_(one, 4.0, 3.0, 2.0) == "final@19"  # 95 s; two workers: 4, then 3 + 2 = 5
    assert finally_(one, 1e9) == "final@19"
    assert job.noted("final plan") == {"event": "final plan", "clock": 900.0, "fidelity": "final@19", "networks": {"search": "a"}}
    assert finally_(pace()[0], 1e-12) == "final@48"
    late, job = pace()
    job.clock = 2000.0
    assert finally_(late, 5.0) == "final@1"
    for changes in ({"seconds": None, "evaluations": 8}, {"set": {"final.epochs": 16}}):
        fixed, job = pace(**changes)
        job.clock = 2000.0
        assert finally_(fixed, 5.0) == "final@16"


def test_trainings_are_started_in_order_by_whoever_is_free() -> None:
    one, job = pace(workers=1)
    job.clock = 900.0
    assert finally_(one, 4.0, 5.5) == "final@10"  # 95 / 9.5
    many, job = pace(workers=3)
    job.clock = 900.0
    assert finally_(many, 2.0, 2.0, 9.5) == "final@10"
