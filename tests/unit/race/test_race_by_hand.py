"""The arithmetic of a race, without a training: sizes, rates, budgets, and what a journal makes of it again."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from archduel.core import Arch, Counts, Scale
from archduel.errors import RunError
from archduel.race import race as module
from archduel.race.candidates import FEW_STEPS, Candidate
from archduel.race.clock import Stopwatch
from archduel.race.newcomers import Asker, Entry, one_answer_apart, was_asked, write_scale
from archduel.race.plan import Plan, enough_passes
from archduel.race.race import Race, RaceSettings
from archduel.race.rungs import Rungs, Standing
from archduel.race.sets import Sets
from archduel.race.sides import Side
from archduel.race.sizes import Bounds, Sizes
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

ARCH, NEAR, FAR = Arch("nasbench201", (0, 0, 0)), Arch("nasbench201", (0, 1, 0)), Arch("nasbench201", (1, 1, 0))


class Hand:
    """Clocks turned by hand."""

    def __init__(self) -> None:
        self.time, self.computed = 0.0, 0.0

    def now(self) -> float:
        return self.time

    def processor(self) -> float:
        return self.computed


class Told:
    """A strategy that is told; asks for one architecture."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def ask(self, n: int) -> list[Any]:
        return [SimpleNamespace(arch=ARCH)]

    def tell(self, queries: Any, estimates: Any) -> None:
        self.log.append((queries[0].arch, estimates[0].score, estimates[0].cost.seconds, estimates[0].cost.images))


