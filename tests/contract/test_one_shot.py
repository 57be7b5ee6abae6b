"""Every one-shot strategy on the menu keeps the contract."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from archduel import registry
from archduel.assemble import assemble
from archduel.core import Constraint, Strategy
from archduel.testing.strategies import OneShotContract
from archduel.testing.toy import ToyRanker, ToyShared

SMALL: dict[str, dict[str, Any]] = {
    "cnas": {"warmup_epochs": 1, "stage_epochs": 2, "candidates": 6, "lr": 0.05, "batches": 2},
    "relativenas": {"population": 6, "generations": 4, "batches": 4},
    "darts": {"epochs": 8, "lr": 0.2, "batches": 2},
    "gdas": {"epochs": 12, "lr": 0.2, "tau_max": 2.0, "batches": 4},
    "spos": {"epochs": 6, "population": 8, "generations": 4, "parents": 4, "crossovers": 4, "mutants": 4},
    "ctnas_oneshot": {
        "epochs": 5, "average": 2, "labels": 20, "iterations": 40, "chunk": 10, "baseline_every": 10, "explore_every": 8,
        "samples": 16, "keep": 8, "candidates": 5,
    },
}  # fmt: skip


def one_shot() -> list[str]:
    """Returns the strategies that take shared weights."""
    return [n for n in registry.names("strategy") if "shared" in inspect.signature(registry.entry("strategy", n)).parameters]


@pytest.mark.parametrize("name", one_shot(), scope="class")
class TestEveryOneShotStrategy(OneShotContract):
    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.name = name

    def make(self, seed: int, constraint: Constraint | None = None, *, verify: int = 0) -> Strategy:
        return assemble(
            self.name,
            self.space,
            seed=seed,
            constraint=constraint,
            settings={**SMALL[self.name], "verify": verify},
            given={"ranker": ToyRanker(self.space), "shared": ToyShared()},
        )
