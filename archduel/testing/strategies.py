"""What every strategy must do. Inherit :class:`StrategyContract`, say how yours is made, run pytest."""

from __future__ import annotations

from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from archduel.core import (
    Arch,
    Budget,
    Constraint,
    Cost,
    Estimate,
    Finalists,
    Local,
    Query,
    Result,
    Space,
    Strategy,
    enumerate_space,
    search,
)
from archduel.errors import StateError
from archduel.testing.states import assert_same_state, global_randomness_untouched, through_disk
from archduel.testing.toy import ToySpace, toy_score

__all__ = ["StrategyContract"]


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
