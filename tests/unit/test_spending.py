"""What strategies declare: defaults filled in, and declarations of another form refused with the name of what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from archduel.core.spending import KINDS, Allowance, Declaration, Prices, Probe, RandomFirst, declared
from archduel.errors import SettingError

PRICES = Prices(1.0, 2.0, 3.0, 4.0)


def of(**attributes: Any) -> Declaration:
    """Returns what a class with these attributes declares."""
    return declared(type("Mine", (), attributes))


def test_a_class_that_says_nothing_asks() -> None:
    says = of()
    assert says == Declaration()
    assert (says.kind, says.partners, says.compares, says.learns, says.schedule, says.probe) == ("asks", {}, False, None, "cosine", None)
    assert says.mixing({}, 7) == 7.0
    assert says.settings(Allowance(evaluations=9)) == {}
    assert KINDS == ("asks", "labels-first", "one-shot")


def test_one_that_labels_first_labels_all_but_its_proposals() -> None:
    says = of(kind="labels-first")
    assert says.settings(Allowance(evaluations=30, proposals=7)) == {"labels": 23}
    assert says.settings(Allowance(evaluations=30, proposals=7), PRICES) == {"labels": 23}
    own = of(kind="labels-first", compares=True, spend=lambda allowance, prices=None: {"labels": 3})
    assert own.settings(Allowance(evaluations=30)) == {"labels": 3}
    assert own.compares
    assert not of(kind="labels-first").compares


def test_a_one_shot_strategy_says_nothing_without_prices() -> None:
    probe = Probe("mix", {"epochs": 1}, 2)
    says = of(
        kind="one-shot", spend=lambda allowance, prices: {"epochs": int(allowance.work / prices.learn)}, learns=lambda settings, allowance: 5,
        mixing=lambda given, options: 2.0 * options, schedule="constant", probe=probe,
    )  # fmt: skip
    assert says.settings(Allowance(work=10.0)) == {}
    assert says.settings(Allowance(work=10.0), PRICES) == {"epochs": 10}
    assert says.learns is not None
    assert (says.learns({}, Allowance()), says.mixing({}, 3), says.schedule, says.probe) == (5, 6.0, "constant", probe)


def test_what_only_one_shot_strategies_say_is_no_ones_elses() -> None:
    says = of(learns=lambda settings, allowance: 5, schedule="constant", mixing=3, probe=Probe("mix", {}, 1))
    assert (says.learns, says.schedule, says.probe) == (None, "cosine", None)
    assert says.mixing({}, 2) == 2.0


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"kind": "guesses"}, "Mine.kind is 'guesses', expected one of asks, labels-first, one-shot"),
        ({"partners": {"friend": "x"}}, "Mine.partners is {'friend': 'x'}, expected names for policy and ranker"),
        ({"partners": ["ranker"]}, r"Mine.partners is \['ranker'\], expected names for policy and ranker"),
        ({"compares": True}, "Mine compares, which only a strategy of the kind 'labels-first' can; its kind is 'asks'"),
        ({"compares": True, "kind": "one-shot"}, "its kind is 'one-shot'"),
    ],
)
def test_declarations_of_another_form_are_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        of(**attributes)


@pytest.mark.parametrize("partners", [{}, {"ranker": "gp"}, {"policy": "lstm"}, {"policy": "lstm", "ranker": {"name": "gp", "share": 0.5}}])
def test_partners_are_a_policy_a_ranker_both_or_none(partners: dict[str, Any]) -> None:
    assert of(partners=partners).partners == partners


def test_an_allowance_is_nothing_until_it_is_given() -> None:
    one = Allowance()
    assert (one.evaluations, one.proposals, one.iterations, one.work, one.batches, one.space, one.given) == (0, 0, None, 0.0, 1, None, {})


def test_who_begins_with_random_architectures_says_how_many() -> None:
    assert isinstance(type("Mine", (), {"random_first": 3})(), RandomFirst)
    assert not isinstance(type("Mine", (), {})(), RandomFirst)
