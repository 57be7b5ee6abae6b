"""Shares of the time, and a learning rate that reaches zero when the time is used up, on clocks turned by hand."""

from __future__ import annotations

import pytest

from archduel.errors import BudgetError, SettingError
from archduel.race.clock import Pace, Stopwatch
from archduel.race.plan import Ending, epochs_plan, timed_plan


class Hand:
    """A clock turned by hand."""

    def __init__(self) -> None:
        self.time, self.computed = 100.0, 7.0

    def now(self) -> float:
        return self.time

    def processor(self) -> float:
        return self.computed


def test_a_stopwatch_counts_what_was_before_and_how_much_of_the_time_was_computed() -> None:
    clock = Hand()
    watch = Stopwatch(clock, 5.0)
    assert watch.share == 1.0  # nothing is known yet
    clock.time, clock.computed = 110.0, 11.0
    assert watch.seconds == 15.0
    assert watch.computed == 4.0
    assert watch.share == 0.4


def test_a_pace_is_the_share_of_each_thread_and_needs_a_second_to_be_known() -> None:
    clock = Hand()
    pace = Pace(Stopwatch(clock))
    clock.time += 0.5
    pace.read(1)
    assert not pace.known
    assert not pace.calm
    clock.time, clock.computed = clock.time + 0.5, clock.computed + 0.95
    pace.read(1)
    assert pace.share == pytest.approx(0.95)
    assert pace.calm
    clock.time, clock.computed = clock.time + 2.0, clock.computed + 1.0
    pace.read(2)
    assert pace.share == pytest.approx((0.95 + 0.25) / 2)
    assert not pace.calm


def test_a_lasting_pace_looks_further_back() -> None:
    clock = Hand()
    pace = Pace(Stopwatch(clock))
    for share, seconds in ((1.0, 5), (0.5, 1)):
        for _ in range(seconds):
            clock.time, clock.computed = clock.time + 1.0, clock.computed + share
            pace.read(1)
    assert pace.share == pytest.approx(0.75)
    assert pace.lasting == pytest.approx(0.95)  # one second of ten
    for _ in range(60):
        clock.time, clock.computed = clock.time + 1.0, clock.computed + 0.5
        pace.read(1)
    assert pace.lasting == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("seconds", [30.0, 60.0, 600.0, 3600.0])
def test_more_than_half_of_the_time_is_left_for_the_last_training(seconds: float) -> None:
    plan = timed_plan(seconds, gone=2.0, reserve=3.0)
    usable = seconds - 5.0
    assert plan.last >= 0.6 * usable
    assert plan.race_until == pytest.approx(2.0 + usable - plan.last)
    assert plan.end == seconds - 3.0
    newcomers = plan.rungs.level / plan.rungs.first
    assert newcomers >= 4 if seconds > 100 else newcomers >= 3.9


def test_a_longer_race_has_more_newcomers() -> None:
    few, many = (timed_plan(s, gone=0, reserve=0).rungs for s in (180, 3600))
    assert many.level / many.first > 3 * few.level / few.first


def test_where_start_and_hand_over_take_long_the_search_shrinks_first() -> None:
    idle, busy, hopeless = (timed_plan(60.0, gone=gone, reserve=reserve) for gone, reserve in ((5.0, 3.0), (15.0, 10.0), (30.0, 12.0)))
    assert idle.last == pytest.approx(0.62 * 52)
    assert busy.last == pytest.approx(30.0)  # half of the minute
    assert busy.race_until == pytest.approx(20.0)
    assert hopeless.last == pytest.approx(0.9 * 18)
    alone = timed_plan(60.0, gone=30.0, reserve=12.0, last_share=0.0)  # a race without a last training has its usual share
    assert alone.race_until == pytest.approx(30.0 + 0.38 * 18)


def test_no_time_is_refused_with_what_would_do() -> None:
    with pytest.raises(BudgetError, match="give at least --time 12s") as caught:
        timed_plan(8, gone=5, reserve=2)
    assert caught.value.needed == 12


def test_a_repeatable_race_takes_exactly_its_newcomers() -> None:
    plan = epochs_plan(6, first=2.0, last=40.0)
    spent, newcomers = [0.0, 0.0, 0.0], 0
    while plan.rungs.next_move({}, spent) is not None:
        spent[0] += 2.0
        newcomers += 1
    assert newcomers == 6
    with pytest.raises(SettingError, match="above 18 passes"):
        epochs_plan(6, first=2.0, last=18.0)


def test_the_rate_is_constant_and_then_falls_to_zero_at_the_end() -> None:
    ending = Ending(end=100.0, trained=20.0, began=30.0)
    assert ending.fall == pytest.approx(0.4 * 90)
    assert ending.rate(30.0, 0.1) == 1.0
    assert ending.rate(63.9, 0.1) == 1.0
    assert ending.rate(82.0, 0.1) == pytest.approx(0.5)
    assert ending.rate(99.99, 0.1) is None


@pytest.mark.parametrize("slow_from", [0.2, 0.7, 0.95])
def test_a_machine_that_becomes_slow_still_ends_in_time_with_a_rate_near_zero(slow_from: float) -> None:
    ending = Ending(end=60.0, trained=0.0, began=0.0)
    now, last, a_step = 0.0, 1.0, 0.05
    while (rate := ending.rate(now, a_step)) is not None:
        last = rate
        a_step = 0.05 if now < 60 * slow_from else 0.4
        now += a_step
    assert now == pytest.approx(60.0, abs=0.4)
    assert last < 0.03


def test_a_last_training_shorter_than_its_fall_falls_from_the_beginning() -> None:
    ending = Ending(end=10.0, trained=90.0, began=0.0)
    assert ending.fall == 10.0
    assert ending.rate(5.0, 0.01) == pytest.approx(0.5)
