"""Every ranker on the menu keeps the contract, and so does the one that is shipped for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archduel import registry
from archduel.assemble import collaborator
from archduel.core import Arch, Ranker
from archduel.rankers.size_belief import SizeBelief
from archduel.rankers.warm import Source, warmed
from archduel.spaces.nasbench201.space import NASBench201
from archduel.testing.suites import RankerContract
from archduel.testing.toy import ToyRanker

SMALL: dict[str, dict[str, Any]] = {
    "nac": {"epochs": 30, "lr": 2e-3, "embedding_dim": 32},
    "renas": {"epochs": 40},
    "gcn": {"epochs": 60, "lr": 2e-3, "embedding_dim": 32},
    "onehot_mlp": {"epochs": 60},
    "boosting": {"trees": 60},
    "extratrees": {"trees": 30},
    "sklearn": {"settings": {"n_estimators": 30}},
    "best": {"trees": 30, "reference": 100, "folds": 3},
    "gp": {"reference": 200},
}
WORTH = (0.0, 0.05, 0.07, 0.1, 0.02)


class OnCells(RankerContract):
    space = NASBench201()
    learned: dict[str, Ranker]

    def __init_subclass__(cls) -> None:
        cls.learned = {}

    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.name = name

    def _asked(self) -> Ranker:
        if self.name not in self.learned:
            self.learned[self.name] = self._fitted()
        return self.learned[self.name]

    def make(self, seed: int) -> Ranker:
        return collaborator("ranker", {"name": self.name, **SMALL.get(self.name, {})}, self.space, seed=seed)

    def score(self, arch: Arch) -> float:
        return 0.3 + sum(WORTH[op] * weight for op, weight in zip(arch.choices, (1.2, 1.1, 1, 1, 1, 1)))


@pytest.mark.parametrize("name", registry.names("ranker"), scope="class")
class TestEveryRanker(OnCells):
    pass


class TestBeliefAboutSize(TestEveryRanker):
    """A ranker that is taught lifted labels keeps the contract too; here size says what labels say."""

    def make(self, seed: int) -> Ranker:
        sizes = lambda archs: np.array([self.score(arch) for arch in archs])  # noqa: E731
        return SizeBelief(super().make(seed), sizes, 0.5)


@pytest.mark.parametrize("name", ["gp", "best", "nac"], scope="class")
class TestRankersThatBeginWithWhatAnotherTaskKnows(OnCells):
    """Its labels have nearly the same order here; one ranker learns what they leave, another goes on from its weights."""

    def make(self, seed: int) -> Ranker:
        archs, _, _, _ = self._data()
        source = Source("elsewhere", archs[:30], [self.score(arch) ** 2 for arch in archs[:30]])
        return warmed(self.space, lambda: OnCells.make(self, seed), [source], seed=seed)


class TestToyRanker(RankerContract):
    def make(self, seed: int) -> Ranker:
        return ToyRanker(self.space, seed=seed)
