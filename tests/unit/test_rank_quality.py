"""Measures of an order, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from archduel.errors import SettingError
from archduel.reporting.statistics import rank_quality


def test_a_perfect_a_reversed_and_a_slightly_wrong_order() -> None:
    truth = np.linspace(0.5, 0.9, 300)
    perfect, reversed_ = rank_quality(3 * truth - 7, truth), rank_quality(-truth, truth)
    assert perfect == (1.0, pytest.approx(1.0), 1.0, 1.0, pytest.approx(1.0))
    assert reversed_[:4] == (-1.0, pytest.approx(-1.0), 0.0, 291.0)
    assert reversed_.ndcg < perfect.ndcg
    swapped = truth.copy()
    swapped[[-1, -4]] = swapped[[-4, -1]]  # the best three are now 2, 3 and 4
    found = rank_quality(swapped, truth)
    assert found.precision_at_1pct == pytest.approx(2 / 3)
    assert found.n_at_10 == 1
    assert found.kendall_tau == pytest.approx(1 - 2 * 5 / (300 * 299 / 2))


def test_gain_halves_with_every_point_of_accuracy() -> None:
    truth = [0.90, 0.89]
    best = 1 + 0.5 / np.log2(3)
    assert rank_quality([0, 1], truth).ndcg == pytest.approx((0.5 + 1 / np.log2(3)) / best)


def test_constant_scores_have_no_rank_agreement() -> None:
    found = rank_quality([1, 1, 1], [0.1, 0.2, 0.3])
    assert np.isnan(found.kendall_tau)
    assert np.isnan(found.spearman)
    with pytest.raises(SettingError, match="one length"):
        rank_quality([1, 2], [1, 2, 3])
