"""The belief about size: lifted labels, and a ranker that is taught them."""

from __future__ import annotations

import numpy as np
import pytest

from archduel.assemble import collaborator
from archduel.core import Arch, sample
from archduel.errors import SettingError
from archduel.rankers.size_belief import SizeBelief, lifted
from archduel.spaces.nasbench201.space import NASBench201
from archduel.testing.toy import ToyRanker, ToySpace

SPACE = NASBench201()
CONV3 = 3


def sizes(archs: list[Arch]) -> np.ndarray:
    return np.array([sum(op == CONV3 for op in arch.choices) for arch in archs], float)


def test_weight_nought_keeps_the_order_and_a_large_one_is_the_order_of_size() -> None:
    rng = np.random.default_rng(0)
    scores, macs = rng.normal(size=20), rng.permutation(20)
    np.testing.assert_array_equal(np.argsort(lifted(scores, macs, 0.0)), np.argsort(scores))
    np.testing.assert_array_equal(np.argsort(lifted(scores, macs, 1e6)), np.argsort(macs))


def test_the_unit_of_labels_and_sizes_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    scores, macs = rng.normal(size=9), rng.uniform(1e6, 1e8, 9)
    np.testing.assert_array_equal(lifted(scores, macs, 0.5), lifted(np.exp(scores), np.log(macs), 0.5))


def test_of_equal_labels_the_larger_network_is_believed_better() -> None:
    rng = np.random.default_rng(2)
    archs = list(dict.fromkeys(sample(SPACE, rng) for _ in range(60)))
    scores = np.array([arch.choices[0] for arch in archs], float)  # one edge decides; size is another matter
    judged = {}
    for weight in (0.0, 2.0):
        inner = collaborator("ranker", {"name": "gp", "reference": 200}, SPACE, seed=0)
        ranker = SizeBelief(inner, sizes, weight)
        ranker.fit(archs, scores)
        unseen = [sample(SPACE, rng) for _ in range(300)]
        judged[weight] = np.corrcoef(ranker.predict(unseen), sizes(unseen))[0, 1]
    assert judged[2.0] > judged[0.0] + 0.3


def test_a_ranker_that_cannot_go_on_or_compare_all_pairs_is_helped_out() -> None:
    space = ToySpace()
    rng = np.random.default_rng(3)
    archs = list(dict.fromkeys(sample(space, rng) for _ in range(12)))
    ranker = SizeBelief(ToyRanker(space, seed=0), lambda given: np.arange(float(len(given))), 0.5)
    assert not hasattr(ranker.ranker, "matrix")
    ranker.update(archs, np.arange(float(len(archs))), epochs=3)
    matrix = ranker.matrix(archs)
    expected = [ranker.prob([first] * len(archs), archs) for first in archs]
    np.testing.assert_array_equal(matrix, expected)


def test_a_negative_weight_is_an_error() -> None:
    with pytest.raises(SettingError, match="weight is -1, expected at least 0"):
        SizeBelief(ToyRanker(ToySpace(), seed=0), sizes, -1)
