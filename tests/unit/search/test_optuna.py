"""Optuna's samplers as a strategy: the parameters that decisions become, what is told, what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archduel.assemble import assemble, declaration
from archduel.core import Allowance, Arch, Budget, Estimate, Local, Objectives, Query, search
from archduel.errors import SettingError, StateError
from archduel.strategies import OptunaSampler
from archduel.testing.suites import through_disk
from archduel.testing.toy import ToySpace, toy_score

pytest.importorskip("optuna", reason="optuna is not installed (extra 'optuna')")
SPACE = ToySpace()


def made(sampler: str, seed: int = 0, **settings: Any) -> Any:
    """Returns the strategy over the toy space."""
    return assemble("optuna", SPACE, seed=seed, settings={"sampler": sampler, **settings})


def told(strategy: Any, n: int) -> list[str]:
    """Returns the next ``n`` questions, each answered."""
    asked = []
    for _ in range(n):
        queries = strategy.ask(1)
        strategy.tell(queries, [Estimate(toy_score(query.arch)) for query in queries])
        asked += [str(query.arch) for query in queries]
    return asked


def test_a_gaussian_process_goes_on_where_it_was(tmp_path: Path) -> None:
    strategy = made("gp", startup=3)
    told(strategy, 6)
    resumed = made("gp", seed=9, startup=3)
    resumed.load_state_dict(through_disk(strategy.state_dict(), tmp_path))
    assert told(strategy, 3) == told(resumed, 3)


def test_a_state_that_the_sampler_does_not_repeat_is_refused() -> None:
    strategy = made("random")
    told(strategy, 3)
    state = strategy.state_dict()
    state["events"][2] = [[0, 0] if state["events"][2] != [[0, 0]] else [0, 1]]
    with pytest.raises(StateError, match="install the version that it ran with"):
        made("random").load_state_dict(state)


def test_samplers_that_need_it_see_the_same_parameters_in_every_trial() -> None:
    strategy = made("nsga2", population=4)
    told(strategy, 12)
    # an architecture of one operation answers all five questions, and four of the answers are not looked at
    assert {tuple(sorted(trial.params)) for trial in strategy._study.trials} == {("length", "op0", "op1", "op2", "op3")}
    generations = {value for trial in strategy._study.trials for key, value in trial.system_attrs.items() if "generation" in key}
    assert generations == {0, 1, 2}
    assert strategy.places == {"length": 4, "op0": 5, "op1": 5, "op2": 5, "op3": 5}


def test_what_was_not_asked_is_told_as_a_trial() -> None:
    for sampler in ("nsga2", "random", "tpe"):
        strategy = made(sampler)
        arch = Arch("toy", (1, 4, 2))
        strategy.tell([Query(arch)], [Estimate(0.5)])
        (trial,) = strategy._study.trials
        assert trial.values == [0.5]
        assert {name.partition(" ")[0]: value for name, value in trial.params.items() if value} == {"length": 1, "op0": 4, "op1": 2}
        assert strategy.best() == arch


def test_failures_count_as_the_worst_that_was_told() -> None:
    strategy = made("random")
    (first, second, third) = (query.arch for query in strategy.ask(3))
    strategy.tell([Query(first)], [Estimate(-4.0)])
    strategy.tell([Query(second), Query(third)], [Estimate(float("nan")), Estimate(-2.0)])
    assert [trial.value for trial in strategy._study.trials] == [-4.0, -4.0, -2.0]
    assert strategy.best() == third


def test_cma_es_climbs_where_options_are_in_order() -> None:
    pytest.importorskip("cmaes", reason="cmaes is not installed (extra 'optuna')")

    def distance(queries: list[Query]) -> list[Estimate]:
        """Returns how far the last option of every question is."""
        return [Estimate(-sum((4 - choice) ** 2 for choice in query.arch.choices[1:]) - 40.0 * (3 - query.arch.choices[0])) for query in queries]

    def mean_of_last(sampler: str) -> float:
        scores = []
        for seed in range(3):
            result = search(made(sampler, seed=seed), Local(distance), budget=Budget(80), clock=None)
            scores += [told.estimate.score for told in result.told[-20:]]
        return float(np.mean(scores))

    assert mean_of_last("cmaes") > mean_of_last("random") + 10


def test_settings_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="did you mean 'nsga2'"):
        made("nsga22")
    with pytest.raises(SettingError, match="one objective"):
        assemble("optuna", SPACE, seed=0, settings={"sampler": "cmaes"}, objectives=Objectives(("params",)))
    with pytest.raises(SettingError, match="population"):
        made("nsga2", population=1)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SettingError, match=r"archduel\[optuna\]"):
        made("gp")


def test_generations_fit_a_small_budget_and_tables_keep_optunas() -> None:
    says = declaration("optuna")
    assert says.settings(Allowance(evaluations=40, iterations=100, given={"sampler": "nsga2"})) == {"population": 8}
    assert says.settings(Allowance(evaluations=40, iterations=None, given={"sampler": "nsga2"})) == {}
    assert says.settings(Allowance(evaluations=40, iterations=100, given={"sampler": "gp"})) == {}
    assert OptunaSampler.spend(Allowance(evaluations=4_000, iterations=9, given={"sampler": "nsga3"})) == {"population": 50}
