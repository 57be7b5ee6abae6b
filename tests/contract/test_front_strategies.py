"""Strategies that search for a front keep the contract too, those that weigh objectives themselves and those that are told one number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archduel.assemble import assemble
from archduel.core import SCORE, Constraint, Objectives, Strategy
from archduel.testing.strategies import StrategyContract
from archduel.testing.toy import ToyRanker

SMALL: dict[str, dict[str, Any]] = {
    "best": {"bred": 20, "generations": 2, "initial": 5},
    "nsga2": {"population": 6},
    "tpe": {"patience": 5, "startup": 5},
    "evolution": {"population": 10, "tournament": 3, "patience": 200},
}
NEVER_REPEAT = {"best", "nsga2"}


def sizes(archs: Any) -> Any:
    """Something that is known beforehand."""
    return np.array([1.0 + sum(arch.choices) for arch in archs])


@pytest.mark.parametrize("known", [True, False], ids=["known", "told"])
@pytest.mark.parametrize("name", sorted(SMALL), scope="class")
class TestFrontStrategies(StrategyContract):
    @pytest.fixture(autouse=True)
    def _named(self, name: str, known: bool) -> None:
        self.name = name
        self.repeats = name not in NEVER_REPEAT
        self.evaluations = 12 if name == "tpe" else 24
        # what is not known beforehand is told with every answer
        self.objectives = Objectives((SCORE, "size"), {"size": sizes}) if known else Objectives((SCORE, "params"))

    def make(self, seed: int, constraint: Constraint | None = None) -> Strategy:
        given = {"ranker": ToyRanker(self.space)}
        return assemble(
            self.name, self.space, seed=seed, constraint=constraint, objectives=self.objectives, settings=SMALL[self.name], given=given
        )

    def test_what_it_says_of_itself_is_true(self) -> None:
        """Holds for the class on the menu, and is checked there."""

    def test_best_is_valid_and_was_worth_it(self) -> None:
        """The best is the knee of the front: nothing that was asked is better in both."""
        strategy = self.make(1)
        _, asked = self._run(strategy)
        losses = {arch: self.objectives.losses(arch, self._estimate_one(arch)) for arch in asked}
        mine = losses[strategy.best()]
        assert not any(all(a <= b for a, b in zip(other, mine)) and other != mine for other in losses.values())

    def test_finalists_are_distinct_and_begin_with_good_ones(self) -> None:
        """Finalists are members of the front, the knee first."""
        strategy: Any = self.make(1)
        self._run(strategy)
        members = strategy.finalists(4)
        assert members[0] == strategy.best()
        assert len(set(members)) == len(members) <= 4

    def _estimate_one(self, arch: Any) -> Any:
        from archduel.core import Query

        return self._estimate([Query(arch)])[0]
