"""What a race says of itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from archduel.commands.search.fronts import front_sentence
from archduel.commands.search.race import race_sentence
from archduel.commands.search.words import compared_rung
from archduel.core import Arch, Counts, Scale
from archduel.race import Candidate
from archduel.race.candidates import going_on
from archduel.race.fronts import members_going_on
from archduel.race.newcomers import Entry

WINNER = Candidate(0, Entry("search", Arch("stages", (0,)), Scale(4, 1, 8, 1, 3), Counts(1, 1)), "the winner")


def row(role: str, number: int, accuracy: float, rung: int = 0) -> dict[str, Any]:
    """A row of the standings with an interval of ten points."""
    values = {"accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05, "seconds": 4.0, "passes": 3.0}
    return {"rung": rung, "role": role, "number": number, "n": 2, **values}


def test_one_network_is_nothing_to_compare() -> None:
    assert "nothing to compare" in race_sentence(WINNER, [row("search", 0, 0.5)], 100)
    assert "nothing to compare" in race_sentence(WINNER, [], 100)


def test_the_rung_with_most_kinds_counts() -> None:
    rows = [row(role, i, 0.3 + i / 10) for i, role in enumerate(("search", "random", "standard"))]
    assert compared_rung([*rows, row("search", 0, 0.8, 1), row("start", 3, 0.7, 1)]) == 0
    assert compared_rung([*rows, *(row(role, i, 0.8, 1) for i, role in enumerate(("start", "random", "standard")))]) == 1
    assert compared_rung(rows[:1]) is None


def test_the_highest_rung_with_two_networks_counts() -> None:
    rows = [row("search", 0, 0.5), row("random", 1, 0.3), row("standard", 2, 0.2), row("search", 0, 0.9, 1)]
    text = race_sentence(WINNER, rows, 100)
    assert "the search's best 50.0 % (45.0 to 55.0, best of 2)" in text
    assert "about 4 s" in text
    assert "on 100 validation images" in text
    assert "The search's best is ahead of the others" in text


def test_one_network_of_two_kinds_is_named_once() -> None:
    text = race_sentence(WINNER, [row("search", 0, 0.5), row("random", 0, 0.5), row("standard", 2, 0.2)], 100)
    assert "the best random one is the same network (best of 2)" in text
    assert "the winner led where the race trained longest" in text


def test_a_winner_that_was_behind_is_not_said_to_have_led() -> None:
    rows = [row("start", 0, 0.4), {**row("search", 1, 0.45), "name": "the quick one"}]
    start = replace(WINNER, entry=replace(WINNER.entry, role="start"))
    assert "the winner was behind the quick one where the race trained longest, by less than further training makes good, and was trained on" in race_sentence(start, rows, 100)
    # the score decides, not the accuracy
    assert "the winner led where" in race_sentence(start, [{**rows[0], "score": 0.3}, {**rows[1], "score": 0.2}], 100)


def test_overlap_and_absence_are_said() -> None:
    text = race_sentence(WINNER, [row("search", 0, 0.50), row("start", 1, 0.45)], 100, timed=False)
    assert "do not tell them apart" in text
    assert "about 3 epochs" in text
    assert "No random or standard network got that far" in text


def test_a_winner_that_others_had_more_training_than_is_not_said_to_have_led_there() -> None:
    rows = [row("tuned", 0, 0.5), row("start", 1, 0.2), row("start", 1, 0.3, 1)]
    soon = replace(WINNER, curve=[{"accuracy": 0.5}])
    assert "the winner was ahead after less training than another had" in race_sentence(soon, rows, 100)
    assert "the winner led where the race trained longest" in race_sentence(replace(soon, curve=soon.curve * 2), rows, 100)


def member(place: int, *, knee: bool) -> dict[str, Any]:
    """A member of a front, larger ones first."""
    return {"member": place, "knee": knee, "non_dominated": True, "costs": {"macs": 1000 // place}, "validation": {"accuracy": 0.8 - 0.1 * place}}


def test_another_member_than_the_knee_is_offered_and_one_alone_is_no_range() -> None:
    found = {"objectives": ["accuracy", "macs"], "members": [member(1, knee=True), member(2, knee=False), member(3, knee=False)]}
    text = front_sentence(found, 100)
    assert "from member 1 70.0 % with 1,000 multiply-adds to member 3 50.0 %" in text
    assert "Member 1, the knee, is handed over; `archduel export RUN --member 2 --to FOLDER` takes another one." in text
    assert "compared by the likelihood" not in text
    beaten = [member(1, knee=True), {**member(2, knee=False), "non_dominated": False, "validation": {"accuracy": 0.9}}]
    told = front_sentence({**found, "rank_by": "likelihood", "members": beaten}, 100)
    assert "to member 2 90.0 % with 500 multiply-adds. They are compared by the likelihood of the right classes, which need not follow accuracy. 1 of them is beaten" in told
    alone = front_sentence({**found, "members": [member(1, knee=True)]}, 100)
    assert alone == (
        "1 network between accuracy and macs was trained to the end, member 1 70.0 % with 1,000 multiply-adds on 100 validation images. "
        "It is handed over; there is no other to take."
    )


def test_who_is_trained_to_the_end_is_counted_in_words_that_fit() -> None:
    assert members_going_on(1, 1, 1) == "one network was trained as far as it can be scored; it goes on to the end"
    assert members_going_on(1, 4, 1) == "1 of 4 networks is beaten by none in everything; it goes on to the end"
    assert members_going_on(3, 4, 3) == "3 of 4 networks are beaten by none in everything; each goes on to the end"
    assert members_going_on(3, 4, 1) == "3 of 4 networks are beaten by none in everything; 1 of them goes on to the end"


def test_who_goes_on_is_told_in_the_metric_of_the_race() -> None:
    winner = replace(WINNER, curve=[{"accuracy": 0.252}], passes=1.0)
    assert going_on(winner, [winner], 99) == "the winner goes on to the end: 25.2% on 99 validation images after 1 epoch"
    assert "25.2% balanced accuracy on 99 validation" in going_on(winner, [winner], 99, "balanced_accuracy")
