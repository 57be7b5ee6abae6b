"""The Gaussian process against its textbook formulas."""

from __future__ import annotations

import numpy as np
import pytest

from archduel.core import Arch, sample
from archduel.errors import SettingError, StateError
from archduel.rankers.gp import GaussianProcess, Relevances, matern, negative_log_likelihood
from archduel.spaces.nasbench201.space import NASBench201
from archduel.testing.toy import ToySpace, toy_score

SPACE = ToySpace()


def data(n: int, seed: int = 0) -> tuple[list[Arch], list[float]]:
    """Distinct toy architectures and their scores."""
    rng = np.random.default_rng(seed)
    archs = list(dict.fromkeys(sample(SPACE, rng) for _ in range(4 * n)))[:n]
    return archs, [toy_score(arch) for arch in archs]


def test_the_kernel_by_hand() -> None:
    # r = 1: (1 + sqrt 5 + 5/3) exp(-sqrt 5)
    assert matern(np.array([0.0, 1.0])) == pytest.approx([1.0, (1 + 5**0.5 + 5 / 3) * np.exp(-(5**0.5))])
    assert matern(np.array([0.0, 1.0]), 1.5) == pytest.approx([1.0, (1 + 3**0.5) * np.exp(-(3**0.5))])


@pytest.mark.parametrize("smoothness", [1.5, 2.5])
def test_the_likelihood_is_that_of_a_normal_distribution(smoothness: float) -> None:
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(1)
    x, z, weights = rng.normal(size=(9, 3)), rng.normal(size=9), np.array([0.5, 1.0, 2.0])
    kernel = matern((((x[:, None] - x) ** 2) * weights).sum(-1), smoothness) + 0.1 * np.eye(9)
    variance = float(z @ np.linalg.solve(kernel, z)) / 9
    expected = -multivariate_normal.logpdf(z, cov=variance * kernel) - 4.5 * (1 + np.log(2 * np.pi))
    assert negative_log_likelihood(x, z, weights, 0.1, smoothness=smoothness)[0] == pytest.approx(expected)


@pytest.mark.parametrize("smoothness", [1.5, 2.5])
def test_the_gradient_is_that_of_differences(smoothness: float) -> None:
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(12, 4)), rng.normal(size=12)
    at = np.array([0.3, -0.5, 0.1, -1.0, np.log(0.1)])

    def value(at: np.ndarray) -> float:
        return negative_log_likelihood(x, z, np.exp(at[:4]), float(np.exp(at[4])), smoothness=smoothness)[0]

    gradient = negative_log_likelihood(x, z, np.exp(at[:4]), 0.1, smoothness=smoothness)[1]
    steps = 1e-5 * np.eye(5)
    assert gradient == pytest.approx([(value(at + s) - value(at - s)) / 2e-5 for s in steps], rel=1e-4, abs=1e-6)


def test_features_that_matter_count_more() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6)) / np.sqrt(6)
    z = np.sin(4 * x[:, 0]) + x[:, 1]
    search = Relevances(spread=2.0, iterations=50).search
    weights, _, _ = search(x, z - z.mean(), start=np.ones(6), noise=0.03, smoothness=2.5)
    assert weights[:2].min() > weights[2:].max()


@pytest.mark.parametrize("smoothness", [1.5, 2.5])
def test_mean_deviation_and_probability_are_the_textbook_s(smoothness: float) -> None:
    archs, scores = data(25)
    ranker = GaussianProcess(SPACE, smoothness=smoothness)
    ranker.fit(archs, scores)
    known = ranker.process()
    rest, _ = data(12, seed=9)
    y = (np.asarray(scores) - known.centre) / known.spread
    x = ranker.features.double(archs) * known.scale
    new = ranker.features.double(rest) * known.scale

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return matern(((a[:, None] - b[None]) ** 2).sum(-1), smoothness)

    inverse = np.linalg.inv(kernel(x, x) + known.noise * np.eye(25))
    cross = kernel(new, x)
    variance = float(y @ inverse @ y) / 25
    mean = cross @ inverse @ y
    covariance = variance * (kernel(new, new) - cross @ inverse @ cross.T)
    floor_not_used = min(scores) >= np.median(scores) - 2 * (np.quantile(scores, 0.9) - np.median(scores))
    assert floor_not_used
    assert ranker.predict(rest) == pytest.approx(known.centre + known.spread * mean, abs=1e-8)
    assert ranker.uncertainty(rest) == pytest.approx(known.spread * np.sqrt(covariance.diagonal()), rel=1e-5, abs=1e-7)
    from scipy.stats import norm

    gap = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1] + 2 * known.noise * variance
    assert ranker.prob(rest[:1], rest[1:2])[0] == pytest.approx(norm.cdf((mean[0] - mean[1]) / np.sqrt(gap)), abs=1e-6)


def test_win_probabilities_of_both_orders_add_up_to_one() -> None:
    ranker = GaussianProcess(SPACE)
    ranker.fit(*data(30))
    rest, _ = data(20, seed=3)
    assert ranker.prob(rest[1:], rest[:-1]) + ranker.prob(rest[:-1], rest[1:]) == pytest.approx(np.ones(19))


