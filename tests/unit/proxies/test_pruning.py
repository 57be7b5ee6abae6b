"""Minimum Importance Pruning on a function whose truth is known; the front and what is recommended."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from archduel.errors import SettingError, UnknownNameError
from archduel.proxies.agreement import Agreement, Bounded
from archduel.proxies.factors import Factor, Grid, Setting, default_factors, factor
from archduel.proxies.find import MinimumImportancePruning, Trial, find, front, recommend
from archduel.recipes import read
from archduel.training.recipe import Recipe

GRID = Grid(
    Recipe(),
    (factor("epochs", [1, 2, 4, 8]), factor("depth", [1, 2, 3]), factor("channels", [4, 8]), factor("cutout", [0, 4])),
)


def cost(setting: Setting) -> float:
    recipe = GRID.recipe(setting)
    return recipe.epochs * recipe.depth * recipe.channels


def trial(setting: Setting, kept: float = 0.0, price: float = 0.0) -> Trial:
    """Returns a trial whose agreement grows with epochs and depth, and hardly with channels."""
    kept = kept or 0.2 * setting[0] + 0.15 * setting[1] + 0.01 * setting[2]
    price = price or cost(setting)
    found = Bounded(kept, kept - 0.1, kept + 0.1)
    return Trial(GRID.text(setting), price, Agreement(20, found, found), setting, 10 * price)


def pruning(**settings: object) -> MinimumImportancePruning:
    return MinimumImportancePruning(GRID, cost, rng=np.random.default_rng(0), **settings)  # type: ignore[arg-type]


def predict(setting: Setting) -> float:
    return 10 * cost(setting)


def test_what_matters_least_is_fixed_first_at_its_cheapest() -> None:
    mip = pruning(samples=12)
    found = find(mip, trial, budget=1e9, predict=predict)
    assert [GRID.factors[p.factor].name for p in found.prunings[:2]] in (["cutout", "channels"], ["channels", "cutout"])
    assert all(p.level == 0 for p in found.prunings)
    assert len(mip.open) == 1
    assert len({t.setting for t in found.trials}) == len(found.trials)
    assert "measured" in found.ended


def test_each_round_goes_from_the_cheapest_on_and_begins_with_the_cheapest_of_all() -> None:
    mip = pruning(samples=6)
    first = mip.ask()
    assert first[0] == (0, 0, 0, 0)
    assert [cost(s) for s in first] == sorted(cost(s) for s in first)
    assert {s[0] for s in first} == {0, 1, 2, 3}  # every level is seen


def test_the_budget_is_kept_and_too_small_a_one_is_said() -> None:
    for budget in (400.0, 2_000.0):
        found = find(pruning(), trial, budget=budget, predict=predict)
        assert 0 < found.paid <= budget
    found = find(pruning(), trial, budget=50.0, predict=predict)
    assert found.ended == "the budget is too small for two recipes"


def test_the_same_seed_measures_the_same() -> None:
    runs = [find(pruning(), trial, budget=3e3, predict=predict) for _ in range(2)]
    assert [t.name for t in runs[0].trials] == [t.name for t in runs[1].trials]


@pytest.mark.parametrize("sampling", ["random", "cheapest", "spread"])
@pytest.mark.parametrize("scope", ["open", "all"])
def test_all_ways_of_sampling_end(sampling: str, scope: str) -> None:
    found = find(pruning(sampling=sampling, scope=scope, trees=8), trial, budget=1e9, predict=predict)
    assert len(found.trials) >= 6
    assert len(found.prunings) <= 3


def test_a_finite_list_is_fixed_where_enough_of_it_is_and_by_matched_costs() -> None:
    pool = [(e, d, c, 0) for e in range(4) for d in range(3) for c in range(2)] + [(0, 0, 0, 1)]
    prices: Callable[[Setting], float] = lambda s: (1.0 if s[2] else 3.0) * (1 + s[0] + s[1])  # noqa: E731
    mip = MinimumImportancePruning(GRID, prices, rng=np.random.default_rng(0), pool=pool, samples=30, sampling="cheapest")
    for setting in mip.ask():
        mip.tell(setting, 0.2 * setting[0] + 0.1 * setting[1], prices(setting))
    assert mip.cheapest_level(2) == 1  # eight channels were cheaper in every matched pair
    assert mip.cheapest_level(3) == 0  # a single recipe has the other level
    assert mip.ask() == []


def test_a_hyper_parameter_seen_at_one_level_is_not_fixed() -> None:
    mip = pruning()
    for setting in [(0, 0, 0, 0), (1, 0, 0, 0)]:
        mip.tell(setting, 0.1 * setting[0], 1.0)
    assert mip.prunable == [0]
    assert mip.prune().factor == 0  # type: ignore[union-attr]


def test_front_and_recommended() -> None:
    values = {"a": (1, 0.3), "b": (2, 0.25), "c": (4, 0.6), "d": (40, 0.62), "e": (9, 0.61), "f": (90, np.nan)}
    trials = [trial((0, 0, 0, 0), kept, price) for price, kept in values.values()]
    named = [Trial(n, t.cost, t.agreement) for n, t in zip(values, trials)]
    assert [t.name for t in front(named)] == ["a", "c", "e", "d"]
    assert {kind: t.name for kind, t in recommend(named).items()} == {"quick": "c", "trusted": "c"}
    assert recommend(named, slack=0.0)["trusted"].name == "d"
    assert recommend([trial((0, 0, 0, 0), -0.2, 1)]) == {}


def test_grid_reads_what_it_writes() -> None:
    for setting in GRID.settings():
        changes = GRID.changes(setting)
        assert GRID.read(changes) == setting
        assert all(getattr(GRID.recipe(setting), name) == value for name, value in changes.items())
    assert GRID.text((1, 0, 1, 0)) == "epochs=2 depth=1 channels=8 cutout=0"
    assert len(list(GRID.settings())) == len(GRID) == 48
    with pytest.raises(SettingError, match="no level"):
        GRID.read({**GRID.changes((0, 0, 0, 0)), "epochs": 3})


def test_default_factors_never_cost_more_than_the_reference() -> None:
    for accelerator in (False, True):
        found = default_factors(read("full"), n_images=50_000, accelerator=accelerator)
        for each in found:
            for level in each.levels:
                cheap = read("full").with_(**level)
                assert cheap.epochs <= 600
                assert cheap.channels <= 36
                assert cheap.channels % 2 == 0
        names = [each.name for each in found]
        assert ("precision" in names) is accelerator
        assert {"epochs", "depth", "channels", "image_size", "data_fraction", "batch", "extras"} <= set(names)
    assert "depth" not in [f.name for f in default_factors(Recipe(depth=1), n_images=1_000)]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="sampling"):
        pruning(sampling="best")
    with pytest.raises(SettingError, match="samples"):
        pruning(samples=1)
    with pytest.raises(SettingError, match="budget"):
        find(pruning(), trial, budget=0, predict=predict)
    with pytest.raises(UnknownNameError, match="epoch"):
        Factor("x", ({"epoch": 1},))
