"""Rank agreement: values against SciPy, intervals that hold the truth, pairs that belong together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from archduel.errors import SettingError
from archduel.proxies.agreement import agreement, agreement_difference, agreement_of_like_size


def test_values_are_scipys_also_with_ties() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 8, 40).astype(float), rng.integers(0, 8, 40).astype(float)
    found = agreement(a, b)
    assert found.spearman.value == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert found.kendall.value == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)
    assert found.n == 40


def test_intervals_hold_the_value_shrink_with_n_and_repeat() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for n in (30, 150):
        truth = rng.normal(size=n)
        found = agreement(truth + rng.normal(size=n), truth, seed=3)
        for bounded in (found.spearman, found.kendall):
            assert bounded.low < bounded.value < bounded.high
        widths.append(found.kendall.high - found.kendall.low)
        assert agreement(truth, truth, seed=3).kendall.value == 1
    assert widths[1] < widths[0] / 1.5


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    rho, inside = 0.6, 0
    tau = 2 / np.pi * np.arcsin(rho)  # of a bivariate normal
    for i in range(100):
        x = rng.normal(size=60)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=60)
        found = agreement(x, y, draws=150, seed=i).kendall
        inside += found.low <= tau <= found.high
    assert 86 <= inside <= 100


def test_pairs_with_a_nan_are_left_out_and_constants_have_no_order() -> None:
    assert agreement([1, 2, np.nan, 4], [1, 2, 3, 4]).n == 3
    assert np.isnan(agreement([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).kendall.value)
    assert agreement([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).record()["kendall"]["value"] is None
    with pytest.raises(SettingError, match="one length"):
        agreement([1, 2], [1, 2, 3])


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    rng = np.random.default_rng(4)
    truth = rng.normal(size=80)
    noise = rng.normal(size=80)
    good, bad = truth + 0.8 * noise, truth + 1.3 * noise  # the same errors, larger ones
    found = agreement_difference(good, bad, truth)
    apart = agreement(good, truth).kendall, agreement(bad, truth).kendall
    assert found.value == pytest.approx(apart[0].value - apart[1].value)
    assert found.low > 0
    assert found.high - found.low < (apart[0].high - apart[0].low)
    assert agreement_difference(good, good, truth) == (0, 0, 0)


def test_pairs_of_like_size_by_hand() -> None:
    size = [100.0, 100.0, 105.0, 300.0]
    truth = [1.0, 2.0, 3.0, 4.0]
    n, found = agreement_of_like_size([2.0, 1.0, 3.0, 4.0], truth, size, draws=20)
    assert n == 3  # the large one has nobody of its size
    assert found.value == pytest.approx(1 / 3)  # one pair of three is the wrong way round
    n, found = agreement_of_like_size(size, truth, size, within=0.0, draws=0)
    assert n == 1
    assert np.isnan(found.value)  # size tells nothing about those of one size
    _, gain = agreement_of_like_size(truth, truth, size, against=[2.0, 1.0, 3.0, 4.0], draws=0)
    assert gain.value == pytest.approx(2 / 3)
    with pytest.raises(SettingError, match="one length"):
        agreement_of_like_size([1.0], truth, size)


def test_with_all_sizes_alike_it_is_kendalls_tau() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 9, 40).astype(float), rng.integers(0, 9, 40).astype(float)
    n, found = agreement_of_like_size(a, b, np.ones(40), draws=200, seed=1)
    assert found.value == pytest.approx(stats.kendalltau(a, b).statistic)
    assert found.low < found.value < found.high
    assert n < 40 * 39 / 2  # ties in the truth are no pairs
