"""Whole races on a few digits: repeated, interrupted, and on a clock that tests turn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archduel.core import Arch, Scale
from archduel.core.storage import Journal, read_journal
from archduel.data import Dataset, load
from archduel.errors import BudgetError, RunError, SettingError
from archduel.race import RaceResult, run_race
from archduel.spaces.family import count
from archduel.spaces.nasbench201.space import NASBench201
from archduel.spaces.stages.space import Stages
from archduel.strategies.evolution import RegularizedEvolution
from archduel.strategies.random import RandomSearch


class Killed(Exception):
    """A process that ends without a word."""


class Fragile(Journal):
    """A journal whose process is killed after some records."""

    def __init__(self, path: Path, lives: int) -> None:
        super().__init__(path)
        self.lives = lives

    def append(self, record: Mapping[str, Any]) -> None:
        super().append(record)
        self.lives -= 1
        if self.lives == 0:
            self.close()
            raise Killed


class Ticking:
    """A clock that goes on by ``tick`` seconds whenever it is read: what is trained in a given time is then the same everywhere."""

    def __init__(self, tick: float) -> None:
        self.time, self.tick = 0.0, tick

    def now(self) -> float:
        self.time += self.tick
        return self.time

    def processor(self) -> float:
        return self.time


class Dying(Ticking):
    """A clock whose process is killed when it is read for the last time, in the middle of a training."""

    def __init__(self, tick: float, reads: int) -> None:
        super().__init__(tick)
        self.reads = reads

    def now(self) -> float:
        self.reads -= 1
        if self.reads == 0:
            raise Killed
        return super().now()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", max_images=300)


def race(data: Dataset, folder: Path, **changes: Any) -> RaceResult:
    """Returns a small race with evolution."""
    strategy = RegularizedEvolution(Stages(), rng=np.random.default_rng(0), population=3, tournament=2)
    settings = {"evaluations": 5, "first_epochs": 1.0, "last_epochs": 12.0, "max_params": 20_000, "seed": 3, **changes}
    return run_race(data, Stages(), strategy, folder=folder, **settings)


def weights(result: RaceResult) -> dict[str, torch.Tensor]:
    """Returns the weights that are handed over."""
    return {name: value.clone() for name, value in result.network.state_dict().items()}


@pytest.fixture(scope="module")
def whole(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[RaceResult, int]:
    folder = tmp_path_factory.mktemp("whole")
    result = race(digits, folder)
    return result, len(read_journal(folder / "race.jsonl"))


def test_a_race_hands_over_what_it_trained_longest(whole: tuple[RaceResult, int]) -> None:
    result, _ = whole
    assert len(result.candidates) == 5
    assert [c.role for c in result.candidates[:2]] == ["start", "standard"]
    assert {c.role for c in result.candidates} >= {"search"}
    assert all(c.params <= 20_000 for c in result.candidates)
    assert result.winner.passes == pytest.approx(12, abs=0.5)
    assert max(c.passes for c in result.candidates if c is not result.winner) <= 9.5
    assert sum(result.shares.values()) == pytest.approx(1.0)
    best = max((c for c in result.candidates if len(c.curve) == len(result.winner.curve)), key=lambda c: c.curve[-1]["score"])
    assert best is result.winner


def test_a_race_in_evaluations_repeats_exactly(digits: Dataset, whole: tuple[RaceResult, int], tmp_path: Path) -> None:
    again = race(digits, tmp_path)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole[0]).items())
    assert [c.curve[0]["score"] for c in again.candidates] == [c.curve[0]["score"] for c in whole[0].candidates]


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.9])
def test_a_killed_race_goes_on_exactly(digits: Dataset, whole: tuple[RaceResult, int], tmp_path: Path, share: float) -> None:
    result, records = whole
    with pytest.raises(Killed):
        race(digits, tmp_path, journal=Fragile(tmp_path / "race.jsonl", max(1, round(share * records))))
    again = race(digits, tmp_path)
    assert again.winner.name == result.winner.name
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(result).items())


@pytest.mark.parametrize("reads", [40, 130, 220])
def test_a_race_killed_within_a_training_goes_on_exactly(
    digits: Dataset, whole: tuple[RaceResult, int], tmp_path: Path, reads: int
) -> None:
    with pytest.raises(Killed):
        race(digits, tmp_path, clock=Dying(1.0, reads))
    again = race(digits, tmp_path, clock=Ticking(1.0))
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole[0]).items())


def test_a_race_against_a_clock_ends_in_time(digits: Dataset, tmp_path: Path) -> None:
    clock = Ticking(0.05)
    result = race(digits, tmp_path, evaluations=None, seconds=40.0, reserve=2.0, clock=clock)
    assert 37.0 < result.seconds <= 38.5
    assert result.shares["handed over"] >= 0.5
    assert result.winner.passes > 30
    assert len(result.candidates) >= 3


@pytest.mark.parametrize("reads", [330, 450, 700])
def test_a_timed_race_killed_at_any_moment_loses_an_epoch_or_five_seconds(digits: Dataset, tmp_path: Path, reads: int) -> None:
    clock = Dying(0.05, reads)
    with pytest.raises(Killed):
        race(digits, tmp_path, evaluations=None, seconds=40.0, clock=clock)
    events = read_journal(tmp_path / "race.jsonl")
    epoch = 180 / 64 * 0.2  # steps of an epoch, in which the clock is read up to four times
    again = Ticking(0.05)
    result = race(digits, tmp_path, evaluations=None, seconds=40.0, clock=again)
    done = 40.0 - again.time  # on the clock of the budget when the second attempt began
    assert clock.time - 5.0 - 2 * epoch <= done <= clock.time + 0.5
    assert 39.0 < result.seconds <= 40.5
    after = read_journal(tmp_path / "race.jsonl")
    assert after[: len(events)] == events
    assert result.shares["handed over"] >= 0.5


@pytest.mark.parametrize(("busy", "end"), [(1.0, 33.0), (2.0, 26.0), (100.0, 26.4)])
def test_what_comes_after_is_known_better_once_the_network_is_and_takes_longer_where_others_compute(
    digits: Dataset, tmp_path: Path, busy: float, end: float
) -> None:
    clock = Ticking(0.05)
    clock.processor = lambda: clock.time / busy  # type: ignore[method-assign]
    asked: list[torch.nn.Module] = []

    def after(model: torch.nn.Module) -> float:
        asked.append(model)
        return 7.0

    result = race(digits, tmp_path, evaluations=None, seconds=40.0, reserve=2.0, clock=clock, after=after)
    assert len(asked) == 1
    assert end - 1.0 < result.seconds <= end + 1.0  # at least half of the last training is done, however busy the machine


def test_a_killed_timed_race_loses_no_more_than_it_had_not_saved(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        race(digits, tmp_path, evaluations=None, seconds=40.0, clock=Ticking(0.05), journal=Fragile(tmp_path / "race.jsonl", 6))
    clock = Ticking(0.05)
    result = race(digits, tmp_path, evaluations=None, seconds=40.0, clock=clock)
    assert 39.0 < result.seconds <= 40.5
    assert clock.time < 38.0  # the time before the interruption counted


def test_a_neighbour_of_the_leader_is_built_at_its_size(digits: Dataset, tmp_path: Path) -> None:
    result = race(digits, tmp_path, evaluations=4, max_params=None)
    fourth, start = result.candidates[3], result.candidates[0].entry
    assert (fourth.role, fourth.entry.asked) == ("search", False)
    known = [c.entry for c in result.candidates[:3]]
    leader = next(e for e in known if e.arch.space == "stages" and sum(a != b for a, b in zip(e.arch.choices, fourth.entry.arch.choices)) == 1)
    assert 1 / 1.6 < fourth.entry.counts.macs / leader.counts.macs < 1.6
    assert start.role == "start"


def test_where_the_time_is_over_before_the_first_network_one_is_trained_all_the_same(digits: Dataset, tmp_path: Path) -> None:
    clock = Ticking(0.05)

    class Slow(Stages):
        """Takes all the time to say where to begin."""

        def start(self) -> Arch:
            clock.time += 6.0
            return super().start()

    strategy = RegularizedEvolution(Stages(), rng=np.random.default_rng(0), population=3, tournament=2)
    result = run_race(digits, Slow(), strategy, folder=tmp_path, seconds=8.0, clock=clock, max_params=20_000)
    assert len(result.candidates) == 1
    assert len(result.winner.curve) == 1


def test_random_search_alone_names_its_networks(digits: Dataset, tmp_path: Path) -> None:
    space = NASBench201()
    strategy = RandomSearch(space, rng=np.random.default_rng(0))
    result = run_race(
        digits, space, strategy, folder=tmp_path, evaluations=3, last_epochs=10, max_params=20_000, standards=False, random_first=3
    )
    assert [c.role for c in result.candidates] == ["search"] * 3
    assert {row["role"] for row in result.standings} == {"search", "random"}


def test_where_the_spaces_own_start_is_too_large_others_enter(digits: Dataset, tmp_path: Path) -> None:
    result = race(digits, tmp_path, evaluations=3, max_params=3_000)
    assert count(Stages().start(), Scale(4, 1, 8, 1, 10)).params > 3_000  # at the least width
    assert len(result.candidates) == 3
    assert all(c.params <= 3_000 and c.role != "start" for c in result.candidates)


def test_what_cannot_be_is_refused(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="either seconds or evaluations"):
        race(digits, tmp_path / "a", seconds=10.0)
    with pytest.raises(BudgetError, match="too short"):
        race(digits, tmp_path / "b", evaluations=None, seconds=3.0)
    with pytest.raises(RunError, match="none of 0 networks could be trained: all that were proposed are above the limits"):
        race(digits, tmp_path / "c", max_params=10)
