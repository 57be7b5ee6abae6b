"""At which resolution fine-tuning begins: the largest of which frozen features say more and at which enough images are shown, priced by what is kept."""

from dataclasses import replace
from typing import Any

import pytest

from archduel.core import Scale
from archduel.pretrained.known import LEAST_LESSONS, SHORTER, Known, _longest
from archduel.pretrained.prefixes import Seen, full, prefix, prefix_of
from archduel.pretrained.resolution import (
    ALONE_SHARE,
    ENOUGH_IMAGES,
    FEWEST_IMAGES,
    FINAL_SHARE,
    FINE_TUNING,
    FOR_EACH,
    MORE,
    MOST_IMAGES,
    MOST_VALIDATION,
    OF_FEW,
    enough_images,
    forecast,
    images_in,
    looks,
)
from archduel.spaces.pretrained.backbones import backbone
from archduel.spaces.pretrained.space import Pretrained, arch_of, count, plan_of

NAME = "efficientnet_lite0"
COST = {64: 0.001, 96: 0.00225, 128: 0.004}  # seconds of a pass through all blocks
SIDES = [64, 96, 128]


def known(side: int = 32) -> Known:
    return Known(Pretrained(backbones=[NAME]), Scale(1, 1, side, 3, 10), (0.5,) * 3, (0.2,) * 3, lambda arch, scale, counts: True)


def seen(blocks: int, best: int = 128) -> list[Seen]:
    """Returns probes of cuts up to ``blocks`` at three resolutions, in no order; those near ``best`` say most."""
    return [Seen(NAME, side, cut, 0.5, -1.0 - abs(side - best) / 100, COST[side], 50) for side in (128, 64, 96) for cut in (blocks, 5)]


def share(blocks: int, side: int) -> float:
    """Returns the part of a backbone's multiply-adds that its beginning makes."""
    cut = prefix(NAME, side, blocks)
    assert cut is not None
    parts = (count(arch_of(plan), Scale(1, 1, 32, 3, 10)).macs for plan in (cut, full(backbone(NAME), side, 1.0)))
    return next(parts) / next(parts)


def seconds_for(side: int, blocks: int) -> float:
    """Returns the time of a race whose last training shows enough images at a resolution."""
    return ENOUGH_IMAGES * FINE_TUNING * COST[side] * share(blocks, side) / FINAL_SHARE


@pytest.mark.parametrize("blocks", [7, 12])
@pytest.mark.parametrize(("lower", "side"), [(64, 96), (96, 128)])
def test_a_larger_resolution_that_says_more_and_is_shown_enough_images(blocks: int, lower: int, side: int) -> None:
    assert 0.3 < share(blocks, side) < 1
    assert known()._centre(_longest(seen(blocks)), 1.001 * seconds_for(side, blocks), meet=True)[0] == side
    assert known()._centre(_longest(seen(blocks)), 0.999 * seconds_for(side, blocks), meet=True)[0] == lower


def test_resolutions_are_compared_by_all_images_that_judge() -> None:
    plenty = 1e9
    noisy = [replace(each, evidence=-1.0 - abs(each.resolution - 64) / 100) for each in seen(12, best=128)]
    assert known()._centre(_longest(seen(12, best=128)), plenty, meet=True)[0] == 128
    assert known()._centre(_longest(noisy), plenty, meet=True)[0] == 64


def test_more_pixels_that_say_less_are_not_begun_with() -> None:
    """The first 7 blocks of EfficientNet-Lite0: a probe of 64 % at 64 px, 58 % at 96 px, 47 % at 128 px."""
    assert known()._centre(_longest(seen(7, best=64)), 1e9, meet=True)[0] == 64
    assert known()._centre(_longest(seen(7, best=96)), 1e9, meet=True)[0] == 96


@pytest.mark.parametrize(("more", "first"), [(1.1 * MORE, 128), (0.9 * MORE, 96), (-1.0, 96)])
def test_a_little_more_is_not_enough(more: float, first: int) -> None:
    """All blocks: 128 px say 0.07 nats more than 96 px, and came in 130 s to 91.6 % in place of 90.4 %."""
    scores, plenty = {64: -1.0, 96: -0.7, 128: -0.7 + more}, dict.fromkeys(SIDES, 1e6)
    assert forecast(scores, plenty) == (first, 128)


