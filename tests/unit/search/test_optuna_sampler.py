"""Strategies of ours as a sampler of Optuna: what they ask, learn from, and how a study goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archduel.errors import SettingError

optuna = pytest.importorskip("optuna", reason="optuna is not installed (extra 'optuna')")
from archduel.optuna import Sampler, suggest  # noqa: E402
from archduel.spaces import open_space  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)


def loss(trial: Any) -> float:
    """Returns 0 at width 40, silu and depth 4; the learning rate does not count."""
    width, act, depth = trial.suggest_int("width", 8, 64, step=8), trial.suggest_categorical("act", ["relu", "silu", None, "gelu"]), trial.suggest_int("depth", 1, 6)
    trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    return float((width - 40) ** 2 / 100 + (depth - 4) ** 2 + 2 * (act != "silu"))


def seen(study: Any) -> list[tuple[Any, ...]]:
    """Returns what the finished trials were about."""
    return [(trial.params["width"], trial.params["act"], trial.params["depth"]) for trial in study.trials if trial.state.is_finished()]


def test_the_best_is_found_sooner_than_by_chance() -> None:
    study = optuna.create_study(sampler=Sampler("best", seed=1))
    study.optimize(loss, n_trials=30)
    assert study.best_value == 0  # one of 192; 30 random trials find it once in seven times
    assert len({trial.params["lr"] for trial in study.trials}) == 30


def test_a_loaded_study_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = optuna.create_study(sampler=Sampler("best", seed=3))
    whole.optimize(loss, n_trials=14)
    address = f"sqlite:///{tmp_path / 'study.db'}"
    first = optuna.create_study(study_name="one", storage=address, sampler=Sampler("best", seed=3))
    first.optimize(loss, n_trials=9)
    second = optuna.load_study(study_name="one", storage=address, sampler=Sampler("best", seed=3))
    second.ask().suggest_int("width", 8, 64, step=8)  # a trial that was killed stays open
    second.sampler = Sampler("best", seed=3)
    second.optimize(loss, n_trials=5)
    assert seen(whole) == seen(second)


def test_without_a_seed_the_study_keeps_one() -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="a", storage=storage, sampler=Sampler("random")).optimize(loss, n_trials=3)
    kept = storage.get_study_system_attrs(0)
    again = optuna.load_study(study_name="a", storage=storage, sampler=Sampler("random"))
    again.optimize(loss, n_trials=2)
    assert kept == storage.get_study_system_attrs(0)
    assert len(set(seen(again)[1:])) == 4  # random search asks nothing twice, also after loading


def test_it_learns_from_the_trials_of_others() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(loss, n_trials=20)
    study.enqueue_trial({"width": 40, "act": "silu", "depth": 4})
    study.sampler = Sampler("evolution", seed=0, settings={"population": 6, "tournament": 6})
    study.optimize(loss, n_trials=4)
    strategy = study.sampler._searching
    assert strategy is not None
    assert study.sampler._space.values(strategy.best()) == {"width": 40, "act": "silu", "depth": 4}


def test_failed_and_pruned_trials_are_never_the_best() -> None:
    def objective(trial: Any) -> float:
        """Fails for every second depth and is pruned for one width."""
        value = loss(trial)
        if trial.params["depth"] == 4:
            raise ArithmeticError
        if trial.params["width"] == 40:
            raise optuna.TrialPruned
        return value

    sampler = Sampler("random", space={"width": optuna.distributions.IntDistribution(8, 64, step=8), "depth": optuna.distributions.IntDistribution(1, 6)}, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=30, catch=(ArithmeticError,))
    assert sampler._searching is not None
    best = sampler._space.values(sampler._searching.best())
    assert (best["width"] == 40, best["depth"] == 4) == (False, False)
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED", "FAIL"}


def test_a_space_of_networks_is_a_parameter_a_decision() -> None:
    space = open_space("nasbench201")
    study = optuna.create_study(direction="maximize", sampler=Sampler("best", space="nasbench201", seed=0))
    study.optimize(lambda trial: float(sum(suggest(trial, space).choices)), n_trials=20, n_jobs=2)
    assert study.best_value > 18  # 24 at most, 12 on average
    assert len(study.best_params) == 6


def test_an_exhausted_space_is_drawn_from_at_random() -> None:
    study = optuna.create_study(sampler=Sampler("random", space={"a": [1, 2], "b": ["x", "y"]}, seed=0))
    study.optimize(lambda trial: trial.suggest_categorical("a", [1, 2]) + len(trial.suggest_categorical("b", ["x", "y"])), n_trials=8)
    assert len({tuple(trial.params.values()) for trial in study.trials[:4]}) == 4
    assert len(study.trials) == 8


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(SettingError, match="shared weights"):
        Sampler("spos")
    with pytest.raises(SettingError, match="'lr'.*drawn at random"):
        Sampler("best", space={"lr": optuna.distributions.FloatDistribution(0, 1)})
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=Sampler("best"))
    with pytest.raises(SettingError, match="2 objectives"):
        study.ask().suggest_int("width", 1, 2)
