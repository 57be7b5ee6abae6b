"""Final networks: which seeds and networks are left when trainings fail."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from archduel.commands.search.final import FinalNetwork, survivors
from archduel.core import Arch, Cost, Estimate
from archduel.errors import RunError

ARCHS = {role: Arch("toy", (i,)) for i, role in enumerate(("search", "random", "standard"))}
FOUND = [FinalNetwork(role, arch, (11, 12, 13)) for role, arch in ARCHS.items()]


def trained(*failed: tuple[str, int]) -> dict[tuple[str, int], Estimate]:
    good, bad = Estimate(0.0, Cost(1.0), {}), Estimate(math.nan, Cost(1.0), {}, "out of memory")
    return {(str(n.arch), seed): bad if (n.role, seed) in failed else good for n in FOUND for seed in n.seeds}


@pytest.fixture
def said() -> Any:
    lines: list[str] = []
    return SimpleNamespace(progress=SimpleNamespace(say=lines.append), lines=lines)


def test_all_stay_when_nothing_failed(said: Any) -> None:
    assert survivors(said, FOUND, trained()) == FOUND
    assert said.lines == []


def test_a_seed_at_which_the_search_failed_is_left_out_everywhere(said: Any) -> None:
    left = survivors(said, FOUND, trained(("search", 12), ("random", 12)))
    assert [(n.role, n.seeds) for n in left] == [(role, (11, 13)) for role in ARCHS]
    assert said.lines[0] == "warning: 1 of 3 final trainings of search failed: out of memory"


def test_another_network_that_failed_is_left_out(said: Any) -> None:
    assert [n.role for n in survivors(said, FOUND, trained(("standard", 11)))] == ["search", "random"]


def test_nothing_is_left_without_the_search(said: Any) -> None:
    with pytest.raises(RunError, match=r"every final training of .* failed: out of memory; the same command tries again"):
        survivors(said, FOUND, trained(*(("search", seed) for seed in (11, 12, 13))))
