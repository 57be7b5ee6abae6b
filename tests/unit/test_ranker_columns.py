"""Columns and labels of rankers: one standardiser, one normal score, no name of the package with two meanings."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from toy_spaces import VectorSpace

import archduel.rankers
from archduel.core import Arch
from archduel.core.ranks import normal_scores
from archduel.errors import InvalidArchError, SettingError, check_at_least, check_positive, check_share
from archduel.rankers import columns
from archduel.rankers.columns import FeatureCache, describe, measure
from archduel.rankers.labels import WinCurve

PACKAGE = Path(archduel.rankers.__file__).parent


def test_normal_scores_are_symmetric_ranks_and_share_ties() -> None:
    np.testing.assert_allclose(normal_scores([3.0, -1.0, 100.0]), [0.0, norm.ppf(0.5 / 3), norm.ppf(2.5 / 3)], atol=1e-12)
    first, second, third = normal_scores([5.0, 5.0, 7.0])
    assert first == second == pytest.approx(norm.ppf(1 / 3))
    assert third == pytest.approx(norm.ppf(2.5 / 3))
    np.testing.assert_array_equal(normal_scores([2.0, 2.0]), [0.0, 0.0])


def test_normal_scores_are_nearer_to_expected_order_statistics_than_van_der_waerden_s() -> None:
    n = 10
    expected = np.sort(np.random.default_rng(0).normal(size=(100_000, n)), 1).mean(0)
    van_der_waerden = norm.ppf(np.arange(1, n + 1) / (n + 1))
    assert np.abs(normal_scores(np.arange(n)) - expected).max() < 0.6 * np.abs(van_der_waerden - expected).max()


def test_no_public_name_of_the_package_has_two_bodies() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                homes[node.name].append(path.name)
    assert "describe" in homes
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_standardised_columns_have_mean_0_and_spread_1_and_constant_ones_are_dropped(kind: type) -> None:
    x = np.random.default_rng(0).normal(5, 3, (200, 4)).astype(kind)
    x[:, 2] = 0.1
    standardised = measure(x.astype(np.float64))(x)
    assert standardised.dtype == kind
    assert standardised.shape == (200, 3)
    np.testing.assert_allclose(standardised.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(0), 1, atol=1e-5)
    every = measure(x.astype(np.float64), drop_constant=False)(x)
    np.testing.assert_array_equal(every[:, [0, 1, 3]], standardised)
    np.testing.assert_allclose(every[:, 2], 0, atol=1e-7)


def test_squared_distances_average_2_whatever_the_number_of_columns() -> None:
    for f in (3, 300):
        x = np.random.default_rng(0).normal(size=(400, f)) * np.arange(1, f + 1)
        z = measure(x).with_unit_distances()(x)
        assert ((z[:200] - z[200:]) ** 2).sum(1).mean() == pytest.approx(2, rel=0.15)


def test_the_cache_describes_each_architecture_once_and_starts_over_when_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Arch] = []

    class Counting(VectorSpace):
        def features(self, archs: list[Arch]) -> np.ndarray:
            asked.extend(archs)
            return super().features(archs)

    space, rng = Counting(), np.random.default_rng(0)
    archs = list(dict.fromkeys(space.draw(rng) for _ in range(20)))
    cache = FeatureCache(space, reference=30, seed=0)
    asked.clear()
    rows = cache.double([*archs, archs[0]])
    assert asked == archs
    np.testing.assert_array_equal(cache.double(archs[::-1]), rows[: len(archs)][::-1])
    assert asked == archs
    monkeypatch.setattr(columns, "CACHED", 5)
    np.testing.assert_array_equal(cache.double([space.draw(rng) for _ in range(3)] + archs)[3:], rows[: len(archs)])
    np.testing.assert_allclose(cache.single(tuple(archs)), rows[: len(archs)], atol=1e-6)
    with pytest.raises(InvalidArchError, match="elsewhere"):
        cache.double([Arch("elsewhere", archs[0].choices)])


def test_an_unknown_view_is_an_error() -> None:
    with pytest.raises(SettingError, match="no view 'image'"):
        describe(VectorSpace(), [], view="image")


def test_the_steepness_of_a_win_curve_comes_from_held_out_labels_unless_it_is_known() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=200)
    archs = [Arch("toy", (i,)) for i in range(200)]
    seen: list[tuple[int, int]] = []

    def curve(noise: float, steepness: float | None = None) -> WinCurve:
        scores = labels + noise * rng.normal(size=200)

        def relearn(learned: np.ndarray, out: np.ndarray) -> np.ndarray:
            seen.append((len(learned), len(out)))
            assert not set(learned) & set(out)
            return scores[out]

        return WinCurve(lambda some: scores[[arch.choices[0] for arch in some]], relearn, labels, seed=0, steepness=steepness)

    sure, unsure = curve(0.1), curve(2.0)
    for one in (sure, unsure):
        assert one.prob(archs[:50], archs[50:100]) + one.prob(archs[50:100], archs[:50]) == pytest.approx(np.ones(50))
    assert seen == [(160, 40), (160, 40)]
    assert sure.steepness > 5 * unsure.steepness
    known = curve(0.0, steepness=2.0)
    assert known.prob(archs[:1], archs[1:2])[0] == pytest.approx(1 / (1 + np.exp(-2 * (labels[0] - labels[1]))))
    assert len(seen) == 2


def test_checks_name_the_setting_what_was_got_and_what_was_expected() -> None:
    check_at_least(1, one=1, two=2.5)
    with pytest.raises(SettingError, match="two is 0, expected at least 1"):
        check_at_least(1, one=1, two=0)
    with pytest.raises(SettingError, match="two is nan, expected at least 0"):
        check_at_least(0, two=float("nan"))
    with pytest.raises(SettingError, match="lr is 0.0, expected more than 0"):
        check_positive(lr=0.0)
    with pytest.raises(SettingError, match=r"rows is 1\.5, expected a share above 0 and at most 1"):
        check_share(rows=1.5)
