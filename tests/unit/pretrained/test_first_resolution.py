"""At which resolution fine-tuning begins: where frozen features say most, of those that leave enough passes, priced by what is kept."""

from dataclasses import replace

import pytest

from archduel.core import Scale
from archduel.pretrained.known import Known
from archduel.pretrained.prefixes import Seen, full, prefix
from archduel.pretrained.resolution import (
    AS_MUCH,
    ENOUGH_PASSES,
    FINAL_SHARE,
    FINE_TUNING,
    MORE,
    PLENTY,
    forecast,
)
from archduel.spaces.pretrained.backbones import backbone
from archduel.spaces.pretrained.space import Pretrained, arch_of, count, plan_of

NAME = "efficientnet_lite0"
COST = {64: 0.001, 96: 0.00225, 128: 0.004}  # seconds of a pass through all blocks


def known() -> Known:
    return Known(Pretrained(backbones=[NAME]), Scale(1, 1, 32, 3, 10), (0.5,) * 3, (0.2,) * 3, lambda arch, scale, counts: True)


def seen(blocks: int, best: int = 128) -> list[Seen]:
    """Returns probes of cuts up to ``blocks`` at three resolutions, in no order; those near ``best`` say most."""
    return [Seen(NAME, side, cut, 0.5, -1.0 - abs(side - best) / 100, COST[side]) for side in (128, 64, 96) for cut in (blocks, 5)]


def share(blocks: int, side: int) -> float:
    """Returns the part of a backbone's multiply-adds that its beginning makes."""
    cut = prefix(NAME, side, blocks)
    assert cut is not None
    parts = (count(arch_of(plan), Scale(1, 1, 32, 3, 10)).macs for plan in (cut, full(backbone(NAME), side, 1.0)))
    return next(parts) / next(parts)


@pytest.mark.parametrize("blocks", [7, 12])
@pytest.mark.parametrize(("lower", "side"), [(64, 96), (96, 128)])
def test_a_larger_resolution_that_says_more_and_leaves_enough_passes(blocks: int, lower: int, side: int) -> None:
    assert 0.3 < share(blocks, side) < 1
    needed = ENOUGH_PASSES * FINE_TUNING * COST[side] * share(blocks, side) * 1_000 / FINAL_SHARE
    sides = [64, 96, 128]
    assert known()._centre(seen(blocks), sides, 1_000, 1.001 * needed)[0] == side
    assert known()._centre(seen(blocks), sides, 1_000, 0.999 * needed)[0] == lower


def test_more_pixels_that_say_less_are_not_begun_with() -> None:
    """The first 7 blocks of EfficientNet-Lite0: a probe of 64 % at 64 px, 58 % at 96 px, 47 % at 128 px."""
    assert known()._centre(seen(7, best=64), [64, 96, 128], 1_000, 1e6)[0] == 64
    assert known()._centre(seen(7, best=96), [64, 96, 128], 1_000, 1e6)[0] == 96


def test_of_two_that_say_as_much_the_smaller_which_makes_more_passes() -> None:
    near = [replace(each, score=-1.0 - (0.9 * AS_MUCH if each.resolution == 64 else 0.0)) for each in seen(7)]
    far = [replace(each, score=-1.0 - (1.1 * AS_MUCH if each.resolution == 64 else 0.0)) for each in seen(7)]
    enough = 1.001 * ENOUGH_PASSES * FINE_TUNING * COST[128] * share(7, 128) * 1_000 / FINAL_SHARE
    assert known()._centre(near, [64, 96, 128], 1_000, enough)[0] == 64
    assert known()._centre(far, [64, 96, 128], 1_000, enough)[0] == 96


@pytest.mark.parametrize(("more", "passes", "side"), [(1.1 * MORE, PLENTY, 128), (0.9 * MORE, PLENTY, 96), (1.1 * MORE, PLENTY - 0.1, 96)])
def test_plenty_of_passes_at_more_pixels_that_say_a_little_more(more: float, passes: float, side: int) -> None:
    """All blocks: 128 px say 0.07 nats more than 96 px, and came in 300 s to 92.3 % in place of 91.2 %."""
    found = forecast({64: -1.0, 96: -0.7, 128: -0.7 + more}, {64: 4 * passes, 96: PLENTY - 0.01, 128: passes})
    assert found == (side, 128, side == 128)


def test_with_plenty_of_passes_no_smaller_images_are_asked() -> None:
    found = known()
    found.seen = seen(12)
    time = 1.001 * FINE_TUNING * COST[128] * share(12, 128) * 1_000 / FINAL_SHARE
    for passes, sides in ((PLENTY, {128}), (ENOUGH_PASSES, {96, 128})):
        assert {plan_of(proposal.arch).resolution for proposal in found._proposals(1_000, passes * time)} == sides


def test_neighbours_in_resolution_enter_only_where_they_leave_enough_passes() -> None:
    found = known()
    needed = ENOUGH_PASSES * FINE_TUNING * COST[128] * share(7, 128) * 1_000 / FINAL_SHARE
    assert found._centre(seen(7, best=96), [64, 96, 128], 1_000, 0.999 * needed) == (96, 96, False)
    assert found._centre(seen(7, best=96), [64, 96, 128], 1_000, 1.001 * needed)[:2] == (96, 128)
    for given, sides in ((0.999 * needed, {64, 96}), (1.001 * needed, {64, 96, 128})):
        found.seen = seen(7, best=96)
        assert {plan_of(proposal.arch).resolution for proposal in found._proposals(1_000, given)} == sides


def test_the_smallest_where_none_leaves_enough_and_without_a_clock() -> None:
    assert known()._centre(seen(12), [64, 96, 128], 1_000_000, 1.0)[0] == 64
    assert known()._centre(seen(12), [64, 96, 128], 1_000, None)[0] == 64


def test_what_is_kept_costs_no_more_than_all() -> None:
    # the neck's cut, one more than there are blocks, makes at most the whole backbone's multiply-adds as it is priced
    needed = ENOUGH_PASSES * FINE_TUNING * COST[96] * 1_000 / FINAL_SHARE
    assert known()._centre(seen(17), [64, 96, 128], 1_000, 1.001 * needed)[0] == 96
