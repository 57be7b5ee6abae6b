"""The predictor: recovers a device that is a sum, keeps its promises about intervals, and uses other devices where they agree."""

from __future__ import annotations

import numpy as np
import pytest

from archduel.devices import LatencyPredictor, spread_out
from archduel.devices.predictor import fit_sum
from archduel.errors import SettingError

COSTS = np.array([0.02, 0.004, 0.0, 0.001])


def networks(n: int, seed: int = 0) -> np.ndarray:
    """Returns (n, 4) columns over two orders of magnitude."""
    return np.exp(np.random.default_rng(seed).normal(3.0, 1.2, (n, 4)))


def latencies(columns: np.ndarray, noise: float, seed: int = 1) -> np.ndarray:
    """Returns milliseconds on a device that is a sum."""
    return (columns @ COSTS + 0.3) * np.exp(noise * np.random.default_rng(seed).normal(size=len(columns)))


def test_a_sum_is_found_again_and_has_no_negative_terms() -> None:
    columns = networks(30)
    found = fit_sum(columns, latencies(columns, 0.0))
    assert (found.weights >= 0).all()
    np.testing.assert_allclose(found.weights, [*COSTS, 0.3], atol=1e-6)


def test_a_network_that_a_runtime_left_out_bends_nothing() -> None:
    columns, more = networks(30), networks(50, 5)
    ms = latencies(columns, 0.0)
    ms[4] = 1e-5
    found = np.exp(fit_sum(columns, ms)(more))
    error = np.abs(np.log(found / latencies(more, 0.0)))
    assert np.median(error) < 0.25
    assert error.max() < 0.8  # with its relative error at full weight all coefficients became nothing: 14


def test_bounds_hold_as_often_as_they_say() -> None:
    above, below, n = 0, 0, 0
    for seed in range(12):
        columns, more = networks(20, seed), networks(200, 100 + seed)
        predictor = LatencyPredictor(columns, latencies(columns, 0.1, seed))
        real, found = latencies(more, 0.1, 1000 + seed), predictor.predict(more)
        assert (found.low < found.ms).all()
        assert (found.ms < found.high).all()
        above, below, n = above + (real > found.high).sum(), below + (real < found.low).sum(), n + len(more)
    assert above / n < 0.08
    assert below / n < 0.08
    assert above / n > 0.005  # wide enough to be kept always would be worth nothing


def test_measured_again_is_the_same() -> None:
    columns = networks(20)
    ms = latencies(columns, 0.1)
    first, second = (LatencyPredictor(columns, ms).predict(networks(7, 3)) for _ in range(2))
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)


def test_devices_of_before_help_where_columns_say_nothing() -> None:
    rng = np.random.default_rng(2)
    hidden = rng.normal(size=(300, 2))
    others = hidden @ rng.normal(size=(2, 8)) + 0.05 * rng.normal(size=(300, 8))
    ms = np.exp(hidden @ [1.0, -0.5] + 0.05 * rng.normal(size=300))
    columns = np.ones((300, 4))
    first = np.arange(12)
    known = LatencyPredictor(columns[first], ms[first], others[first], reference=(columns, others))
    alone = LatencyPredictor(columns[first], ms[first], reference=(columns, None))
    error = [np.abs(np.log(found / ms))[12:].mean() for found in (known.predict(columns, others).ms, alone.predict(columns).ms)]
    assert error[0] < 0.25 * error[1]
    assert known.error < alone.error


@pytest.mark.parametrize("ms", [[1.0, 2.0], [1.0, np.nan, 2.0, 3.0], [1.0, -1.0, 2.0, 3.0]])
def test_what_are_no_latencies_is_refused(ms: list[float]) -> None:
    with pytest.raises(SettingError, match="at least 3 latencies above 0"):
        LatencyPredictor(networks(len(ms)), ms)


def test_networks_far_from_each_other_are_different_ones() -> None:
    rows = networks(50)
    chosen = spread_out(rows, 10, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 10
    random = np.random.default_rng(1).permutation(50)[:10]
    def nearest(part: np.ndarray) -> float:
        apart = np.linalg.norm(rows[part][:, None] - rows[part], axis=-1) + np.eye(len(part)) * 1e9
        return float(apart.min())
    assert nearest(chosen) > nearest(random)
