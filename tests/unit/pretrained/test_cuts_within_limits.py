"""Which cuts of a backbone are within the limits is found with a few questions, for one may take a quarter of a second."""

from __future__ import annotations

import pytest

from archduel.core import Arch, Counts, Scale
from archduel.pretrained.known import Known
from archduel.pretrained.prefixes import prefix
from archduel.spaces.pretrained.space import Pretrained, arch_of, count

BACKBONE = "efficientnet_lite0"
CUTS = range(1, 18)


class Limit:
    """At most so many multiply-adds; remembers how often it was asked."""

    def __init__(self, macs: float) -> None:
        self.macs, self.asked = macs, 0

    def __call__(self, arch: Arch, scale: Scale, counts: Counts) -> bool:
        self.asked += 1
        return counts.macs <= self.macs


@pytest.mark.parametrize("macs", [0, 5e6, 10.2e6, 31.5e6, 1e9])
def test_the_most_blocks_are_those_that_asking_for_each_finds(macs: float) -> None:
    limit, scale = Limit(macs), Scale(1, 1, 32, 3, 10)
    known = Known(Pretrained(backbones=[BACKBONE]), scale, (0.5,) * 3, (0.25,) * 3, limit)
    most = known._most(BACKBONE, 64, CUTS)
    assert limit.asked <= 5
    plans = {blocks: prefix(BACKBONE, 64, blocks) for blocks in CUTS}
    within = [blocks for blocks, plan in plans.items() if plan is not None and count(arch_of(plan), scale).macs <= macs]
    assert most == max(within, default=most)
    assert bool(within) == (plans.get(most) is not None)
