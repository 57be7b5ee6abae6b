"""Functional ANOVA: by hand, against brute force over the grid, and against Optuna's evaluator."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from archduel.errors import SettingError
from archduel.proxies.importance import Box, Levels, forest_importance


def test_masses_count_what_lies_above_low_up_to_high() -> None:
    levels = Levels.equal(4)
    low, high = np.array([-np.inf, 0.5, 1.0, 3.0]), np.array([0.5, 2.5, np.inf, np.inf])
    assert levels.mass(low, high) == pytest.approx([0.25, 0.5, 0.5, 0.0])
    assert Levels.only(2, 4).mass(low, high) == pytest.approx([0, 1, 1, 0])
    assert Box(0.0, 4.0).mass(low, high) == pytest.approx([0.125, 0.5, 0.75, 0.25])


def test_a_function_of_one_variable_belongs_to_it_alone() -> None:
    grid = np.array(list(itertools.product(range(3), range(4))))
    grid = np.repeat(grid, 20, axis=0)
    found = forest_importance(grid, grid[:, 0] * 2.0, [Levels.equal(3), Levels.equal(4)], seed=0)
    assert found.main == pytest.approx([1, 0], abs=1e-9)


def test_main_effects_equal_brute_force_over_the_grid() -> None:
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(0)
    sizes = (3, 4, 2, 5)
    grid = np.array(list(itertools.product(*map(range, sizes))), float)
    rows = rng.choice(len(grid), 40, replace=False)
    y = grid[rows, 0] * grid[rows, 1] + np.sin(grid[rows, 3]) + rng.normal(size=40) / 5
    weights = [rng.uniform(0.2, 1, n) for n in sizes]
    found = forest_importance(grid[rows], y, [Levels(tuple(w)) for w in weights], trees=8, seed=5)
    forest = RandomForestRegressor(n_estimators=8, max_depth=64, random_state=5).fit(grid[rows], y)
    measure = np.prod([w[grid[:, f].astype(int)] / w.sum() for f, w in enumerate(weights)], axis=0)
    shares = []
    for tree in forest.estimators_:
        values = tree.predict(grid.astype(np.float32))
        mean = measure @ values
        main = []
        for f, n in enumerate(sizes):
            parts = [grid[:, f] == level for level in range(n)]
            marginal = [(measure[p] @ values[p] / measure[p].sum(), measure[p].sum()) for p in parts]
            main.append(sum(mass * (value - mean) ** 2 for value, mass in marginal))
        shares.append(np.array(main) / (measure @ (values - mean) ** 2))
    assert found.main == pytest.approx(np.mean(shares, 0), abs=1e-10)
    assert found.spread == pytest.approx(np.std(shares, 0), abs=1e-10)


def test_main_effects_are_optunas() -> None:
    optuna = pytest.importorskip("optuna", reason="optuna is not installed (extra 'optuna')")
    rng = np.random.default_rng(1)
    x = rng.uniform(0, [1, 2, 3], (30, 3))
    y = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2]
    spaces = {f"x{i}": optuna.distributions.FloatDistribution(0, i + 1.0) for i in range(3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study()
        for row, value in zip(x, y):
            params = {f"x{i}": float(v) for i, v in enumerate(row)}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=float(value)))
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=16, seed=3)
        theirs = evaluator.evaluate(study)
    ours = forest_importance(x, y, [Box(0, 1), Box(0, 2), Box(0, 3)], trees=16, seed=3)
    assert ours.main == pytest.approx([theirs[f"x{i}"] for i in range(3)], rel=1e-6)


def test_a_fixed_hyper_parameter_matters_nothing_and_the_rest_is_conditional() -> None:
    grid = np.array(list(itertools.product(range(2), range(2), range(2))))
    y = np.where(grid[:, 0] == 0, grid[:, 1], grid[:, 2]).astype(float)  # x0 says which of the others counts
    measures = [Levels.only(0, 2), Levels.equal(2), Levels.equal(2)]
    found = forest_importance(np.repeat(grid, 20, 0), np.repeat(y, 20), measures, seed=0)
    assert found.main == pytest.approx([0, 1, 0], abs=1e-9)


def test_a_constant_has_no_importance_and_wrong_shapes_are_refused() -> None:
    found = forest_importance([[0], [1]], [1.0, 1.0], [Levels.equal(2)])
    assert found.trees == 0
    assert found.main.tolist() == [0]
    with pytest.raises(SettingError, match="finite"):
        forest_importance([[0], [1]], [1.0, np.nan], [Levels.equal(2)])
