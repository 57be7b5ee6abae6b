"""Final networks: which seeds and networks are left when trainings fail."""

from __future__ import annotations

import math

import pytest

from archduel.commands.search.final import FinalNetwork, survivors
from archduel.core import Arch, Cost, Estimate
from archduel.errors import RunError

ARCHS = {role: Arch("toy", (i,)) for i, role in enumerate(("search", "random", "standard"))}
NETWORKS = [FinalNetwork(role, arch, (11, 12, 13)) for role, arch in ARCHS.items()]


def trained(*failed: tuple[str, int]) -> dict[tuple[str, int], Estimate]:
    good, bad = Estimate(0.0, Cost(1.0), {}), Estimate(math.nan, Cost(1.0), {}, "out of memory")
    return {(str(n.arch), seed): bad if (n.role, seed) in failed else good for n in NETWORKS for seed in n.seeds}


def left(trainings: dict[tuple[str, int], Estimate]) -> tuple[list[FinalNetwork], list[str]]:
    """Returns the networks that are left, and what was printed."""
    lines: list[str] = []
    return survivors(NETWORKS, trainings, lines.append), lines


def test_all_stay_when_nothing_failed() -> None:
    assert left(trained()) == (NETWORKS, [])


def test_a_seed_at_which_the_search_failed_is_left_out_everywhere() -> None:
    networks, lines = left(trained(("search", 12), ("random", 12)))
    assert [(n.role, n.seeds) for n in networks] == [(role, (11, 13)) for role in ARCHS]
    assert lines[0] == "warning: 1 of 3 final trainings of search failed: out of memory"


def test_another_network_that_failed_is_left_out() -> None:
    assert [n.role for n in left(trained(("standard", 11)))[0]] == ["search", "random"]


def test_nothing_is_left_without_the_search() -> None:
    with pytest.raises(RunError, match=r"every final training of .* failed: out of memory; the same command tries again"):
        left(trained(*(("search", seed) for seed in (11, 12, 13))))
