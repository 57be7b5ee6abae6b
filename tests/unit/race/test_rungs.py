"""Who trains next: by hand, and over whole simulated races."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from archduel.errors import SettingError
from archduel.race.rungs import BEHIND, Enter, Promote, Rungs, Standing


def test_amounts_grow_by_the_factor_and_only_the_difference_is_paid() -> None:
    rungs = Rungs(first=2.0, level=10.0)
    assert [rungs.amount(i) for i in range(3)] == [2.0, 6.0, 18.0]
    assert [rungs.extra(i) for i in range(3)] == [2.0, 4.0, 12.0]


def test_newcomers_enter_until_one_of_three_deserves_to_go_on() -> None:
    rungs = Rungs(first=1.0, level=10.0)
    assert rungs.next_move({}, [0, 0, 0]) == Enter()
    two = {0: Standing([0.5]), 1: Standing([0.6])}
    assert rungs.next_move(two, [2, 0, 0]) == Enter()
    three = {**two, 2: Standing([0.1])}
    assert rungs.next_move(three, [3, 0, 0]) == Promote(1)
    going = {**three, 1: Standing([0.6, 0.7])}
    assert rungs.next_move(going, [3, 2, 0]) == Enter()  # only one of three deserves it


def test_without_newcomers_the_share_is_rounded_up_and_then_the_race_is_over() -> None:
    rungs = Rungs(first=1.0, level=10.0)
    there = {0: Standing([0.5]), 1: Standing([0.6]), 2: Standing([0.55]), 3: Standing([0.2])}
    assert rungs.next_move(there, [4, 0, 0], newcomers=False) == Promote(1)
    there[1].scores.append(0.7)
    assert rungs.next_move(there, [4, 2, 0], newcomers=False) == Promote(1)  # the highest rung first: it is alone there
    there[1].scores.append(0.8)
    assert rungs.next_move(there, [4, 2, 6], newcomers=False) == Promote(2)
    there[2].scores.append(0.65)
    assert rungs.next_move(there, [4, 4, 6], newcomers=False) is None
    assert rungs.leader(there) == 1


def test_a_favoured_network_goes_up_to_the_highest_rung_and_the_best_other_one_meets_it_there() -> None:
    rungs = Rungs(first=1.0, level=6.0)
    there = {0: Standing([0.1], favoured=True), 1: Standing([0.5]), 2: Standing([0.6])}
    assert rungs.next_move(there, [3, 0, 0]) == Promote(0)
    there[0].scores.append(0.2)
    assert rungs.next_move(there, [3, 2, 0]) == Promote(0)
    there[0].scores.append(0.7)
    assert rungs.next_move(there, [3, 2, 6]) == Promote(2)
    there[2].scores.append(0.65)
    assert rungs.next_move(there, [6, 4, 6], newcomers=False) == Promote(2)  # the highest level has twice as much
    there[2].scores.append(0.66)
    assert rungs.leader(there) == 0  # favoured on the way; the choice is by score alone
    assert rungs.leader({**there, 0: Standing([0.1, 0.2, 0.5], favoured=True)}) == 2


def test_the_best_of_those_that_know_something_goes_on_once_there_are_two() -> None:
    rungs = Rungs(first=1.0, level=6.0)
    there = {0: Standing([0.3], known=True), 1: Standing([0.6])}
    assert rungs.next_move(there, [2, 0, 0]) == Enter()
    there[2] = Standing([0.4], known=True)
    assert rungs.next_move(there, [3, 0, 0]) == Promote(2)
    there[2].scores.append(0.5)
    assert rungs.next_move(there, [3, 2, 0]) == Promote(1)  # among the best third; the highest rung waits for newcomers
    there[1].scores.append(0.62)
    assert rungs.next_move(there, [6, 4, 0]) == Promote(2)  # now there are none
    there[2].scores.append(0.7)
    assert rungs.next_move(there, [6, 4, 6]) == Promote(1)
    assert rungs.leader(there) == 2


@pytest.mark.parametrize("duels", [False, True])
def test_in_a_short_race_the_rung_below_the_highest_decides_between_pretrained_networks(duels: bool) -> None:
    rungs = Rungs(first=1.0, level=6.0, duels=duels)
    there = {0: Standing([0.3, 0.5], known=True), 1: Standing([0.31, 0.52], known=True), 2: Standing([0.1, 0.2], favoured=True)}
    assert rungs.next_move(there, [6, 6, 0], newcomers=False) == (Promote(1) if duels else None)
    assert rungs.leader(there) == 1
    there[2].scores[1] = 0.45
    assert rungs.next_move(there, [6, 6, 0], newcomers=False) == (Promote(2) if duels else None)
    there[2].scores[1] = 0.55  # one from scratch that may still win meets the best of them
    assert rungs.next_move(there, [6, 6, 0], newcomers=False) == Promote(2)
    there[2].scores.append(0.6)
    assert rungs.next_move(there, [6, 6, 6], newcomers=False) == Promote(1)


LONG, SHORT = (Rungs(first=1.0, level=6.0, duels=duels) for duels in (True, False))


@pytest.mark.parametrize("behind", [False, True])
def test_whoever_is_far_behind_the_other_kind_does_not_go_up_to_the_highest_rung(behind: bool) -> None:
    rungs = Rungs(first=1.0, level=6.0)
    best = 0.4 + BEHIND + (0.01 if behind else -0.01)
    start = Standing([0.1, 0.4], favoured=True)
    there = {0: start, 1: Standing([0.5, best], known=True), 2: Standing([0.4, 0.41], known=True)}
    assert rungs.next_move(there, [6, 6, 0], newcomers=False) == Promote(1 if behind else 0)
    there[1].scores.append(0.8)
    assert rungs.next_move(there, [6, 6, 6], newcomers=False) == (None if behind else Promote(0))
    alone = {0: Standing([0.1, 0.4], favoured=True), 1: Standing([0.5, best])}
    assert rungs.next_move(alone, [6, 6, 0], newcomers=False) == Promote(0)  # of one kind: a short training says less than that it is favoured


def test_one_from_scratch_is_compared_with_what_those_that_know_something_had_at_any_rung() -> None:
    """Twenty kinds of drawings: 20 of 180 s took a network from scratch with 0.18 to the highest rung, for nobody who knew something had been at the second yet."""
    start, plain = Standing([0.14, 0.177], favoured=True), Standing([0.261], known=True)
    assert LONG.beaten(0, {0: start, 1: plain}, 2)
    assert LONG.beaten(0, {0: start, 1: Standing([0.5], known=True)}, 1)
    assert not LONG.beaten(0, {0: start, 1: replace(plain, failed=True)}, 2)
    assert not LONG.beaten(0, {0: start, 1: replace(plain, known=False)}, 1)
    assert not LONG.beaten(1, {0: start, 1: plain}, 1)


@pytest.mark.parametrize(("best", "behind"), [(0.29, False), (0.337, False), (0.42, True)])
def test_where_scores_are_low_a_share_of_them_is_far(best: float, behind: bool) -> None:
    """Of 200,000 parameters 0.288 from scratch came to 80.2 % where part of a backbone had 0.337 and came to less."""
    assert LONG.beaten(0, {0: Standing([0.2, 0.288], favoured=True), 1: Standing([best], known=True)}, 2) is behind


def test_a_race_is_over_when_one_that_knows_something_is_all_that_is_left() -> None:
    rungs = Rungs(first=1.0, level=6.0, duels=False)
    start, plain = Standing([0.14, 0.18], favoured=True), Standing([0.5], known=True)
    assert rungs.next_move({0: plain, 1: start}, [1, 1, 0], newcomers=False) is None
    assert rungs.leader({0: plain, 1: start}) == 0
    assert rungs.next_move({0: plain, 1: start}, [1, 1, 0]) == Enter()
    assert rungs.next_move({0: plain, 1: start, 2: Standing([0.52], known=True)}, [1, 1, 0], newcomers=False) == Promote(2)
    weighed = {n: replace(standing, costs=(1.0,)) for n, standing in {0: plain}.items()}
    assert rungs.next_move(weighed, [1, 0, 0], newcomers=False) == Promote(0)
    assert rungs.next_move({0: Standing([0.5])}, [1, 0, 0], newcomers=False) == Promote(0)


def test_a_short_race_compares_both_kinds_at_the_second_rung() -> None:
    """8,111 drawings: 59 % from scratch where frozen features had 60 %; that was trained on, and came to 66 % where fine-tuning comes to 74 %."""
    start, plain = Standing([0.165, 0.24], favoured=True), Standing([0.246], known=True)
    assert SHORT.next_move({0: plain, 1: start}, [1, 1, 0], newcomers=False) is None
    assert SHORT.leader({0: plain, 1: start}) == 0
    assert LONG.next_move({0: plain, 1: start}, [1, 1, 0], newcomers=False) == Promote(1)
    ahead = {0: plain, 1: Standing([0.165, 0.26], favoured=True)}
    assert SHORT.next_move(ahead, [1, 1, 0], newcomers=False) == Promote(0)  # fine-tuning has not begun: the two meet at the second rung
    plain.scores.append(0.25)
    assert SHORT.next_move(ahead, [1, 2, 0], newcomers=False) == Promote(1)
    plain.scores[1] = 0.27
    assert SHORT.next_move(ahead, [1, 2, 0], newcomers=False) is None
    assert SHORT.leader(ahead) == 0
    digits = {0: Standing([0.63], known=True), 1: Standing([0.84, 0.88], favoured=True)}
    assert SHORT.next_move(digits, [1, 1, 0], newcomers=False) == Promote(1)  # it is far behind, and nobody waits for it
    assert SHORT.leader(digits) == 1


def test_one_that_knows_something_and_had_no_time_for_the_highest_rung_is_not_beaten_by_a_lower_score_there() -> None:
    rungs = Rungs(first=1.0, level=6.0)
    start = Standing([0.05, 0.10, 0.14], favoured=True)
    there = {0: Standing([0.24, 0.24], known=True), 1: start, 2: Standing([0.3])}
    assert rungs.leader(there) == 0  # 55 % after half a pass against 22 % after thirteen
    assert rungs.leader({**there, 1: Standing([0.05, 0.10, 0.25], favoured=True)}) == 1
    assert rungs.leader({**there, 0: Standing([0.24, 0.24], known=True, failed=True)}) == 1
    thinned = Standing([0.15, 0.15, 0.15], known=True)
    assert rungs.leader({**there, 3: thinned}) == 0
    assert rungs.leader({**there, 3: replace(thinned, scores=[0.15, 0.24, 0.25])}) == 3
    weighed = {n: replace(standing, costs=(1.0,)) for n, standing in there.items()}
    assert rungs.leader(weighed) == 1


START = Standing([0.191, 0.280, 0.386], favoured=True, passes=[2.3, 6.5, 20.7])
QUICK = Standing([0.255, 0.338, 0.418], passes=[4.6, 13.9, 42.3])
"""The start and a network with 0.4 of its multiply-adds, 10 minutes, 750 validation images: they come to 80 and 75 %."""


def test_a_score_after_fewer_passes_lies_between_two_rungs() -> None:
    assert QUICK.at(42.3) == QUICK.at(100.0) == 0.418
    assert QUICK.at(13.9) == pytest.approx(0.338)
    assert QUICK.at(math.sqrt(13.9 * 42.3)) == pytest.approx((0.338 + 0.418) / 2)
    assert QUICK.at(1.0) == 0.255
    assert QUICK.at(math.nan) == Standing([0.1, 0.3]).at(5.0) + 0.118 == 0.418  # unknown passes: the last score
    reached = Standing()
    reached.reach(0.2, 3.0)
    reached.reach(0.4, 9.0)
    assert reached.at(math.sqrt(27)) == pytest.approx(0.3)


def test_the_start_is_beaten_only_by_what_is_ahead_after_equally_many_passes_too() -> None:
    assert QUICK.at(20.7) == pytest.approx(0.3666, abs=1e-3)  # ahead after equal time, behind after equally many passes
    assert LONG.leader({0: START, 1: QUICK}) == 0
    assert LONG.leader({0: replace(START, failed=True), 1: QUICK}) == 1
    assert LONG.leader({0: START, 1: replace(QUICK, scores=[0.255, 0.54, 0.70])}) == 1
    assert LONG.leader({0: START, 1: replace(QUICK, scores=[0.255, 0.36, 0.99])}) == 1  # between 0.36 and 0.99 after 21 passes
    larger = Standing([0.1, 0.3, 0.54], passes=[1.0, 3.0, 9.0])  # fewer passes and far ahead already
    assert LONG.leader({0: START, 1: larger}) == 1
    assert LONG.leader({0: START, 1: replace(larger, scores=[0.1, 0.3, 0.53])}) == 0


def test_the_start_is_beaten_only_by_what_more_training_does_not_make_good() -> None:
    even = Standing([0.2, 0.3, 0.0], passes=[2.3, 6.5, 20.7])
    for own, other, winner in ((0.386, 0.53, 0), (0.386, 0.54, 1), (0.028, 0.041, 0), (0.028, 0.055, 0), (0.028, 0.057, 1), (0.9, 1.0, 0), (0.0, 0.0, 0)):
        assert LONG.leader({0: replace(START, scores=[0.01, 0.02, own]), 1: replace(even, scores=[0.01, 0.02, other])}) == winner
    third = replace(even, scores=[0.2, 0.3, 0.6])
    assert LONG.leader({0: START, 1: replace(even, scores=[0.2, 0.3, 0.55]), 2: third}) == 2
    none = {1: replace(even, scores=[0.2, 0.3, 0.30]), 2: replace(even, scores=[0.2, 0.3, 0.301])}
    assert LONG.leader(none) == 2  # nobody to defend
    earlier = replace(even, scores=[0.2, 0.3, 0.4], favoured=True)
    assert LONG.leader({0: START, 1: earlier}) == 1  # the better of two


def test_without_a_favoured_network_all_are_compared_after_the_fewest_passes() -> None:
    assert LONG.leader({0: replace(START, favoured=False), 1: QUICK}) == 0
    assert LONG.leader({0: replace(START, favoured=False), 1: replace(QUICK, scores=[0.255, 0.40, 0.41])}) == 1
    assert LONG.leader({0: replace(START, favoured=False, passes=[]), 1: replace(QUICK, passes=[])}) == 1  # passes unknown


def test_nobody_is_defended_below_the_highest_rung_on_fronts_or_among_those_that_know_something() -> None:
    both = {0: START, 1: QUICK}
    lower = {n: replace(standing, scores=standing.scores[:2], passes=standing.passes[:2]) for n, standing in both.items()}
    assert LONG.leader(lower) == 1
    assert LONG.leader({n: replace(standing, costs=(1.0,)) for n, standing in both.items()}) == 1
    assert LONG.leader({0: replace(START, known=True, favoured=False), 1: replace(QUICK, known=True)}) == 1


def test_the_other_kind_is_compared_with_the_one_that_is_kept() -> None:
    plain = Standing([0.35, 0.36, 0.40], known=True)
    assert LONG.leader({0: START, 1: QUICK, 2: plain}) == 2  # the start stands for those from scratch
    assert LONG.leader({0: START, 1: QUICK, 2: replace(plain, scores=[0.35, 0.36, 0.38])}) == 0


def test_a_favoured_network_that_fails_goes_nowhere() -> None:
    assert Rungs(first=1.0, level=6.0).next_move({0: Standing([0.1], failed=True, favoured=True)}, [1, 0, 0], newcomers=False) is None


def test_a_level_that_is_used_up_takes_nobody() -> None:
    rungs = Rungs(first=1.0, level=3.0)
    there = {i: Standing([0.1 * i]) for i in range(3)}
    assert rungs.next_move(there, [3, 3, 9]) is None  # newcomers too would go beyond theirs


def test_failed_and_unscored_networks_neither_go_on_nor_win() -> None:
    rungs = Rungs(first=1.0, level=2.0)
    there = {0: Standing([], failed=True), 1: Standing([math.nan]), 2: Standing([0.3])}
    assert rungs.next_move(there, [3, 0, 0], newcomers=False) == Promote(2)
    assert rungs.leader({0: Standing([], failed=True)}) is None


def test_the_highest_rung_decides_before_the_score() -> None:
    rungs = Rungs(first=1.0, level=2.0)
    assert rungs.leader({0: Standing([0.9]), 1: Standing([0.5, 0.6])}) == 1


@pytest.mark.parametrize("settings", [{"first": 0.0, "level": 1.0}, {"first": 1.0, "level": -1.0}, {"first": 1.0, "level": 1.0, "factor": 1}])
def test_impossible_rules_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SettingError):
        Rungs(**settings)  # type: ignore[arg-type]


def simulate(curves: np.ndarray, rungs: Rungs) -> tuple[int, list[float]]:
    """Runs a race over accuracies (candidate, rung) and returns who won and what each level cost."""
    standings: dict[int, Standing] = {}
    spent = [0.0] * rungs.levels
    while (move := rungs.next_move(standings, spent, newcomers=len(standings) < len(curves))) is not None:
        number = len(standings) if isinstance(move, Enter) else move.number
        standing = standings.setdefault(number, Standing())
        spent[standing.rung] += rungs.extra(standing.rung)
        standing.scores.append(float(curves[number, standing.rung]))
    winner = rungs.leader(standings)
    assert winner is not None
    return winner, spent


def test_simulated_races_find_one_of_the_best_and_keep_to_their_levels() -> None:
    """Curves whose early points tell little of the late ones: noise of half the spread at the first rung."""
    ranks = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        quality = rng.normal(size=20)
        noise = rng.normal(size=(20, 3)) * np.array([0.5, 0.25, 0.1])
        rungs = Rungs(first=1.0, level=20.0)
        winner, spent = simulate(quality[:, None] + noise, rungs)
        assert all(cost <= rungs.limit(i) + rungs.extra(i) / 2 for i, cost in enumerate(spent))
        ranks.append(int((quality > quality[winner]).sum()))
    assert np.mean(ranks) < 1.0  # 9.5 by chance


def test_the_first_score_of_a_network_that_knew_something_is_at_least_what_it_was_opened_with() -> None:
    knew, new = Standing(known=True, opened=0.47), Standing(opened=0.47)
    for score in (0.3, 0.45, 0.6):
        knew.reach(score)
        new.reach(score)
    assert knew.scores == [0.47, 0.47, 0.6]
    assert new.scores == [0.3, 0.45, 0.6]
    diverged = Standing(known=True, opened=0.47)
    diverged.reach(math.nan)
    assert math.isnan(diverged.scores[0])


def test_only_the_score_of_a_network_that_knew_something_never_falls() -> None:
    knew, new = Standing(known=True), Standing()
    for score in (0.51, 0.45, 0.6):
        knew.reach(score)
        new.reach(score)
    assert knew.scores == [0.51, 0.51, 0.6]
    assert new.scores == [0.51, 0.45, 0.6]
    knew.reach(math.nan)
    assert math.isnan(knew.scores[-1])