def test_a_resolution_is_compared_with_the_best_of_all_smaller_ones() -> None:
    images = dict.fromkeys(SIDES, 1e6)
    assert forecast({64: -0.7, 96: -1.0, 128: -0.9}, images)[0] == 64
    assert forecast({64: -1.0, 96: -0.99, 128: -0.93}, images)[0] == 128


def test_the_largest_that_is_shown_enough_images_is_where_others_may_enter() -> None:
    found = known()
    needed = seconds_for(128, 7)
    for given, largest in ((0.999 * needed, 96), (1.001 * needed, 128)):
        assert found._centre(_longest(seen(7, best=96)), given, meet=True) == (96, largest)
        found.seen = seen(7, best=96)
        assert {plan_of(proposal.arch).resolution for proposal in found._proposals(given)} == {96, largest}
        assert {plan_of(proposal.arch).resolution for proposal in found._proposals(given, meet=False)} == {96}


def test_a_race_too_short_to_compare_resolutions_trains_one_network_for_more_of_the_time() -> None:
    """Of a minute with 1,000 images at 128 px the last training showed 5,000 where the share of a longer race said fewer than were enough."""
    needed = ALONE_SHARE / FINAL_SHARE
    assert needed > 1
    for time, short, longer in ((1.001, 128, 128), (1.001 / needed, 128, 96), (0.999 / needed, 96, 96)):
        seconds = time * seconds_for(128, 12)
        assert known()._centre(_longest(seen(12)), seconds, meet=False)[0] == short
        assert known()._centre(_longest(seen(12)), seconds, meet=True)[0] == longer
    cost = 1.001 * ENOUGH_IMAGES * FINE_TUNING * COST[96] / ALONE_SHARE
    assert looks(SIDES, COST[64], cost, 1e6, 10_000, 3_000, meet=False).sides == (64, 96)
    assert looks(SIDES, COST[64], cost, 1e6, 10_000, 3_000, meet=True).sides == (64,)


def test_images_smaller_than_the_forecast_says_are_not_asked() -> None:
    """They learn faster to begin with, and won a race in which 64 px came to 85.5 % where 96 px come to more."""
    found = known()
    found.seen = seen(12)
    whole = {side: next(arch_of(prefix_of(each)) for each in found.seen if each.resolution == side) for side in (96, 128)}
    assert all(found.sized(arch) is not None for arch in whole.values())
    assert {plan_of(proposal.arch).resolution for proposal in found._proposals(1.001 * seconds_for(128, 12))} == {128}
    assert found.sized(whole[96]) is None
    assert found.sized(whole[128]) is not None


def test_nothing_is_thinned_where_all_of_the_backbone_is_within_the_limits() -> None:
    found = known()
    found.seen = [*seen(12), *seen(16), *seen(17)]
    plans = [plan_of(proposal.arch) for proposal in found._proposals(1.001 * seconds_for(128, 17), meet=False)]
    assert [(plan.head, set(plan.widths)) for plan in plans] == [("neck", {1.0})]


def test_without_a_clock_all_resolutions_may_be_asked() -> None:
    found = known()
    found.seen = seen(12)
    assert {plan_of(proposal.arch).resolution for proposal in found._proposals(None)} == {64, 96}
    assert all(found.sized(arch_of(prefix_of(each))) is not None for each in found.seen if each.blocks == 12)


def test_fewer_blocks_than_the_limits_allow_stay_out_unless_they_say_clearly_more() -> None:
    enough = 1.001 * seconds_for(128, 12)
    for more, enters in ((-0.5, False), (0.9 * SHORTER, False), (1.1 * SHORTER, True)):
        found = known()
        found.seen = [each if each.blocks == 12 else replace(each, score=each.score + more) for each in seen(12)]
        asked = {proposal.arch for proposal in found._proposals(enough)}
        for arch in (arch_of(prefix_of(each)) for each in found.seen if each.blocks == 5 and each.resolution == 128):
            assert (found.sized(arch) is not None) == (arch in asked) == enters
        longest = next(arch_of(prefix_of(each)) for each in found.seen if each.blocks == 12 and each.resolution == 128)
        assert found.sized(longest) is not None
        plan = plan_of(longest)
        for other in (replace(plan, widths=(1.0, *(0.75,) * (len(plan.widths) - 1))), replace(plan, depths=(*plan.depths[:2], plan.depths[2] - 1, *plan.depths[3:]))):
            assert found.sized(arch_of(other)) is not None  # whose insides are changed is another question


