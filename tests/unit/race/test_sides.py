"""Sides of a race: whose turn it is, and races of networks that know something beside others that do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archduel.core import Arch, Counts, Scale
from archduel.core.storage import Journal, read_journal
from archduel.data import Dataset, load
from archduel.race import RaceResult, run_race
from archduel.race.candidates import Candidate
from archduel.race.newcomers import Asker, Entry
from archduel.race.rungs import Rungs, Standing
from archduel.race.sides import Side, turn
from archduel.spaces.family import build, count
from archduel.spaces.resnet.space import ResNet
from archduel.spaces.stages.space import Stages
from archduel.spaces.tiny.space import Tiny
from archduel.strategies.evolution import RegularizedEvolution
from archduel.strategies.random import RandomSearch
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe


def candidate(*scores: float) -> Candidate:
    return Candidate(0, Entry("search", Arch("stages", ()), Scale(), Counts(1, 1)), "", Standing(list(scores)))


@pytest.mark.parametrize(
    ("leaders", "numbers", "whose"),
    [
        ([None, None], [0, 0], 1),  # who knows something begins
        ([None, candidate(0.9)], [0, 1], 0),
        ([candidate(0.2), candidate(0.9)], [1, 1], 1),
        ([candidate(0.2, 0.3), candidate(0.9, 0.95)], [2, 3], 1),
        ([candidate(0.2, 0.96), candidate(0.9, 0.95)], [2, 3], 0),
        ([candidate(0.2, 0.3), candidate(0.9, 0.95)], [2, 5], 0),  # one in four is of the other side
        ([candidate(0.2, 0.3), candidate(0.9)], [2, 2], 1),  # nobody leads before the second rung
        ([candidate(0.2, 0.3)], [7], 0),
    ],
)
def test_whose_turn_it_is(leaders: list[Candidate | None], numbers: list[int], whose: int) -> None:
    assert turn(leaders, numbers) == whose


@dataclass(frozen=True)
class Foretold:
    """What is known of a network before its first step."""

    accuracy: float
    score: float
    n: int


@dataclass
class Taught:
    """Opens standard networks that were trained before, here by giving them one and the same start."""

    n_classes: int = 10
    looked: list[Any] = field(default_factory=list)
    opened: list[tuple[Arch, bool]] = field(default_factory=list)

    def prepare(self, train: Pixels, validation: Pixels, seconds: float | None, noted: Mapping[str, Any] | None, now: Any, *, meet: bool) -> dict[str, Any]:
        self.looked.append((len(train), len(validation), seconds, noted))
        return {"images": len(train)} if noted is None else dict(noted)

    def first(self) -> Sequence[Any]:
        return [Entry("tuned", Arch("resnet", (0, 1)), Scale(), Counts(0, 0))]

    def sized(self, arch: Arch) -> tuple[Scale, Counts] | None:
        scale = Scale(1, 1, 8, 1, self.n_classes)
        return scale, count(arch, scale)

    def open(self, arch: Arch, scale: Scale, images: Pixels, seed: int, *, fresh: bool) -> nn.Module:
        self.opened.append((arch, fresh))
        return build(arch, scale, generator=torch.Generator().manual_seed(1))

    def recipe(self, arch: Arch, recipe: Recipe) -> Recipe:
        return recipe.with_(lr=0.02, frozen_norms=True)

    def foretold(self, arch: Arch) -> Foretold:
        return Foretold(0.75, math.log(0.5), 60)

    def named(self, arch: Arch) -> str:
        return f"taught {arch}"


SHORT = Rungs(first=1.0, level=6.0, duels=False)


class Unable:
    """A space without a start of its own, whose strategy is not asked."""

    space = ResNet()


def sent(opener: Any = None, **settings: Any) -> Side:
    return Side(Unable(), opener=opener, **settings)  # type: ignore[arg-type]


def test_when_no_newcomer_of_a_side_can_win_a_short_race() -> None:
    plain = replace(candidate(0.5), standing=Standing([0.5], known=True), foretold=Foretold(0.7, math.log(0.5), 60))
    start = candidate(0.14, 0.18)
    there = {0: plain.standing, 1: start.standing}
    assert sent(Taught()).settled(1, plain, there, SHORT)
    assert not sent(Taught()).settled(0, plain, there, SHORT)  # what it proposes itself comes first
    assert not sent(Taught(), random_only=True).settled(1, plain, there, SHORT)
    assert not sent(Taught()).settled(1, None, there, SHORT)
    assert not sent(Taught()).settled(1, replace(plain, foretold=None), there, SHORT)  # nothing of the backbone fits but what is changed inside
    assert not sent(Taught()).settled(1, replace(plain, standing=Standing([0.5], known=True, costs=(1.0,))), there, SHORT)
    assert not sent(Taught()).settled(1, plain, there, replace(SHORT, duels=True))
    behind = replace(start, number=1)
    assert sent().settled(2, behind, there, SHORT)
    assert not sent().settled(2, replace(candidate(0.14), number=1), {**there, 1: Standing([0.14])}, SHORT)  # not before the second rung
    assert not sent().settled(2, replace(candidate(0.3, 0.55), number=1), {**there, 1: Standing([0.3, 0.55])}, SHORT)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", max_images=300)


def facts(found: RaceResult) -> list[dict[str, Any]]:
    """Returns what is known of all candidates, but for the times."""
    records = [candidate.record() for candidate in found.candidates]
    for record in records:
        del record["seconds"]
        record["curve"] = [{name: value for name, value in point.items() if name != "seconds"} for point in record["curve"]]
    return records


def race(data: Dataset, folder: Path, opener: Taught, journal: Journal | None = None, **settings: Any) -> RaceResult:
    small = RandomSearch(ResNet(), rng=np.random.default_rng(0), constraint=lambda arch: max(arch.choices) <= 2)  # the largest take minutes
    side = Side(Asker(small, ResNet()), opener=opener)
    strategy = RegularizedEvolution(Stages(), rng=np.random.default_rng(0))
    given = {"evaluations": 6, "first_epochs": 1, "last_epochs": 12, **settings}
    return run_race(data, Stages(), strategy, folder=folder, known=[side], max_macs=200_000_000, journal=journal, **given)


def test_both_sides_take_part_and_the_race_repeats_exactly(digits: Dataset, tmp_path: Path) -> None:
    found = [race(digits, tmp_path / str(i), Taught()) for i in range(2)]
    sides = [[c.entry.side for c in each.candidates] for each in found]
    assert sides[0] == sides[1]
    assert sides[0][:2] == [1, 0]
    assert facts(found[0]) == facts(found[1])
    first = found[0].candidates[0]
    assert (first.role, first.name) == ("tuned", "taught resnet:0.1")
    for mine, theirs in zip(found[0].network.state_dict().values(), found[1].network.state_dict().values()):
        assert torch.equal(mine, theirs)


def beside(data: Dataset, folder: Path, journal: Journal | None = None) -> RaceResult:
    """Returns a race in space tiny with space stages beside it, both untrained."""
    strategies = [RegularizedEvolution(space, rng=np.random.default_rng(0)) for space in (Tiny(), Stages())]
    side = Side(Asker(strategies[1], Stages()))
    return run_race(data, Tiny(), strategies[0], folder=folder, known=[side], evaluations=5, first_epochs=1, last_epochs=12, journal=journal)


def test_two_untrained_spaces_race_side_by_side(digits: Dataset, tmp_path: Path) -> None:
    found = beside(digits, tmp_path / "one")
    spaces = [(c.entry.arch.space, c.role) for c in found.candidates]
    assert spaces[:2] == [("stages", "start"), ("tiny", "search")]  # the further space's start is the one that is favoured
    assert [c.standing.favoured for c in found.candidates[:2]] == [True, False]
    assert found.candidates[1].entry.arch == Tiny().start()
    assert found.candidates[0].name.startswith(Stages().write(Stages().start()))  # each named in the words of its own space
    assert found.candidates[1].name.startswith(Tiny().write(Tiny().start()))
    assert {c.entry.arch.space for c in found.candidates} >= {"stages", "tiny"}


def test_two_spaces_side_by_side_go_on_as_if_nothing_had_happened(digits: Dataset, tmp_path: Path) -> None:
    whole = beside(digits, tmp_path / "whole")
    lines = (tmp_path / "whole" / "race.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "race.jsonl").write_text("".join(lines[: len(lines) // 2]))
    again = beside(digits, tmp_path / "cut")
    assert facts(again) == facts(whole)


def test_an_interrupted_race_goes_on_and_does_not_look_again(digits: Dataset, tmp_path: Path) -> None:
    whole = race(digits, tmp_path / "whole", Taught())
    records = read_journal(tmp_path / "whole" / "race.jsonl")[0]
    half = tmp_path / "half"
    half.mkdir()

    class Killed(Exception):
        pass

    class Fragile(Journal):
        left = len(records) // 2

        def append(self, record: Mapping[str, Any]) -> None:
            super().append(record)
            Fragile.left -= 1
            if not Fragile.left:
                raise Killed

    fragile = Fragile(half / "race.jsonl")
    with pytest.raises(Killed):
        race(digits, half, Taught(), journal=fragile)
    fragile.close()
    opener = Taught()
    again = race(digits, half, opener)
    assert opener.looked[0][3] == {"images": len(digits.train.labels)}
    assert facts(again) == facts(whole)


def test_without_scratch_only_known_networks_take_part(digits: Dataset, tmp_path: Path) -> None:
    opener = Taught()
    found = race(digits, tmp_path, opener, scratch=False)
    assert {c.entry.arch.space for c in found.candidates} == {"resnet"}
    assert found.recipe.frozen_norms
    assert found.recipe.lr == 0.02
    assert [fresh for _, fresh in opener.opened].count(True) == len(found.candidates)


@dataclass
class Slow(Taught):
    """Looks at the images for longer than the race has."""

    clock: Ticking = field(default_factory=lambda: Ticking())

    def prepare(self, train: Pixels, validation: Pixels, seconds: float | None, noted: Mapping[str, Any] | None, now: Any, *, meet: bool) -> dict[str, Any]:
        self.clock.time += 100.0
        return super().prepare(train, validation, seconds, noted, now, meet=meet)


class Ticking:
    """A clock that goes on whenever it is read."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        self.time += 0.05
        return self.time

    processor = now


def test_a_look_that_took_all_of_the_time_does_not_leave_a_person_with_nothing(digits: Dataset, tmp_path: Path) -> None:
    clock = Ticking()
    found = race(digits, tmp_path, Slow(clock=clock), evaluations=None, seconds=20.0, clock=clock)
    assert found.candidates
    assert found.winner.steps > 0
    assert found.seconds < 120.0


def test_a_look_is_told_what_is_left_of_the_time(digits: Dataset, tmp_path: Path) -> None:
    """35 of 180 s went into reading large images, and the resolution was one for 180 s."""
    opener, clock = Taught(), Ticking()
    race(digits, tmp_path, opener, evaluations=None, seconds=40.0, gone=25.0, reserve=3.0, clock=clock)
    assert 10.0 < opener.looked[0][2] <= 12.0
