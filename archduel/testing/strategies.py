"""What every strategy must do. Inherit :class:`StrategyContract`, say how yours is made, run pytest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from inspect import signature
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archduel.core import (
    Allowance,
    Arch,
    Budget,
    Constraint,
    Cost,
    Estimate,
    Finalists,
    Local,
    Prices,
    Query,
    RandomFirst,
    Result,
    Space,
    Strategy,
    enumerate_space,
    sample,
    search,
)
from archduel.core.spending import declared
from archduel.errors import StateError
from archduel.testing.suites import assert_same_state, global_randomness_untouched, through_disk
from archduel.testing.toy import ToySpace, toy_score

__all__ = ["OneShotContract", "StrategyContract", "check_declaration"]

# -- What a strategy says of itself must be true ----------------------------------------------------------------------------


def check_declaration(strategy: Strategy, space: Space, kinds: Sequence[str]) -> None:
    """Fails unless what the class of ``strategy`` declares fits its constructor, and what it spends are settings of it."""
    says, made = declared(type(strategy)), signature(type(strategy)).parameters.values()
    collaborators = {p.name for p in made if p.kind is p.POSITIONAL_OR_KEYWORD}
    settings = {p.name for p in made if p.kind is p.KEYWORD_ONLY}
    assert says.kind in kinds
    assert set(says.partners) <= collaborators
    assert ("shared" in collaborators) == (says.kind == "one-shot")
    if says.kind == "labels-first":
        assert "labels" in settings
        assert isinstance(strategy.labels, int)  # type: ignore[attr-defined]
    if isinstance(strategy, RandomFirst):
        assert strategy.random_first >= 0
    prices = Prices(1.0, 0.6, 4.0, 5.0) if says.kind == "one-shot" else None
    for evaluations, work in ((4, 50.0), (40, 2_000.0), (400, 50_000.0)):
        for iterations in (None, 100):
            allowance = Allowance(evaluations, evaluations // 4, iterations, work, batches=20, space=space)
            spent = says.spend(allowance, prices)
            assert set(spent) <= settings, f"spend gives settings that there are not: {sorted(set(spent) - settings)}"
            assert json.loads(json.dumps(spent)) == spent
            if says.learns is not None:
                assert says.learns({**{p.name: p.default for p in made}, **spent}, allowance) >= 1


# -- What every one-shot strategy must do. Inherit :class:`OneShotContract`, say how yours is made, run pytest ----------


class OneShotContract:
    """Inherit and override :meth:`make` (and the attributes where they do not fit).

    Attributes:
        space: what is searched.
        verify: how many candidates a strategy made with ``verify`` asks to evaluate on their own.
    """

    space: Any = ToySpace()
    verify = 3

    def make(self, seed: int, constraint: Constraint | None = None, *, verify: int = 0) -> Strategy:
        """Returns a fresh, short strategy over ``self.space`` and :class:`ToyShared`; every randomness comes from ``seed``."""
        raise AttributeError(f"{type(self).__name__} must define make(seed, constraint, verify=...)")

    # -- the tools of the suite ------------------------------------------------------------------------------

    def _turn(self, strategy: Strategy) -> Any:
        """Makes one turn of the loop and returns what was seen; None at the end."""
        queries = strategy.ask(2)
        if queries:
            strategy.tell(queries, [self._alone(query) for query in queries])
            return [str(query.arch) for query in queries]
        report = strategy.step()
        return None if report is None else {k: v for k, v in report.metrics.items() if v == v} | {"images": report.cost.images}

    def _alone(self, query: Query) -> Estimate:
        return Estimate(toy_score(query.arch), Cost(1.0, 100))

    def _finish(self, strategy: Strategy) -> list[Any]:
        seen = []
        while (turn := self._turn(strategy)) is not None:
            seen.append(turn)
            assert len(seen) < 1000, "the search does not end"
        return seen

    # -- the contract ----------------------------------------------------------------------------------------

    def test_what_it_says_of_itself_is_true(self) -> None:
        """Kind, partners and spending fit the constructor."""
        check_declaration(self.make(0), self.space, ("one-shot",))

    def test_the_same_seed_makes_the_same_search(self) -> None:
        """Two runs with one seed see the same and end in the same state; another seed sees something else."""
        one, two, other = self.make(3, verify=2), self.make(3, verify=2), self.make(4, verify=2)
        assert (seen := self._finish(one)) == self._finish(two)
        assert_same_state(one.state_dict(), two.state_dict())
        assert self._finish(other) != seen

    def test_best_before_anything_raises(self) -> None:
        """There is no best before a step."""
        with pytest.raises(StateError):
            self.make(0).best()

    def test_there_is_a_valid_best_after_every_step(self) -> None:
        """Whenever the budget ends, an architecture can be named, and naming it changes nothing."""
        strategy = self.make(1, verify=2)
        while self._turn(strategy) is not None:
            before = deepcopy(strategy.state_dict())
            self.space.validate(strategy.best())
            assert_same_state(before, strategy.state_dict(), "naming the best changed the")

    def test_it_says_how_much_is_done_and_ends(self) -> None:
        """``done`` rises from above 0 to 1; afterwards there is nothing to ask and no step."""
        strategy = self.make(2)
        done = [turn["done"] for turn in self._finish(strategy)]
        assert all(a < b for a, b in pairwise(done))
        assert done[0] > 0
        assert done[-1] == 1
        assert strategy.ask(5) == []
        assert strategy.step() is None

    def test_it_learns_shared_weights_and_counts_the_images(self) -> None:
        """Training images are paid for in steps."""
        turns = self._finish(self.make(2))
        assert sum(turn["images"] for turn in turns) > 0

    def test_it_finds_more_than_chance(self) -> None:
        """The found architectures of a few searches are better than random ones on average."""
        found = []
        for seed in range(3):
            strategy = self.make(seed)
            self._finish(strategy)
            found.append(toy_score(strategy.best()))
        rng = np.random.default_rng(0)
        drawn = [toy_score(sample(self.space, rng)) for _ in range(300)]
        assert sum(found) / len(found) > sum(drawn) / len(drawn)

    def test_finalists_are_distinct(self) -> None:
        """Finalists, where a strategy has them, are valid, differ in fingerprint and begin with the best."""
        strategy = self.make(1)
        self._finish(strategy)
        if isinstance(strategy, Finalists):
            finalists = strategy.finalists(4)
            assert 1 <= len(finalists) <= 4
            assert finalists[0] == strategy.best()
            assert len({self.space.fingerprint(arch) for arch in finalists}) == len(finalists)

    @pytest.mark.parametrize("turns", [0, 1, 4, 9])
    def test_a_resumed_search_equals_an_uninterrupted_one(self, turns: int, tmp_path: Path) -> None:
        """A state that went through a file continues exactly, down to the state at the end."""
        strategy = self.make(5, verify=2)
        for _ in range(turns):
            self._turn(strategy)
        saved = strategy.state_dict()
        kept = deepcopy(saved)
        resumed = self.make(99, verify=2)
        resumed.load_state_dict(through_disk(saved, tmp_path))
        assert_same_state(saved, resumed.state_dict())
        assert self._finish(strategy) == self._finish(resumed)
        assert_same_state(strategy.state_dict(), resumed.state_dict())
        assert_same_state(kept, saved, "a saved state must not change with the strategy:")

    def test_global_randomness_is_untouched(self) -> None:
        """Only the generators that were given are used."""
        with global_randomness_untouched():
            self._finish(self.make(2))

    def test_the_constraint_is_respected(self) -> None:
        """Nothing that the constraint forbids is asked, named best or a finalist."""

        def allowed(arch: Arch) -> bool:
            return sum(arch.choices) % 2 == 0

        strategy = self.make(6, allowed, verify=2)
        for turn in iter(lambda: self._turn(strategy), None):
            asked = [text for text in turn if isinstance(turn, list)]
            assert all(sum(map(int, text.partition(":")[2].split("."))) % 2 == 0 for text in asked)
            assert allowed(strategy.best())
        if isinstance(strategy, Finalists):
            assert all(map(allowed, strategy.finalists(5)))

    def test_stand_alone_scores_count_before_inherited_ones(self) -> None:
        """With ``verify`` the best candidates are asked, and the best of them by that score is named; a failure never is."""
        strategy, asked = self.make(7, verify=self.verify), list[Arch]()

        def alone(query: Query) -> Estimate:
            """Fails the first time, then gives the true score."""
            asked.append(query.arch)
            failed = len(asked) == 1
            return Estimate(float("nan"), Cost(), {}, "out of memory") if failed else Estimate(toy_score(query.arch))

        self._alone = alone  # type: ignore[method-assign]
        self._finish(strategy)
        assert 1 <= len(asked) <= self.verify
        assert len(set(asked)) == len(asked)
        if len(asked) > 1:
            assert strategy.best() == max(asked[1:], key=toy_score)


class StrategyContract:
    """Inherit and override :meth:`make` (and the attributes where they do not fit).

    Attributes:
        space: what is searched.
        evaluations: length of the searches.
        repeats: whether the strategy may ask an architecture twice.
    """

    space: Any = ToySpace()
    evaluations = 40
    repeats = True

    def make(self, seed: int, constraint: Constraint | None = None) -> Strategy:
        """Returns a fresh strategy over ``self.space``; every randomness comes from ``seed``."""
        raise AttributeError(f"{type(self).__name__} must define make(seed, constraint)")

    def score(self, arch: Arch) -> float:
        """Returns what the strategy is told about ``arch``."""
        return toy_score(arch)

    # -- the tools of the suite ------------------------------------------------------------------------------

    def _estimate(self, queries: list[Query]) -> list[Estimate]:
        return [Estimate(self.score(q.arch), Cost(1.0, 100), {"params": len(q.arch.choices)}) for q in queries]

    def _run(self, strategy: Strategy, evaluations: int | None = None, window: int = 3) -> tuple[Result, list[Arch]]:
        asked: list[Arch] = []

        def estimate(queries: list[Query]) -> list[Estimate]:
            asked.extend(q.arch for q in queries)
            return self._estimate(queries)

        budget = Budget(evaluations or self.evaluations)
        return search(strategy, Local(estimate), budget=budget, window=window, clock=None), asked

    def _advance(self, strategy: Strategy, rounds: int, window: int = 3) -> list[Any]:
        """Runs ``rounds`` turns of the loop by hand and returns what was seen."""
        seen: list[Any] = []
        for _ in range(rounds):
            queries = strategy.ask(window)
            if queries:
                strategy.tell(queries, self._estimate(queries))
                seen.append([str(q.arch) for q in queries])
            else:
                report = strategy.step()
                seen.append(None if report is None else dict(report.metrics))
                if report is None:
                    break
        return seen

    # -- the contract ----------------------------------------------------------------------------------------

    def test_what_it_says_of_itself_is_true(self) -> None:
        """Kind, partners and spending fit the constructor."""
        check_declaration(self.make(0), self.space, ("asks", "labels-first"))

    def test_the_same_seed_makes_the_same_search(self) -> None:
        """Two runs with one seed ask the same and find the same; another seed asks something else."""
        (first, asked), (second, again) = self._run(self.make(3)), self._run(self.make(3))
        assert asked == again
        assert first.best == second.best
        assert [dict(report.metrics) for report in first.steps] == [dict(report.metrics) for report in second.steps]
        assert self._run(self.make(4))[1] != asked

    def test_asks_at_most_what_is_wanted_and_only_valid_ones(self) -> None:
        """Windows of 1, 2, 7: never more than asked for, every architecture valid."""
        for window in (1, 2, 7):
            strategy, space = self.make(0), self.space
            for _ in range(15):
                queries = strategy.ask(window)
                assert len(queries) <= window
                for query in queries:
                    space.validate(query.arch)
                strategy.tell(queries, self._estimate(queries))
                if not queries and strategy.step() is None:
                    break

    def test_best_before_anything_raises(self) -> None:
        """There is no best before a tell or a step."""
        with pytest.raises(StateError):
            self.make(0).best()

    def test_best_is_valid_and_was_worth_it(self) -> None:
        """The best is a valid architecture that is better than the mean of what was evaluated."""
        result, asked = self._run(self.make(1))
        self.space.validate(result.best)
        assert asked
        assert self.score(result.best) > sum(map(self.score, asked)) / len(asked)

    def test_finalists_are_distinct_and_begin_with_good_ones(self) -> None:
        """Finalists, where a strategy has them, are valid, differ in fingerprint and number at most n."""
        strategy = self.make(1)
        if isinstance(strategy, Finalists):
            self._run(strategy)
            before = deepcopy(strategy.state_dict())
            finalists = strategy.finalists(3)
            assert 1 <= len(finalists) <= 3
            space: Space = self.space
            assert len({space.fingerprint(arch) for arch in finalists}) == len(finalists)
            assert_same_state(before, strategy.state_dict(), "finalists must not change the")

    @pytest.mark.parametrize("rounds", [0, 1, 4, 13])
    def test_a_resumed_search_equals_an_uninterrupted_one(self, rounds: int, tmp_path: Path) -> None:
        """A state that went through a file continues exactly, down to the state at the end."""
        strategy = self.make(5)
        self._advance(strategy, rounds)
        saved = strategy.state_dict()
        kept = deepcopy(saved)
        resumed = self.make(99)
        resumed.load_state_dict(through_disk(saved, tmp_path))
        assert_same_state(saved, resumed.state_dict())
        assert self._advance(strategy, 12) == self._advance(resumed, 12)
        assert_same_state(strategy.state_dict(), resumed.state_dict())
        assert_same_state(kept, saved, "a saved state must not change with the strategy:")

    def test_global_randomness_is_untouched(self) -> None:
        """Only the generators that were given are used."""
        with global_randomness_untouched():
            self._run(self.make(2), 15)

    def test_told_arguments_are_not_modified(self) -> None:
        """Queries and estimates are the same after tell, and lists are not kept."""
        strategy = self.make(2)
        queries = strategy.ask(3)
        estimates = self._estimate(queries)
        copies = deepcopy((queries, estimates))
        strategy.tell(queries, estimates)
        assert (queries, estimates) == copies
        before = deepcopy(strategy.state_dict())
        queries.clear()
        estimates.clear()
        assert_same_state(before, strategy.state_dict(), "the strategy keeps the lists it was given:")

    def test_the_constraint_is_respected(self) -> None:
        """Nothing that the constraint forbids is asked, named best or a finalist."""

        def allowed(arch: Arch) -> bool:
            return sum(arch.choices) % 2 == 0

        strategy = self.make(6, allowed)
        result, asked = self._run(strategy)
        assert asked
        assert all(map(allowed, asked))
        assert allowed(result.best)
        if isinstance(strategy, Finalists):
            assert all(map(allowed, strategy.finalists(5)))

    def test_failed_evaluations_do_not_kill_the_search(self) -> None:
        """Every third evaluation fails; the best is one that did not."""
        strategy = self.make(7)
        failed: set[Arch] = set()

        def estimate(queries: list[Query]) -> list[Estimate]:
            """Fails for every architecture whose choices sum to a multiple of three."""
            answers = self._estimate(queries)
            for i, query in enumerate(queries):
                if sum(query.arch.choices) % 3 == 0:
                    failed.add(query.arch)
                    answers[i] = Estimate(float("nan"), Cost(1.0), {}, "out of memory")
            return answers

        result = search(strategy, Local(estimate), budget=Budget(self.evaluations), window=3, clock=None)
        assert failed
        assert result.best not in failed

    def test_never_repeats_where_it_promises(self) -> None:
        """A strategy with ``repeats = False`` asks every architecture once."""
        strategy = self.make(8)
        asked: list[Arch] = []
        for _ in range(60):
            queries = strategy.ask(2)
            asked += [q.arch for q in queries]
            strategy.tell(queries, self._estimate(queries))
            if not queries and strategy.step() is None:
                break
        assert asked
        if not self.repeats:
            assert len(set(asked)) == len(asked)

    def test_a_space_that_runs_out_ends_the_search(self) -> None:
        """With fewer architectures than the budget the search ends by itself."""
        few = _first(self.space, 12)
        result, asked = self._run(self.make(9, lambda arch: arch in few), evaluations=1000)
        assert len(set(asked)) <= len(few)
        assert result.best in few


def _first(space: Space, n: int) -> list[Arch]:
    return list(islice(enumerate_space(space), n))
