"""Who enters next, place by place, and what a race passes over: spaces without anything new, strategies without an end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import archduel
from archduel.core import Arch, Cost, Counts, Query, Scale, StepReport, sample
from archduel.errors import InfeasibleError, RunError, StateError
from archduel.race.candidates import Candidate
from archduel.race.newcomers import Asker, Entry, read_scale, write_scale
from archduel.race.run import _namer, _propose
from archduel.race.rungs import Standing
from archduel.race.sides import Side, turn
from archduel.spaces.pretrained.space import Pretrained
from archduel.spaces.stages.space import Stages
from archduel.spaces.tiny.space import Tiny
from archduel.testing.toy import ToySpace

SPACE = Stages()
STANDARDS = [Entry("standard", Arch("resnet", (n, 0)), Scale(16), Counts(1, 1)) for n in range(3)]


class Asking:
    """A strategy that asks for random architectures and remembers what it is told."""

    def __init__(self, space: Any = SPACE) -> None:
        self.space, self.rng, self.steps = space, np.random.default_rng(0), 0
        self.told: list[tuple[Arch, float, float]] = []

    def ask(self, n: int) -> list[Query]:
        assert n == 1
        return [Query(self.space.start())]

    def tell(self, queries: Any, estimates: Any) -> None:
        self.told.append((queries[0].arch, estimates[0].score, estimates[0].cost.seconds))

    def step(self) -> StepReport | None:
        self.steps += 1
        return StepReport({})


def candidate(arch: Arch, *scores: float) -> Candidate:
    return Candidate(0, Entry("search", arch, Scale(), Counts(1, 1)), "", Standing(list(scores)))


def roles(side: Side, places: range, ahead: Candidate | None = None) -> dict[int, str]:
    """Returns the role of the newcomer of each place."""
    return {place: side.next(place, np.random.default_rng(place), ahead, lambda: True, again=False)[0] for place in places}


def test_the_order_of_newcomers_place_by_place() -> None:
    side = Side(Asker(Asking(), SPACE), standards=list(STANDARDS))  # type: ignore[arg-type]
    found = roles(side, range(24))
    assert found[0] == "start"
    assert [place for place, role in found.items() if role == "standard"] == [1, 4, 8]
    assert [place for place, role in found.items() if role == "random"] == [5, 11, 17, 23]
    assert [side.next(p, np.random.default_rng(0), None, lambda: True, again=False)[1] for p in (1, 4, 8)] == [e.arch for e in STANDARDS]


def test_without_standards_and_with_a_strategy_that_begins_at_random_all_others_are_asked_for() -> None:
    side = Side(Asker(Asking(), SPACE), random_first=3)  # type: ignore[arg-type]
    assert set(roles(side, range(1, 24)).values()) == {"search"}
    assert roles(Side(Asker(Asking(), SPACE), random_only=True), range(3)) == dict.fromkeys(range(3), "random")  # type: ignore[arg-type]


def test_one_in_three_is_a_neighbour_of_who_leads_in_the_same_space() -> None:
    side = Side(Asker(Asking(), SPACE), random_first=3)  # type: ignore[arg-type]
    leader = candidate(SPACE.start(), 0.5)
    for place in range(1, 12):
        role, arch, exchange = side.next(place, np.random.default_rng(place), leader, lambda: True, again=False)
        assert role == "search"
        assert arch is not None
        apart = sum(a != b for a, b in zip(arch.choices, SPACE.start().choices))
        assert (exchange == [], apart) == ((True, 1) if place % 3 == 0 else (False, 0))
    other = candidate(Arch("resnet", (0, 0)), 0.9)
    assert side.next(3, np.random.default_rng(0), other, lambda: True, again=False)[2] == [["ask", str(SPACE.start())]]


def test_a_start_that_is_too_large_is_not_proposed_again_and_a_space_without_one_has_none() -> None:
    side = Side(Asker(Asking(), SPACE))  # type: ignore[arg-type]
    assert side.next(0, np.random.default_rng(0), None, lambda: True, again=True)[2]
    assert not hasattr(ToySpace(), "start")


def test_networks_of_earlier_races_enter_where_their_kind_is_or_untrained_in_the_first_space() -> None:
    mine = archduel.space_of(Mine)
    tiny, known = Tiny().start(), Arch("pretrained", (0,) * 11)
    nobody = Arch("Nobody", (0,))  # of a class that this process does not know
    for space, sides, expected in (
        (SPACE, [], [[tiny, SPACE.start()]]),
        (SPACE, [Tiny()], [[SPACE.start()], [tiny]]),
        (SPACE, [Pretrained()], [[tiny, SPACE.start()], [known]]),
        (mine, [], [[mine.start()]]),  # whose run.model() is a Mine
    ):
        own, *others = (Side(Asker(Asking(each), each)) for each in (space, *sides))  # type: ignore[arg-type]
        _propose([known, mine.start(), tiny, nobody, SPACE.start()], own, others)
        assert [[entry.arch for entry in side.proposed] for side in (own, *others)] == expected
        named = _namer(space, *sides)
        assert named(tiny) == Tiny().write(tiny)
        assert named(Arch("resnet", (0, 0))).startswith("resnet8")


class Mine(nn.Module):
    """A person's own network."""

    def __init__(self, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, archduel.choose("width", [4, 8]), 3)
        self.head = nn.Linear(self.stem.out_channels, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(x).mean((2, 3)))  # type: ignore[no-any-return]


