"""Which number of threads is used, on simulated machines."""

from __future__ import annotations

import pytest

from archduel.race.threads import Threads


def simulate(threads: Threads, seconds: dict[int, float], steps: int, now: float = 0.0) -> tuple[list[int], float]:
    """Returns the threads of each step and when the last ends."""
    used = []
    for _ in range(steps):
        used.append(threads.next(now))
        now += seconds[used[-1]]
    return used, now


@pytest.mark.parametrize(("seconds", "better"), [({1: 0.1, 2: 0.06}, 2), ({1: 0.1, 2: 3.0}, 1)])
def test_the_faster_number_is_used_and_little_time_is_spent_on_trying(seconds: dict[int, float], better: int) -> None:
    used, end = simulate(Threads((1, 2)), seconds, 400)
    assert used[0] == 1
    assert used.count(better) > 0.9 * len(used)
    assert end < 400 * seconds[better] * 1.25


def test_a_machine_that_becomes_busy_is_noticed() -> None:
    threads = Threads((1, 2))
    used, now = simulate(threads, {1: 0.1, 2: 0.06}, 50)
    assert used[-1] == 2
    used, now = simulate(threads, {1: 0.1, 2: 1.0}, 60, now)
    assert used[-1] == 1
    used, now = simulate(threads, {1: 0.1, 2: 0.06}, 2000, now)
    assert used[-1] == 2


def test_on_a_busy_machine_more_threads_are_not_tried() -> None:
    threads = Threads((1, 2))
    simulate(threads, {1: 0.1, 2: 0.06}, 50)
    assert threads.chosen == 2
    assert [threads.next(100.0 + i, calm=False) for i in range(5)] == [1] * 5


def test_one_option_is_never_tried_and_pauses_are_not_timed() -> None:
    assert set(simulate(Threads((1, 1)), {1: 0.1}, 20)[0]) == {1}
    threads = Threads((1, 2))
    simulate(threads, {1: 0.1, 2: 0.06}, 20)
    threads.pause()
    used, _ = simulate(threads, {1: 0.1, 2: 0.06}, 30, 1e6)
    assert used[-1] == 2