def test_beliefs_are_predict_and_uncertainty_in_any_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = GaussianProcess(SPACE)
    ranker.fit(*data(30))
    rest, _ = data(50, seed=3)
    mean, deviation = ranker.beliefs(rest)
    assert mean == pytest.approx(ranker.predict(rest), abs=1e-4)
    assert deviation == pytest.approx(ranker.uncertainty(rest), abs=1e-4)
    assert ranker.beliefs(tuple(rest))[0] == pytest.approx(mean, abs=1e-5)
    monkeypatch.setattr("archduel.rankers.gp.CHUNK", 7)
    again = ranker.beliefs(rest)
    assert again[0] == pytest.approx(mean, abs=1e-5)
    assert again[1] == pytest.approx(deviation, abs=1e-5)


def test_assumed_labels_change_deviations_only() -> None:
    archs, scores = data(25)
    ranker = GaussianProcess(SPACE)
    ranker.fit(archs, scores)
    known = ranker.process()
    rest, _ = data(12, seed=9)
    mean, deviation = ranker.beliefs(rest, assumed=rest[:2])
    x = ranker.features.double([*archs, *rest[:2]]) * known.scale
    new = ranker.features.double(rest) * known.scale

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return matern(((a[:, None] - b[None]) ** 2).sum(-1))

    inverse = np.linalg.inv(kernel(x, x) + known.noise * np.eye(27))
    variance = known.variance * (1 - np.einsum("ij,jk,ik->i", kernel(new, x), inverse, kernel(new, x)))
    assert mean == pytest.approx(ranker.predict(rest), abs=1e-4)
    assert deviation == pytest.approx(known.spread * np.sqrt(variance), abs=1e-4)


def test_a_share_of_the_features_is_drawn_anew_for_each_number_of_labels() -> None:
    ranker = GaussianProcess(SPACE, share=0.5, seed=3)
    archs, scores = data(30)
    seen = []
    for n in (20, 30, 20):
        ranker.fit(archs[:n], scores[:n])
        seen.append(ranker.process().scale > 0)
        mean, deviation = ranker.beliefs(archs)
        assert mean == pytest.approx(ranker.predict(archs), abs=1e-4)
        assert deviation == pytest.approx(ranker.uncertainty(archs), abs=1e-3)
    f = len(ranker.features)
    assert [chosen.sum() for chosen in seen] == [np.ceil(f / 2)] * 3
    assert (seen[0] == seen[2]).all()
    assert (seen[0] != seen[1]).any()
    with pytest.raises(SettingError, match="share"):
        GaussianProcess(SPACE, share=0.0)


def test_another_tuple_is_described_anew() -> None:
    ranker = GaussianProcess(SPACE)
    ranker.fit(*data(30))
    first, second = tuple(data(8, seed=3)[0]), tuple(data(8, seed=4)[0])
    for archs in (first, second, first):
        assert ranker.beliefs(archs)[0] == pytest.approx(ranker.predict(list(archs)), abs=1e-4)


def test_functionally_equal_cells_are_one() -> None:
    space = NASBench201()
    rng = np.random.default_rng(0)
    archs = [sample(space, rng) for _ in range(30)]
    ranker = GaussianProcess(space, reference=200)
    ranker.fit(archs, [sum(arch.choices) + 0.1 * arch.choices[0] for arch in archs])
    # conv on 0->1 is dead where node 1 leads nowhere
    twins = [Arch("nasbench201", (op, 3, 0, 1, 0, 3)) for op in (0, 2, 3)]
    assert len({space.fingerprint(arch) for arch in twins}) == 1
    assert np.ptp(ranker.predict(twins)) < 1e-9


def test_networks_that_did_not_train_do_not_bend_the_rest() -> None:
    archs, scores = data(30)
    one, two = GaussianProcess(SPACE), GaussianProcess(SPACE)
    worst = int(np.argmin(scores))
    one.fit(archs, [-5.0 if i == worst else s for i, s in enumerate(scores)])
    two.fit(archs, [-50.0 if i == worst else s for i, s in enumerate(scores)])
    rest, _ = data(20, seed=3)
    assert one.predict(rest) == pytest.approx(two.predict(rest), abs=1e-9)


def test_more_labels_than_the_grid_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archduel.rankers.gp.GRID_LABELS", 20)
    ranker = GaussianProcess(SPACE)
    ranker.fit(*data(60))
    rest, truth = data(100, seed=5)
    assert np.corrcoef(ranker.predict(rest), truth)[0, 1] > 0.8


def test_a_state_from_before_there_was_a_choice_of_smoothness_is_read() -> None:
    ranker, other = GaussianProcess(SPACE), GaussianProcess(SPACE)
    ranker.fit(*data(20))
    state = ranker.state_dict()
    assert state.pop("smoothness") == 2.5
    other.load_state_dict(state)
    rest, _ = data(9, seed=3)
    assert np.array_equal(ranker.predict(rest), other.predict(rest))


def test_misuse_is_explained() -> None:
    with pytest.raises(SettingError, match="smoothness is 2, expected 1.5 or 2.5"):
        GaussianProcess(SPACE, smoothness=2)
    with pytest.raises(SettingError, match="floor"):
        GaussianProcess(SPACE, floor=0.0)
    with pytest.raises(StateError, match="call fit first"):
        GaussianProcess(SPACE).beliefs([])
    ranker = GaussianProcess(SPACE)
    ranker.fit(*data(10))
    with pytest.raises(StateError, match="features"):
        GaussianProcess(NASBench201(), reference=50).load_state_dict(ranker.state_dict())