class Opened:
    """An opener of which only the first newcomers are asked for."""

    def first(self) -> list[Entry]:
        return [Entry("tuned", SPACE.start(), Scale(), Counts(1, 1))]


def test_who_enters_first_comes_before_the_start() -> None:
    side = Side(Asker(Asking(), SPACE), standards=list(STANDARDS), opener=Opened())  # type: ignore[arg-type]
    assert roles(side, range(2)) == {0: "tuned", 1: "standard"}
    assert side.next(0, np.random.default_rng(0), None, lambda: True, again=True)[0] == "search"
    assert list(Side(Asker(Asking(), SPACE)).first) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(("numbers", "whose"), [([2, 1], 1), ([1, 1], 1), ([0, 0, 0], 2), ([0, 1, 0], 2), ([0, 1, 1], 0)])
def test_before_anybody_leads_who_sent_fewest_is_next(numbers: list[int], whose: int) -> None:
    assert turn([None] * len(numbers), numbers) == whose


def test_the_better_side_at_the_highest_rung_that_both_reached_sends_three_of_four() -> None:
    first, second = candidate(SPACE.start(), 0.1, 0.6, 0.2), candidate(SPACE.start(), 0.9, 0.5)
    assert [turn([first, second], [5 + n, 1]) for n in range(4)] == [0, 1, 0, 0]  # 6, 7, 8, 9 sent: after 7 the one with fewer
    assert turn([candidate(SPACE.start(), 0.1, 0.6), candidate(SPACE.start(), 0.9)], [3, 1]) == 1  # the second has not been there


# -- Askers -------------------------------------------------------------------------------------------------------------


def test_a_scale_is_written_and_read() -> None:
    scale = Scale(12, 3, 20, 1, 7)
    assert write_scale(scale) == {"channels": 12, "depth": 3, "image_size": 20, "in_channels": 1, "n_classes": 7}
    assert read_scale(write_scale(scale)) == scale


def test_a_strategy_that_only_steps_is_not_waited_for_for_ever() -> None:
    strategy = Asking()
    strategy.ask = lambda n: []  # type: ignore[method-assign]
    arch, exchange = Asker(strategy, SPACE).next(lambda: True)  # type: ignore[arg-type]
    assert (arch, strategy.steps, len(exchange)) == (None, 2_000, 2_000)
    assert exchange[-1] == ["step", 1]
    strategy.step = lambda: None  # type: ignore[method-assign, return-value]
    assert Asker(strategy, SPACE).next(lambda: True) == (None, [["step", None]])  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [StateError("nothing to rank"), ValueError("labels are equal")])
def test_finalists_of_a_strategy_that_cannot_say_are_none(error: Exception) -> None:
    strategy = Asking()
    strategy.ask = lambda n: []  # type: ignore[method-assign]

    def finalists(n: int) -> list[Arch]:
        raise error

    strategy.finalists = finalists  # type: ignore[attr-defined]
    assert Asker(strategy, SPACE).next(lambda: False) == (None, [["idle", None]])  # type: ignore[arg-type]