class Memory:
    """A journal in memory."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = list(records)

    def append(self, record: Any) -> None:
        self.records.append(dict(record))


def square(arch: Arch, scale: Scale) -> Counts:
    """Returns costs by the square of the width."""
    return Counts(scale.channels, 1000 * scale.channels**2)


def made(clock: Hand | None = None, *, opener: Any = None, records: tuple[dict[str, Any], ...] = (), **changes: Any) -> Race:
    """Returns a race with one side, three rungs of 2, 6 and 18, and 30 for the last training, over 40 and 10 images."""
    values = {"recipe": Recipe(batch_size=8, lr=0.1), "metric": "accuracy", "by_likelihood": False, "seed": 0, "device": "cpu", "timed": True,
              "macs": 64_000.0, "threads": 1, "reserve": 4.0, **changes}  # fmt: skip
    space = SimpleNamespace(name="nasbench201", fingerprint=str)
    side = Side(Asker(Told(), space), opener=opener)  # type: ignore[arg-type]
    sizes = Sizes(8, 1, 3, square, Bounds(max_params=100).and_also(None), depths=(1,))
    pixels = [range(40), range(10), range(50), torch.arange(40, 50)]
    return Race(
        RaceSettings(**values), Plan(Rungs(2.0, 10.0), 40.0, 100.0, 30.0), Sets(*pixels), sizes, [side],  # type: ignore[arg-type]
        stopwatch=Stopwatch(clock or Hand()), journal=Memory(*records), folder=Path("nowhere"), named=str, say=lambda text: said.append(text),
    )  # fmt: skip


said: list[str] = []


def entered(race: Race, arch: Arch = ARCH, role: str = "search", channels: int = 8, *scores: float, asked: bool = False) -> Candidate:
    """Returns a candidate that has entered, with scores."""
    candidate = race._add(Entry(role, arch, Scale(channels, 1, 8, 1, 3), square(arch, Scale(channels)), asked))
    candidate.standing.scores += scores
    return candidate


def test_the_rate_rises_over_a_hundred_steps_or_a_quarter_of_the_first_rung() -> None:
    race = made()
    candidate = entered(race)
    assert race._warm(candidate, 25) == 0.25
    candidate.seconds = 0.25
    assert race._warm(candidate, 1) == 0.5
    candidate.seconds = 1.0
    assert race._warm(candidate, 1) == 2.0
    known = made(opener=SimpleNamespace(named=str, foretold=lambda arch: None))
    other = entered(known)
    other.seconds = 1.5
    assert known._warm(other, 10_000) == pytest.approx(0.5)  # three seconds of thirty


def test_what_comes_after_takes_longer_on_a_busy_machine_but_not_more_than_four_times() -> None:
    race = made()
    race.reserve = 5.0
    assert race._end() == pytest.approx(100 + 4 - 5)
    race.pace.lasting = 0.5
    assert race._end() == pytest.approx(100 + 4 - 10)
    race.pace.lasting = 0.0
    assert race._end() == pytest.approx(100 + 4 - 20)
    assert made(timed=False)._end() == 100.0


def test_units_are_seconds_or_passes() -> None:
    for timed, units in ((True, 3.0), (False, 7.0)):
        clock = Hand()
        race = made(clock, timed=timed)
        candidate = entered(race)
        candidate.seconds, candidate.passes = 3.0, 7.0
        clock.time = 11.0
        assert race._units(candidate) == units
        assert race._now(candidate) == (11.0 if timed else 7.0)


def test_the_size_that_the_time_supports_is_corrected_half_of_the_way_in_ratios() -> None:
    said.clear()
    race = made()
    candidate = entered(race, ARCH, "search", 8)
    candidate.seconds, candidate.passes = 0.5, 5.0
    race._correct(candidate)
    # 64,000 multiply-adds x 5 passes x 40 images in half a second, for 30 s over 600 passes of 50 images
    assert enough_passes(50) == pytest.approx(600)
    measured = 64_000 * 5 * 40 / 0.5 * 30 / (600 * 50)
    assert race.macs == pytest.approx(math.sqrt(64_000 * measured))
    assert said == []
    candidate.seconds = 0.002
    race._correct(candidate)
    assert said[0].startswith("the forecast changes: networks of about ")
    assert said[0].endswith("were planned")


def test_newcomers_are_built_around_who_leads() -> None:
    race = made()
    rng = np.random.default_rng(0)

    def channels(place: int, arch: Arch = FAR) -> int:
        entry = race._sized(race.sides[0], "search", arch, place, rng)
        assert entry is not None
        assert (entry.role, entry.arch, entry.counts) == ("search", arch, square(arch, entry.scale))
        return entry.scale.channels

    assert [channels(place) for place in range(5)] == [8, 8, 6, 12, 8]  # 1, 1, a half, twice
    entered(race, ARCH, "search", 32, 0.5)
    assert channels(0) == 8  # nobody leads at the second rung
    assert channels(2, NEAR) == 32  # one answer apart: as large as the leader
    race.candidates[0].standing.scores.append(0.6)
    assert [channels(place) for place in range(4)] == [32, 32, 24, 48]
    assert channels(2, NEAR) == 32
    race.sizes = Sizes(8, 1, 3, square, Bounds(max_params=1).and_also(None), depths=(1,))
    assert race._sized(race.sides[0], "search", FAR, 0, rng) is None


def test_standards_have_a_size_of_their_own_and_openers_say_theirs() -> None:
    race = made()
    standard = Entry("standard", FAR, Scale(16), Counts(1, 2))
    race.sides[0].standards = [Entry("standard", NEAR, Scale(16), Counts(1, 2)), standard]
    assert race._sized(race.sides[0], "standard", FAR, 0, np.random.default_rng(0)) is standard
    known = made(opener=SimpleNamespace(sized=lambda arch: (Scale(5), Counts(6, 7)), named=lambda arch: "known", first=list, foretold=lambda arch: None))
    assert known._sized(known.sides[0], "search", FAR, 0, np.random.default_rng(0)) == Entry("search", FAR, Scale(5), Counts(6, 7))
    assert entered(known).name == "known"


def test_names_of_candidates_say_the_size_where_it_was_chosen() -> None:
    race = made()
    assert entered(race, ARCH, "search", 8).name == "nasbench201:0.0.0 C8 N1"
    assert entered(race, NEAR, "standard", 16).name == "nasbench201:0.1.0"
    assert entered(race, FAR, "standard", 8).name == "nasbench201:1.1.0 C8 N1"
    assert [c.number for c in race.candidates] == [0, 1, 2]
    assert [c.standing.favoured for c in (entered(race, ARCH, "start"), entered(race, ARCH, "tuned"), entered(race))] == [True, False, False]
    assert not any(c.standing.known for c in race.candidates)
    assert entered(made(opener=SimpleNamespace(named=str, foretold=lambda arch: None)), ARCH, "tuned").standing.known
    assert race.sides[0].asker.known.keys() == {ARCH, NEAR, FAR}


def test_who_leads_and_how_many_scores_there_are() -> None:
    race = made()
    assert race._ahead(0) is None
    assert not race._any_scored()
    first, second = entered(race), entered(race, NEAR)
    assert not race._any_scored()
    second.standing.scores.append(0.4)
    assert race._any_scored()
    assert race._ahead(0) is second
    first.standing.scores += [0.3, 0.2]
    assert race._ahead(0) is first


def test_a_strategy_may_take_a_twentieth_of_the_time() -> None:
    race = made()
    race.strategy_seconds = 4.99
    assert race._patient()
    race.strategy_seconds = 5.0
    assert not race._patient()
    assert made(timed=False)._patient()


@pytest.mark.parametrize(
    ("changes", "opened"), [({"by_likelihood": True}, 0.25), ({"by_likelihood": False}, 0.75), ({"by_likelihood": False, "metric": "macro_f1"}, None)]
)
def test_a_network_that_knows_something_is_worth_at_least_what_is_foretold(changes: dict[str, Any], opened: float | None) -> None:
    race = made(opener=SimpleNamespace(named=str, foretold=lambda arch: SimpleNamespace(accuracy=0.75, score=math.log(0.25), n=50)), **changes)
    candidate = entered(race, asked=True)
    candidate.seconds, candidate.steps, candidate.passes = 2.5, 6, 1.2
    race._reach(candidate, 0, {"score": 0.125, "accuracy": 0.5}, 2.0)  # after a few steps it is right less often
    assert candidate.standing.scores == [pytest.approx(0.125 if opened is None else opened)]
    assert candidate.accuracy == (0.5 if opened is None else 0.75)  # people read what it stands for, and not the dip
    assert candidate.curve[0].get("measured") == (None if opened is None else 0.5)
    again = dict(candidate.curve[0])
    assert candidate.best_so_far(again, "accuracy") == again  # of a journal that is read again
    assert [score for _, score, *_ in race.sides[0].asker.strategy.log] == candidate.standing.scores  # type: ignore[attr-defined]
    race._reach(candidate, 1, {"score": 0.875, "accuracy": 0.8}, 4.0)
    assert (candidate.standing.scores[-1], candidate.accuracy) == (0.875, 0.8)


def test_a_score_is_paid_for_and_told_once() -> None:
    race = made()
    candidate = entered(race, asked=True)
    candidate.seconds, candidate.steps, candidate.passes = 2.5, 6, 1.2
    race._reach(candidate, 0, {"score": 0.25, "accuracy": 0.5}, 2.0)
    told = race.sides[0].asker.strategy.log  # type: ignore[attr-defined]
    assert told == [(ARCH, 0.25, 2.5, 48)]
    assert (race.spent, candidate.standing.scores, candidate.accuracy, candidate.reason) == ([2.0, 0.0, 0.0], [0.25], 0.5, "")
    assert race.macs != 64_000
    race._reach(candidate, 1, {"score": 0.75, "accuracy": 0.8}, 4.0)
    assert (race.spent, candidate.standing.scores, len(told)) == ([2.0, 4.0, 0.0], [0.25, 0.75], 1)
    race._reach(candidate, 1, {}, 1.0)
    assert (race.spent[1], candidate.standing.failed, candidate.reason) == (5.0, True, "the training loss was not finite")


@pytest.mark.parametrize("changes", [{"timed": False}, {"opener": SimpleNamespace(named=str, foretold=lambda arch: None)}])
def test_sizes_are_not_corrected_where_no_time_was_measured_or_sizes_are_given(changes: dict[str, Any]) -> None:
    race = made(**changes)
    candidate = entered(race)
    candidate.seconds, candidate.steps, candidate.passes = 2.5, 6, 1.2
    race._reach(candidate, 0, {"score": 0.25}, 2.0)
    assert race.macs == 64_000


def test_a_journal_is_done_again() -> None:
    enter = {"event": "enter", "number": 0, "role": "search", "arch": str(ARCH), "scale": write_scale(Scale(8, 1, 8, 1, 3)), "counts": [8, 64_000],
             "exchange": [["ask", str(ARCH)]], "side": 0}  # fmt: skip
    rung = {"event": "rung", "number": 0, "rung": 0, "point": {"score": 0.3, "accuracy": 0.4}, "cost": 2.1, "seconds": 2.2, "passes": 1.5, "steps": 7}
    refused = {"event": "refused", "arch": str(NEAR), "exchange": [["ask", str(ARCH)]], "side": 0}
    race = made(records=(refused, enter, rung, {"event": "choice", "number": 0}))
    race._continue()
    (candidate,) = race.candidates
    assert (candidate.seconds, candidate.passes, candidate.steps, candidate.entry.asked, race.winner) == (2.2, 1.5, 7, True, 0)
    assert candidate.entry == Entry("search", ARCH, Scale(8, 1, 8, 1, 3), Counts(8, 64_000), True, 0)
    log = race.sides[0].asker.strategy.log  # type: ignore[attr-defined]
    assert [(arch, score) for arch, score, _, _ in log[1:]] == [(ARCH, 0.3)]
    assert log[0][0] == NEAR
    assert math.isnan(log[0][1])
    for damaged in ({**enter, "counts": [1]}, {**rung, "number": 3}, {"event": "rung", "number": 0}):
        with pytest.raises(RunError, match=rf"record 1 of the race \('{damaged['event']}'\) is damaged: .*; make a new run"):
            made(records=(damaged,))._continue()
    with pytest.raises(RunError, match="the strategy asked for nasbench201:0.1.0, now it asks for nasbench201:0.0.0"):
        made(records=({**enter, "exchange": [["ask", str(NEAR)]]},))._continue()


def test_the_last_record_of_a_kind_counts_and_records_have_the_clock() -> None:
    clock = Hand()
    race = made(clock, records=({"event": "choice", "number": 1}, {"event": "choice", "number": 2}, {"event": "other"}))
    assert race._noted("choice")["number"] == 2
    clock.time = 1.23456
    race._note("something", value=3)
    assert race.journal.records[-1] == {"event": "something", "clock": 1.235, "value": 3}


def test_the_best_is_chosen_and_why_none_could_be() -> None:
    said.clear()
    race = made()
    first, second = entered(race, ARCH, "search", 8, 0.2), entered(race, NEAR, "search", 8, 0.6)
    second.curve, second.passes, second.seconds = [{"accuracy": 0.6}], 4.4, 3.0
    race._choose()
    assert race.winner == 1
    assert race.journal.records[-1] == {"event": "choice", "clock": 0.0, "number": 1, "trained": 3.0, "began": 0.0}
    assert said == ["nasbench201:0.1.0 C8 N1 goes on to the end: 60.0% on 10 validation images after 4 epochs"]
    second.passes = 0.337
    race._choose()
    assert said[-1].endswith("after 0.34 epochs")
    second.passes = 1.2
    race._choose()
    assert said[-1].endswith("after 1 epoch")
    first.curve, first.standing.scores, second.standing.scores = [{"accuracy": 0.55}], [0.1, 0.2, 0.5], [0.3, 0.4, 0.6]
    first.standing.passes, second.standing.passes, first.passes = [1.0, 3.0, 9.0], [3.0, 9.0, 27.0], 9.0
    race._choose()
    assert race.winner == 0
    assert said[-1] == "nasbench201:0.0.0 C8 N1 goes on to the end: 55.0% on 10 validation images after 9 epochs; nasbench201:0.1.0 C8 N1 was ahead in equal time (60.0%), but not after equally many epochs"
    first.standing.favoured, second.standing.scores = True, [0.3, 0.51, 0.6]
    race._choose()
    assert race.winner == 0
    assert said[-1].endswith("but not by so much that more training does not make it good")
    second.standing.scores = [0.3, 0.7, 0.7]
    race._choose()
    assert race.winner == 1
    for candidate in (first, second):
        candidate.standing.failed, candidate.reason = True, "it exploded"
    with pytest.raises(RunError, match="none of 2 networks could be trained: it exploded"):
        race._choose()
    empty = made()
    with pytest.raises(RunError, match="none of 0 networks could be trained: the time was too short for the first rung"):
        empty._choose()
    empty.exhausted = True
    with pytest.raises(RunError, match="all that were proposed are above the limits"):
        empty._choose()


def test_newcomers_that_no_size_makes_small_enough_are_refused_twenty_times() -> None:
    race = made()
    race.sizes = Sizes(8, 1, 3, square, Bounds(max_params=1).and_also(None), depths=(1,))
    asked = iter(Arch("nasbench201", (n, n, n)) for n in range(99))
    race.sides[0].asker.strategy.ask = lambda n: [SimpleNamespace(arch=next(asked))]  # type: ignore[method-assign, assignment, return-value]
    assert race._enter() is None
    events = [record["event"] for record in race.journal.records]
    assert events == [*["refused"] * module.MOST_REFUSED, "dry"]
    assert len(race.sides[0].asker.strategy.log) == 20  # type: ignore[attr-defined]


def test_whoever_enters_is_noted_with_what_was_exchanged() -> None:
    race = made()
    candidate = race._enter()
    assert candidate is not None
    assert candidate.entry == Entry("search", ARCH, Scale(8, 1, 8, 1, 3), Counts(8, 64_000), True, 0)
    assert race.journal.records == [{
        "event": "enter", "clock": 0.0, "number": 0, "role": "search", "arch": "nasbench201:0.0.0", "scale": write_scale(Scale(8, 1, 8, 1, 3)),
        "counts": [8, 64_000], "exchange": [["ask", "nasbench201:0.0.0"]], "side": 0,
    }]  # fmt: skip


def test_one_answer_apart() -> None:
    assert one_answer_apart(ARCH, NEAR)
    assert not one_answer_apart(ARCH, ARCH)
    assert not one_answer_apart(ARCH, FAR)
    assert not one_answer_apart(ARCH, Arch("other", (0, 1, 0)))
    assert not one_answer_apart(ARCH, Arch("nasbench201", (0, 1)))
    assert [was_asked(exchange) for exchange in ([], [["ask", "a"]], [["ask", "a"], ["again", 1.0]], [["step", 1]])] == [False, True, False, False]


def test_images_at_another_size_are_split_as_before() -> None:
    images = torch.arange(10 * 16, dtype=torch.uint8).reshape(10, 1, 4, 4)
    both = Pixels(images, torch.arange(10), (0.5,), (0.5,))
    sets = Sets(both.subset(torch.arange(7)), both.subset(torch.arange(7, 10)), both, torch.arange(7, 10))
    assert sets.at(Scale(4, 1, 4, 1, 3)) is sets
    smaller = sets.at(Scale(4, 1, 2, 1, 3))
    assert (len(smaller.train), len(smaller.validation), len(smaller.both), smaller.both.image_size) == (7, 3, 10, 2)
    assert smaller.train.labels.tolist() == list(range(7))
    assert smaller.validation.labels.tolist() == [7, 8, 9]


def test_the_rate_of_a_step_counts_its_time_and_keeps_the_peak() -> None:
    clock = Hand()
    race = made(clock)
    candidate = entered(race)
    candidate.seconds = 10.0
    trainer = SimpleNamespace(steps=200, passes=3.0, recipe=Recipe(lr=0.4), turn=0.5, saved=[])
    trainer.save = lambda path, **facts: trainer.saved.append((path.name, facts))
    steps: list[float] = []

    def share(a_step: float) -> float | None:
        steps.append(a_step)
        return 0.5 if len(steps) < 4 else None

    rate = race._follow(candidate, trainer, share, "race")  # type: ignore[arg-type]
    assert rate() == pytest.approx(0.2)
    clock.time, trainer.steps, trainer.passes = 4.0, 208, 3.9
    assert rate() == pytest.approx(0.2)
    assert (candidate.seconds, candidate.passes, candidate.steps) == (14.0, 3.9, 208)
    clock.time, trainer.passes, trainer.steps = 5.0, 4.0, 210
    assert rate() == pytest.approx(0.2)
    assert trainer.saved == [("race-0.safetensors", {"seconds": 15.0, "clock": 5.0})]  # five seconds and a pass later
    assert rate() is None
    assert steps == [0.0, 0.5, 0.5, 0.5]
    assert len(trainer.saved) == 1
    exact = made(timed=False)
    follow = exact._follow(entered(exact), trainer, share, "race")  # type: ignore[arg-type]
    assert follow() is None
    assert steps[-1] == 0.5  # a step of passes is the training's own
    assert Standing().rung == 0


@pytest.mark.parametrize(("step", "ends", "scored"), [(1.5, 1.5, True), (0.5, 2.0, True), (1.5, 50.0, False), (0.5, 50.0, False)])
def test_a_step_that_is_longer_than_what_is_left_to_a_rung_is_scored_and_the_end_of_the_race_is_not(
    step: float, ends: float, scored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rung is at 2: a step of 1.5 s ends at 1.5, nearer to it than 3; one that the end of the race (40) left there never got to it."""
    clock = Hand()
    race = made(clock)
    entered(race, ARCH, "search", 8, 0.1)  # there is a network to hand over
    candidate = entered(race, NEAR)

    class Trainer:
        def run(self, rate: Any) -> bool:
            while rate(step) is not None:
                candidate.seconds += step
                clock.time = ends
            return True

        def save(self, path: Path, **numbers: float) -> None:
            pass

    monkeypatch.setattr(race, "_open", lambda candidate: Trainer())
    monkeypatch.setattr(race, "_follow", lambda candidate, trainer, share, stage: share)
    point = {"score": 0.3, "accuracy": 0.3, "low": 0.2, "high": 0.4, "loss": 1.0, "seconds": 1.3, "passes": 0.0}
    monkeypatch.setattr(race, "_scored", lambda candidate, trainer: dict(point))
    race._advance(candidate)
    assert candidate.standing.scores == ([0.3] if scored else [])


def test_few_steps_of_a_published_network_are_small_ones() -> None:
    race = made()
    candidate = entered(race)
    candidate.steps = 8
    assert candidate.peak(10.0, 1.0) == 1.0  # from scratch
    candidate.standing.known = True
    assert candidate.peak(10.0, 1.0) == pytest.approx((18 / FEW_STEPS) ** 2)
    assert candidate.peak(10.0, 0.1) == 1.0
    assert candidate.peak(10.0, 0.0) == 1.0  # nothing is known of it
    assert candidate.peak(-1.0, 1.0) == pytest.approx((8 / FEW_STEPS) ** 2)
    candidate.seconds = 4.0
    assert candidate.peak(10.0, 0.0) == pytest.approx((28 / FEW_STEPS) ** 2)  # the first step of the last training: as long as those of the race
