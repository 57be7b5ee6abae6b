"""The vocabulary: architectures, spaces' free functions, the journal, saved states, the loop."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from archduel.core import (
    Arch,
    Budget,
    Cost,
    Decision,
    Estimate,
    Journal,
    Local,
    Query,
    StepReport,
    decisions,
    enumerate_space,
    evaluation_seed,
    mutate,
    neighbours,
    parse,
    sample,
    search,
)
from archduel.core.storage import load_state, save_state
from archduel.errors import InfeasibleError, InvalidArchError, RunError, SettingError, StateError, unknown


class Two:
    """A space of two decisions, the second with as many options as the first says (1 to 3)."""

    name = "two"
    kinds = {"a": 3, "b": 3}

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        if len(prefix) == 0:
            return Decision("a", "a", (0, 1, 2))
        return Decision("b", "b", tuple(range(prefix[0] + 1))) if len(prefix) == 1 else None

    def validate(self, arch: Arch) -> None:
        for _ in decisions(self, arch.choices):
            pass

    def features(self, archs: Sequence[Arch]) -> np.ndarray:
        return np.array([arch.choices for arch in archs], np.float32)

    def fingerprint(self, arch: Arch) -> str:
        return str(arch)


class Ladder:
    """A strategy that asks 0, 1, 2, ... and repeats each once; steps once after every second tell."""

    def __init__(self, archs: list[Arch]) -> None:
        self.archs, self.position, self.told, self.steps = archs, 0, [], 0

    def ask(self, n: int) -> list[Query]:
        chosen = [Query(arch) for arch in self.archs[self.position : self.position + n]]
        self.position += len(chosen)
        return chosen

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        self.told += list(zip(queries, estimates))

    def step(self) -> StepReport | None:
        if self.steps:
            return None
        self.steps += 1
        return StepReport({"x": 1.0}, Cost(2.0))

    def best(self) -> Arch:
        return max(self.told, key=lambda pair: pair[1].score)[0].arch


ARCHS = [Arch("two", (a, b)) for a in range(3) for b in range(a + 1)]


def score(queries: Sequence[Query]) -> list[Estimate]:
    return [Estimate(sum(query.arch.choices) / 10, Cost(1.0, 5)) for query in queries]


def test_parse_reads_what_str_writes() -> None:
    assert parse("nasbench201:1.0.4.2.2.3") == Arch("nasbench201", (1, 0, 4, 2, 2, 3))
    assert parse(str(Arch("x", ()))) == Arch("x", ())


@pytest.mark.parametrize("text", ["", "abc", "x:1.-2", "x:1..2", ":1", "x:1,2", "x:one"])
def test_parse_shows_what_it_cannot_read(text: str) -> None:
    with pytest.raises(InvalidArchError, match="is not an architecture"):
        parse(text)


def test_enumeration_sampling_and_neighbours_agree() -> None:
    assert list(enumerate_space(Two())) == ARCHS
    rng = np.random.default_rng(0)
    assert {sample(Two(), rng) for _ in range(200)} == set(ARCHS)
    assert set(neighbours(Two(), Arch("two", (2, 1)))) == {Arch("two", c) for c in [(2, 0), (2, 2), (0, 0), (1, 1)]}


def test_mutations_are_valid_and_differ() -> None:
    rng = np.random.default_rng(1)
    for arch in ARCHS:
        for _ in range(20):
            child = mutate(Two(), arch, rng)
            Two().validate(child)
            assert child != arch


def test_constraints_hold_or_raise() -> None:
    rng = np.random.default_rng(2)
    assert all(sample(Two(), rng, lambda arch: arch.choices[0] == 2).choices[0] == 2 for _ in range(20))
    with pytest.raises(InfeasibleError, match="none of 50 random"):
        sample(Two(), rng, lambda arch: False, tries=50)
    with pytest.raises(InfeasibleError, match="no mutation"):
        mutate(Two(), ARCHS[0], rng, lambda arch: False)


def test_too_many_too_few_and_wrong_choices_are_named() -> None:
    for choices, message in [((2, 1, 0), "3 choices given, 2 expected"), ((2,), r"next \(b\) is missing"), ((0, 1), "choice 1 .b. is 1")]:
        with pytest.raises(InvalidArchError, match=message):
            list(decisions(Two(), choices))


def test_search_charges_repeats_once_and_stops_at_the_budget() -> None:
    strategy = Ladder([ARCHS[0], ARCHS[0], ARCHS[1], ARCHS[2], ARCHS[3]])
    result = search(strategy, Local(score), budget=Budget(evaluations=3), window=2)
    assert [told.query.arch for told in result.told] == ARCHS[:3]
    assert result.cost.seconds == 3.0
    assert result.cost.images == 15
    assert len(strategy.told) == 4
    assert result.best == ARCHS[2]


def test_search_ends_when_there_is_nothing_more_and_counts_steps() -> None:
    result = search(Ladder(list(ARCHS)), Local(score), budget=Budget(), window=4, clock=None)
    assert len(result.told) == 6
    assert len(result.steps) == 1
    assert result.cost.seconds == 8.0


def test_search_continues_from_its_journal_without_evaluating_again(tmp_path: Path) -> None:
    whole = search(Ladder(list(ARCHS)), Local(score), budget=Budget(), window=2, clock=None)
    journal = Journal(tmp_path / "j.jsonl")
    calls = 0

    def fails_after_three(queries: Sequence[Query]) -> list[Estimate]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return score(queries)

    with pytest.raises(KeyboardInterrupt):
        search(Ladder(list(ARCHS)), Local(fails_after_three), budget=Budget(), window=2, journal=journal)
    journal.close()
    seen: list[Query] = []

    def counted(queries: Sequence[Query]) -> list[Estimate]:
        seen.extend(queries)
        return score(queries)

    again = Journal(tmp_path / "j.jsonl")
    result = search(Ladder(list(ARCHS)), Local(counted), budget=Budget(), window=2, journal=again, clock=None)
    again.close()
    assert [query.arch for query in seen] == ARCHS[2:]
    assert result == whole


def test_a_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    search(Ladder(ARCHS[:2]), Local(score), budget=Budget(), journal=journal)
    with pytest.raises(RunError, match="now two:2.0 is asked"):
        search(Ladder(ARCHS[3:]), Local(score), budget=Budget(), journal=journal)
    journal.close()


def test_a_torn_last_line_is_dropped_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"event": "a"}\n{"event": "b"}\n{"eve')
    journal = Journal(path)
    assert [record["event"] for record in journal.records] == ["a", "b"]
    journal.append({"event": "c", "x": math.nan})
    journal.close()
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["a", "b", "c"]
    path.write_text('{"event": "a"}\nrubbish\n{"event": "b"}\n')
    with pytest.raises(RunError, match="line 2 is damaged"):
        Journal(path)


def test_states_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    state = {
        "numbers": [1, 2.5, None, True, "text"],
        "tuple": (1, (2, 3)),
        "keys": {(1, 2): "tuple key", 3: "int key"},
        "rng": rng.bit_generator.state,
        "generator": torch.Generator().manual_seed(5).get_state(),
        "array": np.arange(6, dtype=np.int64).reshape(2, 3).T,
        "scalar": np.float64(1.5),
        "zero": np.array(7.0),
        "tensor": torch.arange(4.0).view(2, 2).t(),
    }
    save_state(tmp_path / "s.safetensors", state)
    back = load_state(tmp_path / "s.safetensors")
    assert back["numbers"] == state["numbers"]
    assert back["tuple"] == (1, (2, 3))
    assert back["keys"] == state["keys"]
    assert back["rng"] == state["rng"]
    assert torch.equal(back["generator"], state["generator"])
    assert np.array_equal(back["array"], state["array"])
    assert back["zero"].shape == ()
    assert torch.equal(back["tensor"], state["tensor"])


def test_states_hold_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="got set"):
        save_state(tmp_path / "s", {"x": {1, 2}})
    (tmp_path / "t").write_bytes(b"not a state at all")
    with pytest.raises(StateError, match="is not a saved state"):
        load_state(tmp_path / "t")


def test_evaluation_seeds_depend_on_both_numbers_only() -> None:
    seeds = {evaluation_seed(run, ordinal) for run in range(20) for ordinal in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_budgets_below_one_are_errors() -> None:
    with pytest.raises(SettingError, match="budget evaluations must be above 0, got 0"):
        Budget(evaluations=0)


def test_unknown_names_offer_the_nearest() -> None:
    error = unknown("strategy", "ctna", ["ctnas", "random"], command="archduel list strategies")
    assert str(error) == "strategy 'ctna' is unknown; did you mean 'ctnas'? `archduel list strategies` shows all 2"
    assert isinstance(error, KeyError)
    assert str(unknown("table", "mine", [], command="archduel table list")) == (
        "table 'mine' is unknown; known: none yet (`archduel table list`)"
    )
