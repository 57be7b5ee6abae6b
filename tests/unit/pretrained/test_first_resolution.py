"""At which resolution fine-tuning begins: where frozen features say most, of those that leave enough passes, priced by what is kept."""

from dataclasses import replace

import pytest

from archduel.core import Scale
from archduel.pretrained.known import AS_MUCH, ENOUGH_PASSES, FINAL_SHARE, FINE_TUNING, Known
from archduel.pretrained.prefixes import Seen, full, prefix
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
    assert known()._centre(near, [64, 96, 128], 1_000, 1e6)[0] == 64
    assert known()._centre(far, [64, 96, 128], 1_000, 1e6)[0] == 96


def test_neighbours_in_resolution_enter_only_where_they_leave_enough_passes() -> None:
    found = known()
    needed = ENOUGH_PASSES * FINE_TUNING * COST[128] * share(7, 128) * 1_000 / FINAL_SHARE
    assert found._centre(seen(7, best=96), [64, 96, 128], 1_000, 0.999 * needed) == (96, 96)
    assert found._centre(seen(7, best=96), [64, 96, 128], 1_000, 1.001 * needed) == (96, 128)
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