def test_one_finalist_more_than_is_known_is_asked_for() -> None:
    strategy, asked = Asking(), list[int]()
    strategy.ask = lambda n: []  # type: ignore[method-assign]
    strategy.finalists = lambda n: asked.append(n) or []  # type: ignore[attr-defined, func-returns-value]
    asker = Asker(strategy, SPACE, known={SPACE.start(): 0.5})  # type: ignore[arg-type]
    assert asker.next(lambda: False)[0] is None
    assert asked == [2]


class Narrow(ToySpace):
    """A toy space in which all architectures do the same, and drawing counts."""

    drawn = 0

    def fingerprint(self, arch: Arch) -> str:
        self.drawn += 1
        return "the same"


def test_where_nothing_new_is_found_it_ends_after_the_tries() -> None:
    space = Narrow()
    asker = Asker(Asking(), space)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    first = asker.random(rng)
    assert first is not None  # nothing is known yet
    asker.known[first] = 0.5
    asker.known[Arch("another space", (0,))] = 0.5
    space.drawn = 0
    assert asker.random(rng) is None
    assert space.drawn == 1 + 200
    space.drawn = 0
    assert asker.neighbour(first, rng) is None
    assert space.drawn == 1 + 50
    space.drawn = 0
    assert asker.random(rng, tries=7) is None
    assert asker.neighbour(first, rng, tries=3) is None
    assert space.drawn == 1 + 7 + 1 + 3


def test_a_constraint_that_nothing_meets_is_no_error_of_a_race() -> None:
    asker = Asker(Asking(), SPACE, constraint=lambda arch: False)  # type: ignore[arg-type]
    assert asker.random(np.random.default_rng(0)) is None
    assert asker.neighbour(SPACE.start(), np.random.default_rng(0)) is None
    with pytest.raises(InfeasibleError):
        sample(SPACE, np.random.default_rng(0), lambda arch: False)


def test_a_constraint_is_kept_by_random_ones_and_neighbours() -> None:
    odd = Asker(Asking(), SPACE, constraint=lambda arch: sum(arch.choices) % 2 == 1)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    assert all(sum(arch.choices) % 2 == 1 for _ in range(10) if (arch := odd.random(rng)) is not None)
    parent = next(arch for arch in iter(lambda: odd.random(rng), None))
    assert all(sum(child.choices) % 2 == 1 for _ in range(5) if (child := odd.neighbour(parent, rng)) is not None)


def test_what_is_told_is_remembered_with_its_cost() -> None:
    strategy = Asking()
    asker = Asker(strategy, SPACE)  # type: ignore[arg-type]
    asker.tell(SPACE.start(), 0.4, Cost(1.5, 10), asked=False)
    assert (asker.known, strategy.told) == ({SPACE.start(): 0.4}, [])
    asker.tell(SPACE.start(), 0.6, Cost(2.5, 10), asked=True)
    assert (asker.known, strategy.told) == ({SPACE.start(): 0.6}, [(SPACE.start(), 0.6, 2.5)])


def test_an_exchange_that_ended_idle_or_without_a_step_is_repeated() -> None:
    strategy, asks = Asking(), list[int]()
    strategy.ask = lambda n: asks.append(n) or []  # type: ignore[method-assign, func-returns-value]
    Asker(strategy, SPACE).repeat([["step", 1], ["idle", None]])  # type: ignore[arg-type]
    assert (asks, strategy.steps) == ([1, 1], 1)
    asker = Asker(Asking(), SPACE)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=f"asked for stages:0.0, now it asks for {SPACE.start()}"):
        asker.repeat([["ask", "stages:0.0"]])
    with pytest.raises(RunError, match="asked for stages:0.0, now it asks for nothing"):
        Asker(strategy, SPACE).repeat([["ask", "stages:0.0"]])  # type: ignore[arg-type]
    asker.repeat([["ask", str(SPACE.start())], ["again", math.nan]])
    told = asker.strategy.told  # type: ignore[attr-defined]
    assert told[0][0] == SPACE.start()
    assert math.isnan(told[0][1])
