"""Metrics against scikit-learn and by hand; evaluation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as theirs
from torch import nn

from archduel.errors import SettingError, UnknownNameError
from archduel.training import metrics
from archduel.training.images import Pixels
from archduel.training.metrics import Evaluation, evaluate
from archduel.training.runtime import seeded_build


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 300)
    return labels, np.where(rng.random(300) < 0.6, labels, rng.integers(0, 5, 300))


def test_agreement_with_scikit_learn(answers) -> None:
    labels, predictions = answers
    confusion = metrics.confusion_matrix(labels, predictions, 5)
    assert np.array_equal(confusion, theirs.confusion_matrix(labels, predictions))
    assert metrics.accuracy(confusion) == pytest.approx(theirs.accuracy_score(labels, predictions))
    assert metrics.balanced_accuracy(confusion) == pytest.approx(theirs.balanced_accuracy_score(labels, predictions))
    assert metrics.macro_f1(confusion) == pytest.approx(theirs.f1_score(labels, predictions, average="macro"))
    assert metrics.recall(confusion) == pytest.approx(theirs.recall_score(labels, predictions, average=None))


def test_classes_without_images() -> None:
    labels, predictions = np.array([0, 0, 2, 2]), np.array([0, 0, 2, 0])
    confusion = metrics.confusion_matrix(labels, predictions, 4)
    assert metrics.balanced_accuracy(confusion) == 0.75
    assert metrics.macro_f1(confusion) == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert np.isnan(metrics.recall(confusion)).tolist() == [False, True, False, True]


def test_likelihood_by_hand() -> None:
    probabilities = np.array([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1], [0.4, 0.6]], np.float32)
    found = Evaluation(probabilities, np.array([0, 0, 0, 1]), 0.0)
    assert found.likelihood() == pytest.approx((0.5 * 0.2 * 0.9 * 0.6) ** 0.25)
    assert found.likelihood(balanced=True) == pytest.approx(((0.5 * 0.2 * 0.9) ** (1 / 3) * 0.6) ** 0.5)
    sure = Evaluation(np.array([[0.0, 1.0]], np.float32), np.array([0]), 0.0)
    assert 0 < sure.likelihood() < 1e-6


def test_top_k() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]], np.float32)
    labels = np.array([1, 0, 0])
    assert [metrics.top_k(probabilities, labels, k) for k in (1, 2, 3, 5)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_calibration_error_by_hand() -> None:
    """Two bins: confidences .9, .9, .9, .9 with three right (gap .15), .6 with none right (gap .6)."""
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]], np.float32)
    labels = np.array([0, 0, 0, 1, 0])
    assert metrics.calibration_error(probabilities, labels) == pytest.approx((4 * 0.15 + 0.6) / 5)
    sure = np.eye(2, dtype=np.float32)[labels]
    assert metrics.calibration_error(sure, labels) == 0


def test_worst_mistakes_come_first() -> None:
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], np.float32)
    found = metrics.worst_mistakes(probabilities, np.array([1, 1, 0, 1]), n=2)
    assert [(m.row, m.label, m.predicted) for m in found] == [(1, 1, 0), (2, 0, 1)]
    assert (found[0].confidence, found[0].likelihood) == pytest.approx((0.9, 0.1))
    assert len(metrics.worst_mistakes(probabilities, np.array([1, 1, 0, 1]))) == 3


def test_evaluation_leaves_the_network_as_it_was(small, held_out) -> None:
    small.train()
    small.head.eval()
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    first, second = evaluate(small, held_out, batch_size=7), evaluate(small, held_out, batch_size=100)
    assert all(torch.equal(before[name], tensor) for name, tensor in small.state_dict().items())
    assert small.training
    assert not small.head.training
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-5)
    assert first.probabilities.sum(1) == pytest.approx(np.ones(100), abs=1e-5)
    assert first.confusion.sum() == 100
    assert first.accuracy == np.mean(first.predictions == held_out.labels.numpy())


def test_the_loss_of_a_network_that_knows_nothing(held_out) -> None:
    model = seeded_build(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), 0)
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    assert evaluate(model, held_out).loss == pytest.approx(math.log(4))


def test_scores_by_name(answers) -> None:
    labels, predictions = answers
    result = Evaluation(np.eye(5, dtype=np.float32)[predictions], labels, 0.0)
    assert result.score("accuracy") == result.accuracy
    assert result.score("macro_f1") == metrics.macro_f1(result.confusion)
    with pytest.raises(UnknownNameError, match="balanced_accuracy"):
        result.score("balanced")


def test_more_classes_than_outputs(small) -> None:
    pixels = Pixels(np.zeros((2, 3, 8, 8), np.uint8), [0, 9], (0.5,) * 3, (0.2,) * 3)
    with pytest.raises(SettingError, match="only 4 outputs"):
        evaluate(small, pixels)


def test_chance_is_the_best_constant_answer_and_the_luck_of_one_case_in_twenty() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    luck = lambda p: 1.645 * math.sqrt(p * (1 - p) / 100)  # noqa: E731
    assert metrics.chance(labels, 3, "accuracy") == pytest.approx(0.6 + luck(0.6))
    assert metrics.chance(labels, 3, "balanced_accuracy") == pytest.approx(1 / 3 + luck(1 / 3))
    assert metrics.chance(labels, 3, "macro_f1") == pytest.approx(0.25 + luck(0.25))  # F1 of class 0 is 2 * 0.6 / 1.6
    rng, drawn = np.random.default_rng(0), 2000  # of a guess that follows the classes' shares, never more often than said
    balanced = np.repeat(np.arange(10), 50)
    beyond = sum((rng.integers(10, size=500) == balanced).mean() > metrics.chance(balanced, 10, "accuracy") for _ in range(drawn))
    assert 0.03 < beyond / drawn < 0.06
