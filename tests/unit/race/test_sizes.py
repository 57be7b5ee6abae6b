"""Sizes near what the time supports, within the limits."""

from __future__ import annotations

import numpy as np
import pytest

from archduel.core import Arch, Counts, Scale
from archduel.errors import InfeasibleError
from archduel.race.sizes import Bounds, Sizes, fitting_scale, standard_ladder
from archduel.spaces.family import count
from archduel.spaces.nasbench201.space import NASBench201
from archduel.spaces.resnet.space import WIDTHS, ResNet

CONVS = NASBench201().read("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|")
RESNETS = [Arch(ResNet.name, (blocks, width)) for blocks in range(3) for width in range(len(WIDTHS))]


def sizes(bounds: Bounds) -> Sizes:
    """Returns those of 32 px colour images of ten classes."""
    return Sizes(32, 3, 10, count, lambda arch, scale, counts: bounds.allow(counts))


@pytest.mark.parametrize("macs", [3e6, 3e7, 3e8])
def test_a_cell_is_built_near_the_multiply_adds_that_are_wanted(macs: float) -> None:
    for seed in range(5):
        scale, counts = fitting_scale(CONVS, macs, sizes(Bounds()), np.random.default_rng(seed)) or (None, Counts(0, 0))
        assert isinstance(scale, Scale)
        assert counts == count(CONVS, scale)
        assert macs / 2 < counts.macs < macs * 2


def test_limits_come_before_what_the_time_supports() -> None:
    scale, counts = fitting_scale(CONVS, 1e9, sizes(Bounds(max_params=100_000)), np.random.default_rng(0)) or (None, Counts(0, 0))
    assert scale is not None
    assert 50_000 < counts.params <= 100_000
    assert fitting_scale(CONVS, 1e9, sizes(Bounds(max_params=10)), np.random.default_rng(0)) is None


def test_the_standard_ladder_has_one_network_of_each_depth() -> None:
    found = standard_ladder(RESNETS, 4e7, sizes(Bounds(max_params=300_000)), lambda arch: arch.choices[0])
    assert [arch.choices[0] for arch, _, _ in found] == [0, 1, 2]
    assert all(2e7 < counts.macs < 8e7 and counts.params <= 300_000 for _, _, counts in found)
    with pytest.raises(InfeasibleError):
        standard_ladder(RESNETS, 4e7, sizes(Bounds(max_params=10)), lambda arch: arch.choices[0])


def test_few_sizes_are_asked_for() -> None:
    """An answer may need a network that is built and timed."""
    asked: list[Counts] = []

    def allowed(arch: Arch, scale: Scale, counts: Counts) -> bool:
        asked.append(counts)
        return counts.params <= 300_000

    costly = Sizes(32, 3, 10, count, allowed)
    found = standard_ladder(RESNETS, 4e6, costly, lambda arch: arch.choices[0])
    assert found == standard_ladder(RESNETS, 4e6, sizes(Bounds(max_params=300_000)), lambda arch: arch.choices[0])
    assert len(asked) == len(found) == 3
    asked.clear()
    assert fitting_scale(CONVS, 3e6, costly, np.random.default_rng(0)) is not None
    assert len(asked) == len(costly.depths)


@pytest.mark.parametrize("most", [10, 3_000, 40_000, 300_000])
@pytest.mark.parametrize("macs", [1e5, 4e6, 1e9])
def test_the_nearest_of_those_within_the_limits(most: int, macs: float) -> None:
    """As asking for each finds it."""
    within = [(arch, count(arch, Scale(16, 1, 32, 3, 10))) for arch in RESNETS]
    for blocks in range(3):
        fitting = [(abs(np.log(counts.macs / macs)), arch) for arch, counts in within if arch.choices[0] == blocks and counts.params <= most]
        try:
            found = {arch.choices[0]: arch for arch, _, _ in standard_ladder(RESNETS, macs, sizes(Bounds(max_params=most)), lambda arch: arch.choices[0])}
        except InfeasibleError:
            found = {}
        assert found.get(blocks) == (min(fitting)[1] if fitting else None)
