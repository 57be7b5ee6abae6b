"""Statistics against numbers by hand and against SciPy, and what the sentences claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from archduel.errors import SettingError
from archduel.reporting.statistics import (
    Interval,
    average_ranks,
    gain_interval,
    gain_sentence,
    holm,
    kendall_tau,
    mean_interval,
    nemenyi,
    paired_difference,
    wilcoxon_holm,
)


def test_mean_interval_by_hand() -> None:
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653
    interval = mean_interval([1, 2, 3])
    assert interval.value == 2
    assert interval.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert interval.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert interval.n == 3


def test_one_value_says_nothing_about_spread() -> None:
    interval = mean_interval([0.5])
    assert not interval.known
    assert interval.spans(0)
    assert interval.spans(1e9)
    assert interval.record() == {"value": 0.5, "low": None, "high": None, "n": 1}


def test_empty_and_unequal_lists_are_refused() -> None:
    with pytest.raises(SettingError, match="at least one"):
        mean_interval([])
    with pytest.raises(SettingError, match="one length"):
        paired_difference([1, 2], [1])
    with pytest.raises(SettingError, match="one length"):
        kendall_tau([1, 2], [1])


def test_kendall_tau_is_tau_b_with_fiellers_interval() -> None:
    a, b = [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6, 5]  # one of 15 pairs reversed: tau = 13 / 15
    interval = kendall_tau(a, b)
    assert interval.value == pytest.approx(13 / 15)
    half = stats.norm.ppf(0.975) * math.sqrt(0.437 / 2)
    assert interval.low == pytest.approx(math.tanh(math.atanh(13 / 15) - half))
    assert interval.high == pytest.approx(math.tanh(math.atanh(13 / 15) + half))
    tied = kendall_tau([1, 1, 2, 3, 4], [1, 2, 2, 3, 4])
    assert tied.value == pytest.approx(stats.kendalltau([1, 1, 2, 3, 4], [1, 2, 2, 3, 4]).statistic)


def test_kendall_tau_of_few_constant_or_missing_values() -> None:
    assert not kendall_tau([1, 2, 3, 4], [1, 2, 3, 4]).known
    assert math.isnan(kendall_tau([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).value)
    assert kendall_tau([1, 2, 3, 4, 5, math.nan], [5, 4, 3, 2, 1, 0]).n == 5
    perfect = kendall_tau(range(10), range(10))
    assert perfect.value == pytest.approx(1)
    assert perfect.high <= 1
    assert 0.9 < perfect.low < 0.96  # ten in the same order are not certainty


def test_the_interval_of_tau_covers_the_truth() -> None:
    rng, rho, covered = np.random.default_rng(0), 0.5, 0
    truth = 2 / math.pi * math.asin(rho)
    for _ in range(400):
        x = rng.normal(size=20)
        interval = kendall_tau(x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=20))
        covered += interval.low <= truth <= interval.high
    assert 0.91 <= covered / 400 <= 0.98


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_average_ranks_share_ties() -> None:
    assert average_ranks([[3, 2, 1], [1, 1, 0]]).tolist() == [1.25, 1.75, 3.0]


def test_wilcoxon_holm_compares_all_pairs() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=30)
    found = wilcoxon_holm({"a": base, "b": base, "c": base + 1 + 0.1 * rng.normal(size=30)})
    assert [(c.first, c.second) for c in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found[0].p == 1
    assert found[0].difference == Interval(0, 0, 0, 30)
    assert found[1].p_holm == pytest.approx(3 * found[1].p)
    assert found[1].difference.high < 0
    (only,) = wilcoxon_holm({"a": base, "c": base + 1}, pairs=[("c", "a")])
    assert only.p_holm == only.p


def test_nemenyi_matches_the_published_critical_values() -> None:
    # Demsar (2006), table 5: q(0.05) = 2.343 for 3 methods, 2.569 for 4
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(shift, 1, 50) for name, shift in (("a", 0), ("b", 0), ("c", 3), ("d", 3))}
    found = nemenyi(scores)
    assert found.critical_difference == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 50)), rel=1e-3)
    assert sorted(map(sorted, found.groups)) == [["a", "b"], ["c", "d"]]
    assert found.friedman_p < 1e-6
    assert list(found.ranks.values()) == sorted(found.ranks.values())
    with pytest.raises(SettingError, match="at least two"):
        nemenyi({"a": [1]})


def test_gain_over_seeds_and_over_searches() -> None:
    over_seeds = gain_interval([0.008, 0.009, 0.007], 1, 3)
    assert over_seeds.n == 3
    assert over_seeds.value == pytest.approx(0.008)
    over_searches = gain_interval([0.01, 0.03, 0.02, 0.00, 0.01, 0.02], 3, 2)  # seed means 0.02, 0.01, 0.015
    expected = mean_interval([0.02, 0.01, 0.015])
    assert (over_searches.value, over_searches.low, over_searches.n) == pytest.approx((expected.value, expected.low, 3))
    with pytest.raises(SettingError, match="2 searches x 2 seeds"):
        gain_interval([0.1], 2, 2)


def test_equal_counts_do_not_pretend_to_certainty() -> None:
    # all three seeds differ by one image of 500: the t interval has no width, one image each way remains
    assert gain_interval([0.002] * 3, 1, 3, n_test=500).spans(0)
    assert "No measurable difference" in gain_sentence([0.002] * 3, 1, 3, n_test=500)


def test_sentences_say_what_the_interval_allows_and_covers() -> None:
    gained = gain_sentence([0.008, 0.009, 0.007], 1, 3)
    assert gained.startswith("The search gained 0.8 ± 0.2 points over random search at equal cost.")
    assert "training seeds only (n = 3), because there was one search" in gained
    lost = gain_sentence([-0.008, -0.009, -0.007], 1, 3, other="the standard network")
    assert lost.startswith("The search lost 0.8 ± 0.2 points against the standard network.")
    nothing = gain_sentence([0.01, -0.01, 0.002], 1, 3)
    assert nothing.startswith("No measurable difference between the search and random search at equal cost: 0.1 ± 2.5 points.")
    many = gain_sentence(np.linspace(0.007, 0.009, 10), 5, 2)
    assert "n = 5 independent searches with 2 training seeds each" in many
    assert "training seeds only" not in many
    single = gain_sentence([0.01], 1, 1)
    assert "gained" not in single
    assert "cannot be said" in single
    assert "because there was one search" not in gain_sentence([0.008, 0.009, 0.007], 1, 3, coverage=False)