def test_where_a_front_is_wanted_all_sizes_enter() -> None:
    found = replace(known(), smaller=True)
    found.seen = seen(12, best=96)
    assert {plan_of(proposal.arch).resolution for proposal in found._proposals(1.001 * seconds_for(128, 12), meet=False)} == {96, 128}
    found.seen = seen(12)
    found._proposals(1.001 * seconds_for(128, 12))
    assert all(found.sized(arch_of(prefix_of(each))) is not None for each in found.seen)


def two(more: float, **changes: Any) -> Known:
    """Returns what knows probes of two backbones, of which the second says so much more."""
    other = "efficientnet_lite2"
    found = replace(known(), space=Pretrained(backbones=[NAME, other]), **changes)
    found.seen = [*seen(12), *(replace(each, backbone=other, score=each.score + more) for each in seen(12))]
    return found


def entering(found: Known, seconds: float | None, *, meet: bool) -> list[str]:
    """Returns the backbones of those who enter first, in their order."""
    return list(dict.fromkeys(plan_of(proposal.arch).backbone for proposal in found._proposals(seconds, meet=meet)))


def test_the_backbone_that_says_most_enters_alone() -> None:
    enough = 1.001 * seconds_for(128, 12)
    for more, first in ((0.5 * MORE, "efficientnet_lite2"), (-0.5 * MORE, NAME), (2 * MORE, "efficientnet_lite2"), (-2 * MORE, NAME)):
        found = two(more)
        assert entering(found, enough, meet=False) == [first]
        for each in found.seen:
            if each.resolution == 128 and each.blocks == 12:
                assert (found.sized(arch_of(prefix_of(each))) is not None) == (each.backbone == first)


def test_those_that_say_about_as_much_are_compared_where_there_is_time() -> None:
    enough = 1.001 * seconds_for(128, 12)
    assert entering(two(0.5 * MORE), enough, meet=True) == ["efficientnet_lite2", NAME]
    assert entering(two(-0.5 * MORE), enough, meet=True) == [NAME, "efficientnet_lite2"]
    assert entering(two(2 * MORE), enough, meet=True) == ["efficientnet_lite2"]


def test_all_backbones_enter_without_a_clock_and_for_a_front() -> None:
    assert set(entering(two(2 * MORE), None, meet=True)) == {NAME, "efficientnet_lite2"}
    assert set(entering(two(2 * MORE, smaller=True), 1.001 * seconds_for(128, 12), meet=False)) == {NAME, "efficientnet_lite2"}


def test_a_backbone_is_judged_by_the_resolution_that_the_time_allows_it() -> None:
    found = two(0.0)
    found.seen = [replace(each, seconds=100 * each.seconds) if each.backbone == NAME else each for each in found.seen]  # 64 px is all that it can be shown
    assert entering(found, 1.001 * seconds_for(128, 12), meet=False) == ["efficientnet_lite2"]


def test_few_images_are_repeated_less_and_seen_larger() -> None:
    assert [enough_images(n) for n in (0, 200, 1_000, 4_000, 10**6)] == [OF_FEW, OF_FEW + 200 * FOR_EACH, OF_FEW + 1_000 * FOR_EACH, 5_200, ENOUGH_IMAGES]
    few = enough_images(200) / ENOUGH_IMAGES  # of the time that many need
    time = 1.001 * ENOUGH_IMAGES * FINE_TUNING * COST[128] / FINAL_SHARE
    assert looks(SIDES, COST[64], few * time, 1e6, 200, 50).sides == (64, 96, 128)
    assert looks(SIDES, COST[64], few * time, 1e6, 50_000, 5_000).sides == (64,)
    found = replace(known(), _images=200)
    assert found._centre(_longest(seen(12)), few * 1.001 * seconds_for(128, 12), meet=True)[0] == 128
    assert known()._centre(_longest(seen(12)), few * 1.001 * seconds_for(128, 12), meet=True)[0] == 64


