"""The numbers of a race, by hand: shares of its time, readings of clocks, sizes, intervals, and what is passed over."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from archduel.core import Arch, Counts, Scale
from archduel.errors import BudgetError, SettingError
from archduel.race import sets as sets_module
from archduel.race.candidates import Candidate, accuracy_interval, score_interval
from archduel.race.clock import Pace, Processor, Stopwatch, Wall
from archduel.race.newcomers import Entry
from archduel.race.plan import (
    ENOUGH_OF,
    ENOUGH_PASSES,
    Ending,
    enough_passes,
    epochs_plan,
    timed_plan,
)
from archduel.race.rungs import Enter, Promote, Rungs, Standing
from archduel.race.sets import sets_of
from archduel.race.sizes import CHANNELS, Bounds, Sizes, depths, fitting_scale, standard_ladder, widths
from archduel.spaces.nasbench201.space import NASBench201
from archduel.spaces.natsbench_sss.space import NATSBenchSSS
from archduel.spaces.resnet.space import ResNet
from archduel.training.metrics import Evaluation

ARCH = Arch("nasbench201", (0, 1))

# -- The plan -----------------------------------------------------------------------------------------------------------


def test_a_race_of_three_minutes_in_numbers() -> None:
    plan = timed_plan(185.0, gone=3.0, reserve=2.0)  # 180 usable
    assert plan.race_until == pytest.approx(3.0 + 0.38 * 180)
    assert plan.last == pytest.approx(0.62 * 180)
    assert plan.end == 183.0
    assert plan.rungs.first == pytest.approx(0.62 * 180 / 40)
    assert plan.rungs.level == pytest.approx(0.38 * 180 / 4)


@pytest.mark.parametrize(("seconds", "finer"), [(45.0, 1.0), (270.0, math.sqrt(1.5)), (720.0, 2.0)])
def test_a_longer_race_than_three_minutes_has_finer_rungs_a_shorter_one_not_coarser(seconds: float, finer: float) -> None:
    plan = timed_plan(seconds, gone=0.0, reserve=0.0)
    assert plan.rungs.first == pytest.approx(plan.last / (40 * finer))


def test_five_seconds_of_training_are_enough() -> None:
    assert timed_plan(12.0, gone=4.0, reserve=3.0).last == pytest.approx(0.9 * 5)
    with pytest.raises(BudgetError, match=r"--time 11.9s is too short: .* take about 7 s here.* give at least --time 12s") as caught:
        timed_plan(11.9, gone=4.0, reserve=3.0)
    assert caught.value.needed == 12.0


def test_a_repeatable_race_in_numbers() -> None:
    plan = epochs_plan(6, first=2.0, last=40.0)
    assert (plan.race_until, plan.end, plan.last) == (math.inf, 40.0, 22.0)
    assert (plan.rungs.first, plan.rungs.level) == (2.0, 11.0)
    assert epochs_plan(1, first=2.0, last=40.0).rungs.level == 1.0
    assert epochs_plan(0, first=2.0, last=40.0).rungs.level == 1.0
    assert epochs_plan(6, first=2.0, last=18.1).last == pytest.approx(0.1)


def test_fewer_images_are_repeated_more_often() -> None:
    assert enough_passes(ENOUGH_OF) == ENOUGH_PASSES
    assert enough_passes(4 * ENOUGH_OF) == pytest.approx(ENOUGH_PASSES / 2)
    assert enough_passes(ENOUGH_OF // 4) == pytest.approx(2 * ENOUGH_PASSES)
    assert math.isfinite(enough_passes(0))


def test_the_last_training_stops_where_the_next_step_would_end_after_its_time() -> None:
    ending = Ending(end=10.0, trained=0.0, began=0.0)
    assert ending.rate(9.0, 2.0) == pytest.approx(0.25)  # half of the step is within the time
    assert ending.rate(9.0, 2.01) is None
    assert ending.rate(10.0, 0.0) == 0.0
    assert ending.rate(11.0, 0.0) is None
    short = Ending(end=0.5, trained=0.0, began=0.0)
    assert short.rate(0.4, 0.0) == pytest.approx(0.5)  # falls in the last fifth of a second
    late = Ending(end=10.0, trained=5.0, began=10.0)
    assert late.fall == 0.0
    assert late.rate(10.0, 0.0) == 1.0


# -- Who trains next ----------------------------------------------------------------------------------------------------


def test_the_least_rules_of_a_race() -> None:
    only = Rungs(first=1.0, level=2.0, levels=1, factor=2)
    assert only.limit(0) == 2.0  # the highest level is the lowest: it has no second half
    assert only.amount(1) == 2.0
    assert Rungs(first=1.0, level=2.0, levels=2).limit(1) == 4.0
    assert [Rungs(first=1.0, level=2.0).limit(rung) for rung in range(3)] == [2.0, 2.0, 4.0]
    with pytest.raises(SettingError, match="levels must be at least 1 and factor 2, got 0 and 3"):
        Rungs(first=1.0, level=1.0, levels=0)
    with pytest.raises(SettingError, match="level must be above 0, got 0"):
        Rungs(first=1.0, level=0.0)


def test_a_training_is_begun_when_half_of_it_is_affordable() -> None:
    rungs = Rungs(first=2.0, level=3.0)
    assert rungs.next_move({}, [2.0]) == Enter()  # 2 + 1 <= 3
    assert rungs.next_move({}, [2.1]) is None
    assert rungs.next_move({}, []) == Enter()
    there = {n: Standing([0.1 * n]) for n in range(3)}
    assert rungs.next_move(there, [9.0, 0.0], newcomers=False) == Promote(2)  # the first training of a level always is
    assert rungs.next_move(there, [9.0, 1.0], newcomers=False) == Promote(2)  # 1 + 4 / 2 <= 3
    assert rungs.next_move(there, [9.0, 1.1], newcomers=False) is None
    narrow = Rungs(first=2.0, level=2.5)
    assert narrow.next_move(there, [9.0], newcomers=False) == Promote(2)  # nothing was spent there
    assert narrow.next_move(there, [9.0, 1.0], newcomers=False) is None  # 1 + 2 > 2.5
    assert Rungs(first=2.0, level=1.5).next_move(there, [9.0, 0.0], newcomers=False) == Promote(2)


def test_the_standing_of_a_candidate_and_ties() -> None:
    assert [Standing(scores).rung for scores in ([], [0.1], [0.1, 0.2])] == [0, 1, 2]
    rungs = Rungs(first=1.0, level=9.0)
    level = {3: Standing([0.5]), 1: Standing([0.5]), 2: Standing([0.5])}
    assert rungs.next_move(level, [3, 0, 0]) == Promote(1)  # of equals the one that came first
    assert rungs.leader(level) == 1
    assert rungs.leader({0: Standing([0.5]), 1: Standing([0.6], failed=True), 2: Standing([math.nan])}) == 0


# -- Clocks -------------------------------------------------------------------------------------------------------------


class Turned:
    """Clocks turned by hand."""

    def __init__(self) -> None:
        self.time, self.computed = 50.0, 5.0

    def now(self) -> float:
        return self.time

    def processor(self) -> float:
        return self.computed

    def pass_(self, seconds: float, share: float = 1.0) -> None:
        self.time, self.computed = self.time + seconds, self.computed + share * seconds


def test_real_clocks_are_those_of_the_system() -> None:
    assert Wall().now() == pytest.approx(time.monotonic(), abs=1.0)
    assert Wall().processor() == pytest.approx(time.process_time(), abs=1.0)
    assert Processor().now() == pytest.approx(time.process_time(), abs=1.0)
    assert Processor().processor() == pytest.approx(time.process_time(), abs=1.0)


def test_a_pace_in_numbers() -> None:
    clock = Turned()
    watch = Stopwatch(clock)
    clock.pass_(0.5, 0.5)
    assert watch.share == pytest.approx(0.5)
    watch = Stopwatch(clock)
    assert watch.seconds == 0.0
    pace = Pace(watch, every=2.0)
    assert (pace.share, pace.lasting, pace.known) == (1.0, 1.0, False)
    clock.pass_(1.9, 0.5)
    pace.read(1)
    assert not pace.known
    clock.pass_(0.1, 0.5)
    pace.read(1)  # the first reading stands alone
    assert (pace.share, pace.lasting, pace.known, pace.calm) == (pytest.approx(0.5), pytest.approx(0.5), True, False)
    clock.pass_(1.0, 0.5)
    pace.read(1)  # too soon: nothing is read, and nothing is forgotten
    clock.pass_(1.0, 1.5)
    pace.read(1)
    assert pace.share == pytest.approx(0.75)
    assert pace.lasting == pytest.approx(0.5 + 2.0 / 10 * 0.5)
    clock.pass_(20.0, 3.0)
    pace.read(2)  # two threads computed three: more than all of it is all
    assert pace.share == pytest.approx(0.875)
    assert pace.lasting == pytest.approx(1.0)  # ten seconds and more: nothing older counts
    assert pace.calm


def test_calm_is_more_than_85_hundredths() -> None:
    clock = Turned()
    pace = Pace(Stopwatch(clock))
    clock.pass_(4.0, 0.75)
    pace.read(1)
    assert not pace.calm
    pace.share = 0.85
    assert not pace.calm
    pace.share = 0.851
    assert pace.calm
    pace.known = False
    assert not pace.calm


# -- Sizes --------------------------------------------------------------------------------------------------------------


def squares(arch: Arch, scale: Scale) -> Counts:
    """Returns costs that rise with the square of the width and with the depth."""
    return Counts(scale.channels * scale.depth, scale.channels**2 * scale.depth)


def of(bounds: Bounds = Bounds(), **changes: Any) -> Sizes:  # noqa: B008 - frozen
    """Returns sizes within bounds."""
    return Sizes(8, 1, 3, squares, bounds.and_also(None), **changes)


def test_limits_are_reached_and_not_passed() -> None:
    assert Bounds(10, 20).allow(Counts(10, 20))
    assert not Bounds(10, 20).allow(Counts(11, 20))
    assert not Bounds(10, 20).allow(Counts(10, 21))
    assert Bounds(max_macs=20).allow(Counts(10**9, 20))
    assert Bounds(max_params=10).allow(Counts(10, 10**9))


def test_a_further_limit_is_asked_only_within_the_first_ones() -> None:
    asked: list[int] = []

    def further(arch: Arch, scale: Scale) -> bool:
        asked.append(scale.channels)
        return scale.channels == 4

    allowed = Bounds(max_params=10).and_also(further)
    assert allowed(ARCH, Scale(4), Counts(10, 1))
    assert not allowed(ARCH, Scale(6), Counts(10, 1))
    assert not allowed(ARCH, Scale(4), Counts(11, 1))
    assert asked == [4, 6]
    assert Bounds().and_also(None)(ARCH, Scale(4), Counts(11, 1))


def test_a_scale_has_the_inputs_and_outputs_of_all() -> None:
    assert of().scale(12, 2) == Scale(12, 2, 8, 1, 3)


@pytest.mark.parametrize(("macs", "channels"), [(64, 8), (90, 8), (95, 8), (97, 12), (144, 12), (16_384, 128), (1e9, 128), (1, 4)])
def test_the_nearest_width_in_ratios(macs: float, channels: int) -> None:
    found = fitting_scale(ARCH, macs, of(depths=(1,)), np.random.default_rng(0))
    assert found == (Scale(channels, 1, 8, 1, 3), squares(ARCH, Scale(channels, 1)))


def test_among_depths_that_come_equally_near_one_is_drawn_and_no_other() -> None:
    # 64: depth 1 of width 8 is exact, depth 2 of 6 is 72 (1.13 times), depth 3 of 4 is 48 (0.75), all within 1.6 times
    drawn = {fitting_scale(ARCH, 64, of(), np.random.default_rng(seed))[0].depth for seed in range(40)}  # type: ignore[index]
    assert drawn == {1, 2, 3}
    # 16: depth 1 of width 4 is exact; the others' least networks are 2 and 3 times as large
    assert {fitting_scale(ARCH, 16, of(), np.random.default_rng(seed))[0].depth for seed in range(40)} == {1}  # type: ignore[index]
    # 25: depth 1 of width 4 is 1.5625 times away (and so within 1.6 of the best), depth 2 of width 4 1.28
    assert {fitting_scale(ARCH, 25, of(depths=(1, 2), channels=(4,)), np.random.default_rng(seed))[0].depth for seed in range(40)} == {1, 2}  # type: ignore[index]


def test_among_sides_that_come_equally_near_the_largest_is_taken() -> None:
    # width 8 at 8 px is 64, width 16 at 4 px would be too: what is seen in fewer pixels is less
    def costs(arch: Arch, scale: Scale) -> Counts:
        return Counts(1, scale.channels**2 * scale.image_size**2 // 64)

    sizes = Sizes(8, 1, 3, costs, Bounds().and_also(None), depths=(1,), smaller=(4,))
    assert {fitting_scale(ARCH, 64, sizes, np.random.default_rng(seed))[0].image_size for seed in range(20)} == {8}  # type: ignore[index]
    # at 8 px the limit leaves width 4, at 4 px width 16: nearer by more than 1.6 times
    bounded = replace(sizes, allowed=lambda arch, scale, counts: scale.channels * scale.image_size**2 <= 256)
    assert fitting_scale(ARCH, 64, bounded, np.random.default_rng(0))[0] == Scale(16, 1, 4, 1, 3)  # type: ignore[index]


def test_a_network_sixteen_tenths_as_far_is_as_near() -> None:
    sizes = Sizes(8, 1, 3, lambda arch, scale: Counts(1, {1: 100, 2: 160, 3: 161}[scale.depth]), Bounds().and_also(None), channels=(4,))
    assert {fitting_scale(ARCH, 100, sizes, np.random.default_rng(seed))[0].depth for seed in range(40)} == {1, 2}  # type: ignore[index]


def test_a_network_without_multiply_adds_counts_as_one() -> None:
    sizes = Sizes(8, 1, 3, lambda arch, scale: Counts(1, 0 if scale.channels == 4 else 8), Bounds().and_also(None), depths=(1,), channels=(4, 6))
    assert fitting_scale(ARCH, 3, sizes, np.random.default_rng(0)) == (Scale(6, 1, 8, 1, 3), Counts(1, 8))  # 8 / 3 is nearer than 3 / 1


def test_widths_far_above_are_not_even_counted() -> None:
    counted: list[int] = []

    def count(arch: Arch, scale: Scale) -> Counts:
        counted.append(scale.channels)
        return squares(arch, scale)

    sizes = Sizes(8, 1, 3, count, Bounds().and_also(None), depths=(1,))
    assert fitting_scale(ARCH, 16, sizes, np.random.default_rng(0)) is not None
    assert counted == [4, 6, 8, 12]  # 64 is four times as much, 144 is more: all that follow are further away
    counted.clear()
    fitting_scale(ARCH, 15, sizes, np.random.default_rng(0))
    assert counted == [4, 6, 8]  # 64 is more than four times 15
    none = Sizes(8, 1, 3, lambda arch, scale: Counts(1, 0), Bounds().and_also(None), depths=(1,))
    assert fitting_scale(ARCH, 16, none, np.random.default_rng(0)) == (Scale(4, 1, 8, 1, 3), Counts(1, 0))  # a network without any


def test_the_widest_within_the_limits_is_found_with_few_questions() -> None:
    asked: list[int] = []

    def allowed(arch: Arch, scale: Scale, counts: Counts) -> bool:
        asked.append(scale.channels)
        return scale.channels <= 8

    found = fitting_scale(ARCH, 1e9, Sizes(8, 1, 3, squares, allowed, depths=(1,)), np.random.default_rng(0))
    assert found == (Scale(8, 1, 8, 1, 3), Counts(8, 64))
    assert asked == [128, 24, 12, 6, 8]  # the nearest, then halves of what is narrower
    nothing = Sizes(8, 1, 3, squares, lambda arch, scale, counts: False)
    assert fitting_scale(ARCH, 16, nothing, np.random.default_rng(0)) is None


def test_a_standard_ladder_in_numbers() -> None:
    named = [Arch("nasbench201", (blocks, width)) for blocks in (3, 1) for width in (1, 2, 4)]

    def count(arch: Arch, scale: Scale) -> Counts:
        assert scale == Scale(16, 1, 8, 1, 3)
        return Counts(arch.choices[1], 100 * arch.choices[0] * arch.choices[1])

    def ladder(macs: float, bounds: Bounds = Bounds()) -> list[tuple[int, ...]]:  # noqa: B008
        found = standard_ladder(named, macs, Sizes(8, 1, 3, count, bounds.and_also(None)), lambda arch: arch.choices[0])
        assert all(counts == count(arch, scale) for arch, scale, counts in found)
        return [arch.choices for arch, _, _ in found]

    assert ladder(200) == [(1, 2), (3, 1)]
    assert ladder(1200) == [(1, 4), (3, 4)]
    assert ladder(1200, Bounds(max_params=2)) == [(1, 2), (3, 2)]
    assert ladder(200, Bounds(max_macs=250)) == [(1, 2)]


def test_depths_and_widths_of_spaces() -> None:
    assert depths(ResNet()) == (1, 2, 3)
    assert depths(NASBench201()) == (1, 2, 3)  # the three least of four
    assert widths(ResNet()) == CHANNELS
    assert all(width % 2 == 0 for width in CHANNELS)
    assert all(1.1 < after / before <= 1.5 for before, after in pairwise(CHANNELS))
    assert depths(NATSBenchSSS()) == tuple(sorted(set(depths(NATSBenchSSS()))))[:3]
    sizes = Sizes(8, 1, 3, lambda arch, scale: Counts(1, 1), lambda arch, scale, counts: True, depths=(7,))
    other, own = sizes.of(NASBench201()), sizes.of(ResNet())
    assert (other.depths, other.channels, other.image_size) == ((1, 2, 3), CHANNELS, 8)
    assert (own.depths, own.channels) == ((1,), (16,))  # which mean nothing: a ResNet says its own


# -- Candidates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "n", "low", "high"), [(0.5, 100, 0.40383, 0.59617), (0.9, 50, 0.78640, 0.95652), (0.0, 20, 0.0, 0.16113), (1.0, 20, 0.83887, 1.0)])
def test_the_interval_of_a_share_by_wilson(share: float, n: int, low: float, high: float) -> None:
    assert accuracy_interval(share, n) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))


def test_another_level_is_another_interval() -> None:
    assert accuracy_interval(0.5, 100, z=1.0) == (pytest.approx(0.45025, abs=1e-5), pytest.approx(0.54975, abs=1e-5))


def said(confusion: list[list[int]]) -> Evaluation:
    """Returns an evaluation with these counts, rows true classes."""
    counts = np.array(confusion)
    labels, guesses = (np.repeat(place.ravel(), counts.ravel()) for place in np.indices(counts.shape))
    return Evaluation(np.eye(len(counts), dtype=np.float32)[guesses], labels, 0.5)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
@pytest.mark.parametrize("confusion", [[[38, 2], [1, 0]], [[40, 0], [0, 1]], [[5, 5, 0], [0, 9, 1], [0, 0, 0]], [[3, 0], [3, 0]]])
def test_an_interval_is_that_of_the_metric_beside_it(confusion: list[list[int]], metric: str) -> None:
    found = said(confusion)
    low, high = score_interval(found, metric)
    assert 0 <= low <= found.score(metric) <= high <= 1
    assert low < high
    assert score_interval(found, metric) == (low, high)  # the same answers, the same interval
    point = Candidate(0, Entry("random", ARCH, Scale(8, 2, 16, 1, 5), Counts(1, 1)), "a").point(found, metric, by_likelihood=False)
    assert (point["accuracy"], point["low"], point["high"]) == (found.score(metric), low, high)


def test_a_class_of_one_image_leaves_a_mean_over_classes_open_and_the_share_of_all_images_not() -> None:
    rare, common = said([[40, 0], [0, 1]]), said([[20, 0], [0, 21]])
    low, _ = score_interval(rare, "balanced_accuracy")
    assert low < 0.7  # the rare class may be right a third of the time
    assert score_interval(common, "balanced_accuracy")[0] > 0.9
    assert score_interval(rare, "accuracy") == score_interval(common, "accuracy") == accuracy_interval(1.0, 41)


def test_an_interval_of_balanced_accuracy_of_equal_classes_is_nearly_that_of_the_share() -> None:
    found = said([[70, 30], [20, 80]])
    assert score_interval(found, "balanced_accuracy") == pytest.approx(accuracy_interval(0.75, 200), abs=0.015)
    assert score_interval(found, "macro_f1") == pytest.approx(accuracy_interval(0.75, 200), abs=0.025)


def test_what_is_known_of_a_candidate() -> None:
    entry = Entry("random", ARCH, Scale(8, 2, 16, 1, 5), Counts(123, 4567))
    one = Candidate(3, entry, "a name")
    assert (one.role, one.params, one.epochs, one.seconds, one.steps, one.reason) == ("random", 123, 0.0, 0.0, 0, "")
    assert math.isnan(one.accuracy)
    one.curve += [{"accuracy": 0.25}, {"accuracy": 0.5}]
    one.seconds, one.passes, one.steps = 1.23456, 2.34567, 9
    assert (one.accuracy, one.epochs) == (0.5, 2.34567)
    assert one.record() == {
        "number": 3, "role": "random", "arch": "nasbench201:0.1", "name": "a name",
        "scale": {"channels": 8, "depth": 2, "image_size": 16, "in_channels": 1, "n_classes": 5}, "params": 123, "macs": 4567, "seconds": 1.235,
        "passes": 2.346, "steps": 9, "curve": [{"accuracy": 0.25}, {"accuracy": 0.5}], "reason": "",
    }  # fmt: skip


# -- The images ---------------------------------------------------------------------------------------------------------


def images(n: int, n_validation: int) -> Any:
    """Returns that many images of 4 px in two classes, one of three in the second; each is filled with its number."""
    values = [np.repeat(np.arange(a, b, dtype=np.uint8), 16).reshape(-1, 1, 4, 4) for a, b in ((0, n), (n, n + n_validation))]
    parts = [SimpleNamespace(images=part, labels=(part[:, 0, 0, 0] % 3 == 0).astype(np.int64)) for part in values]
    return SimpleNamespace(train=parts[0], validation=parts[1], preprocessing=SimpleNamespace(mean=(0.5,), std=(0.25,)))


def test_a_short_race_scores_with_some_of_the_validation_images_at_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets_module, "LEAST_JUDGED", 20)
    data = images(90, 60)
    for seconds, n in ((None, 60), (6.0, 60), (3.0, 30), (1.0, 20)):
        found = sets_of(data, "cpu", seconds)
        assert (len(found.train), len(found.validation), len(found.both)) == (90, n, 150)
        numbers = found.validation.batch(torch.arange(n))[0][:, 0, 0, 0].tolist()
        assert numbers == found.judged.tolist()
        assert min(numbers) >= 90
        assert float((found.validation.labels == 1).float().mean()) == pytest.approx(1 / 3, abs=0.04)  # as many of each class as there were
        larger = found.at(Scale(1, 1, 8, 1, 2))
        assert (larger.validation.image_size, len(larger.train), len(larger.both)) == (8, 90, 150)
        assert larger.validation.batch(torch.arange(n))[0][:, 0, 0, 0].tolist() == numbers
    assert sets_of(data, "cpu", 3.0).judged.tolist() == sets_of(data, "cpu", 3.0).judged.tolist()


def test_two_images_of_each_are_the_least() -> None:
    assert len(sets_of(images(2, 2), "cpu", 60.0).both) == 4


@pytest.mark.parametrize("sizes", [(1, 60), (90, 1)])
def test_there_must_be_something_to_compare_networks_on(sizes: tuple[int, int]) -> None:
    with pytest.raises(SettingError, match=f"got {sizes[0]} and {sizes[1]}"):
        sets_of(images(*sizes), "cpu", 60.0)
