"""Every strategy on the menu keeps the contract."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from archduel import registry
from archduel.assemble import assemble
from archduel.core import Constraint, Strategy
from archduel.strategies.optuna_study import SAMPLERS
from archduel.testing.strategies import StrategyContract
from archduel.testing.toy import ToyRanker

SMALL: dict[str, dict[str, Any]] = {
    "evolution": {"population": 10, "tournament": 3, "patience": 200},
    "ctnas": {
        "labels": 20, "iterations": 40, "chunk": 10, "baseline_every": 10, "explore_every": 8,
        "samples": 16, "keep": 8, "verify": 5,
    },
}  # fmt: skip
SMALL |= {
    "bpe_evolution": {"population": 10, "tournament": 3, "patience": 200},
    "renas": {"labels": 20, "top": 5},
    "reinforce": {"lr": 0.1, "patience": 100},
    "bpe_rl": {"patience": 100},
    "tpe": {"patience": 5, "startup": 5},
    "optuna": {"patience": 5, "startup": 5},
    "best": {"bred": 20, "generations": 2},
    "best_front": {"bred": 20, "generations": 2, "initial": 5},
    "nsga2": {"population": 6},
}
NEVER_REPEAT = {"random", "local", "best", "best_front", "nsga2"}


def one_shot(name: str) -> bool:
    """Returns whether a strategy works on shared weights, which have contract tests of their own."""
    return "shared" in inspect.signature(registry.entry("strategy", name)).parameters


@pytest.mark.parametrize("name", [name for name in registry.names("strategy") if not one_shot(name)], scope="class")
class TestEveryStrategy(StrategyContract):
    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.name = name
        self.repeats = name not in NEVER_REPEAT
        self.evaluations = 12 if name in ("tpe", "optuna") else 30

    def make(self, seed: int, constraint: Constraint | None = None) -> Strategy:
        return assemble(
            self.name,
            self.space,
            seed=seed,
            constraint=constraint,
            settings=SMALL.get(self.name),
            given={"ranker": ToyRanker(self.space)},
        )


class TestFirstLooks(StrategyContract):
    """Contenders with a cheap fidelity: each architecture may be asked twice, at the cheap fidelity and at the usual one."""

    def make(self, seed: int, constraint: Constraint | None = None) -> Strategy:
        given = {"ranker": ToyRanker(self.space)}
        return assemble("best", self.space, seed=seed, constraint=constraint, settings={"cheap": "low"}, given=given)


# the Gaussian process takes a third of a second a question: minutes for the whole suite, test_optuna.py resumes it shortly
@pytest.mark.parametrize("sampler", [pytest.param(name, marks=[pytest.mark.slow] if name == "gp" else []) for name in sorted(SAMPLERS)], scope="class")
class TestEverySamplerOfOptuna(StrategyContract):
    """Whatever a sampler keeps between its trials, it is resumed exactly."""

    evaluations = 12

    @pytest.fixture(autouse=True)
    def _named(self, sampler: str) -> None:
        if sampler == "cmaes":
            pytest.importorskip("cmaes", reason="cmaes is not installed (extra 'optuna')")
        self.sampler = sampler

    def make(self, seed: int, constraint: Constraint | None = None) -> Strategy:
        settings = {"sampler": self.sampler, "startup": 4, "population": 4, "patience": 5}
        return assemble("optuna", self.space, seed=seed, constraint=constraint, settings=settings)