@pytest.mark.parametrize(("n", "passes"), [(200, enough_images(200) / 200), (5_000, LEAST_LESSONS)])
def test_a_teacher_is_shown_enough_images_and_all_of_them_three_times(n: int, passes: float) -> None:
    found = known()
    found.beyond = [Seen(NAME, 64, 17, 0.8, -0.6, COST[64], 50)]
    pupil = arch_of(prefix_of(Seen(NAME, 64, 7, 0.5, -1.5, COST[64], 50)))
    found.seen = [Seen(NAME, 64, 7, 0.5, -1.5, COST[64], 50)]
    for share, taught in ((0.99, False), (1.01, True)):
        assert (found.teacher(pupil, 0.5, share * passes * FINE_TUNING * COST[64] * n, n) is not None) == taught


def test_the_smallest_where_none_is_shown_enough_and_without_a_clock() -> None:
    assert known()._centre(_longest(seen(12)), 1e-3, meet=True)[0] == 64
    assert known()._centre(_longest(seen(12)), None, meet=True)[0] == 64


def test_what_is_kept_costs_no_more_than_all() -> None:
    # the neck's cut, one more than there are blocks, makes at most the whole backbone's multiply-adds as it is priced
    needed = ENOUGH_IMAGES * FINE_TUNING * COST[96] / FINAL_SHARE
    assert known()._centre(_longest(seen(17)), 1.001 * needed, meet=True)[0] == 96


@pytest.mark.parametrize(
    ("own", "sides"),
    [(8, (32, 48, 64)), (28, (64, 96, 128, 160, 192)), (32, (64, 96, 128, 160, 192, 224)), (224, (64, 96, 128, 160, 192, 224)), (2, (32, 48, 64))],
)
def test_resolutions_that_are_tried(own: int, sides: tuple[int, ...]) -> None:
    assert known(own)._ladder() == sides


def test_what_is_looked_at_follows_from_the_time() -> None:
    cost = 0.001
    for sides in (SIDES[:1], SIDES[:2], SIDES):
        time = 1.001 * ENOUGH_IMAGES * FINE_TUNING * cost * (sides[-1] / 64) ** 2 / FINAL_SHARE
        assert images_in(time, cost * (sides[-1] / 64) ** 2) == pytest.approx(1.001 * ENOUGH_IMAGES)
        assert looks(SIDES, cost, time, 1e6, 10_000, 3_000) == (tuple(sides), MOST_IMAGES, MOST_VALIDATION)
    assert looks(SIDES, cost, 1e-3, 1e-3, 10_000, 3_000) == ((64,), FEWEST_IMAGES, FEWEST_IMAGES)
    assert looks(SIDES, cost, 1e6, 1e6, 100, 30) == ((64, 96, 128), 100, 30)


def test_a_short_time_looks_at_fewer_images_and_pays_no_more() -> None:
    price = sum(COST[side] for side in SIDES)
    for images in (2_720, 2_800, 2_900):  # the same images although the speed was measured a little differently, so that their features are found again
        assert looks(SIDES, COST[64], 1e6, images * price, 50_000, 5_000) == ((64, 96, 128), 1_350, 900)
    less = looks(SIDES, COST[64], 1e6, 1.99 * FEWEST_IMAGES * price, 50_000, 5_000)
    assert less.sides == (64, 96)  # rather fewer resolutions than too few images
    few = looks(SIDES, COST[64], 1e6, 1.99 * FEWEST_IMAGES * price, 240, 48)
    assert few == ((64, 96, 128), 240, 48)  # all that there are
    assert (less.rows + less.judged) * (COST[64] + COST[96]) <= 1.001 * 1.99 * FEWEST_IMAGES * price


def test_a_part_is_priced_by_its_own_work() -> None:
    cheap = replace(seen(7)[0], seconds=0.01)
    assert known()._cost(cheap) == pytest.approx(0.01 * share(7, 128))
