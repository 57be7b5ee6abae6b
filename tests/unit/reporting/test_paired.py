"""Shares with Wilson's interval and McNemar's exact test, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from archduel.errors import SettingError
from archduel.reporting.statistics import mcnemar, share_interval


def test_wilson_by_hand() -> None:
    # 8 of 10, z = 1.96: centre (0.8 + 3.8415/20) / 1.38415, published table: 0.4902 to 0.9433
    interval = share_interval(8, 10)
    assert interval.value == 0.8
    assert interval.low == pytest.approx(0.4902, abs=1e-4)
    assert interval.high == pytest.approx(0.9433, abs=1e-4)
    assert share_interval(10, 10).high == 1.0
    assert 0.0 < share_interval(10, 10).low < 1.0
    with pytest.raises(SettingError, match="got 3 of 2"):
        share_interval(3, 2)


def test_mcnemar_by_hand() -> None:
    # 5 images only the first gets right, 1 only the second: two-sided 2 * (C(6,0) + C(6,1)) / 64
    first = np.array([1] * 5 + [0] + [1] * 4, bool)
    second = np.array([0] * 5 + [1] + [1] * 4, bool)
    found = mcnemar(first, second)
    assert (found.first_only, found.second_only, found.n) == (5, 1, 10)
    assert found.p == pytest.approx(2 * 7 / 64)
    assert mcnemar(second, first).p == found.p
    assert mcnemar(first, first).p == 1.0
    with pytest.raises(SettingError, match="one length"):
        mcnemar(first, second[:-1])
