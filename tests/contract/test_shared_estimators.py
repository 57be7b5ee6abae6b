"""Shared estimators keep the contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archduel.core import Arch, Query, SharedEstimator, fair_sample
from archduel.errors import InvalidArchError, SettingError
from archduel.spaces.nasbench201.space import NASBench201
from archduel.testing.estimators import SharedEstimatorContract
from archduel.testing.toy import ToyShared, ToySpace


class TestToyShared(SharedEstimatorContract):
    space = ToySpace()

    def make(self, seed: int) -> SharedEstimator:
        return ToyShared(seed)


def test_trained_toy_weights_tell_good_chains_from_bad_ones() -> None:
    shared, rng = ToyShared(3), np.random.default_rng(0)
    shared.learn(fair_sample(ToySpace(), 200, rng), 200)
    good, bad = shared.estimate([Query(Arch("toy", (3, 4, 3, 4, 3))), Query(Arch("toy", (3, 1, 1, 1, 1)))])
    assert good.score > bad.score + 0.1


def test_a_toy_mix_of_one_operation_a_place_is_that_chain() -> None:
    shared = ToyShared(0)
    shared.learn([Arch("toy", (3, 1, 2, 3, 4))] * 5, 5)
    x = next(shared.batches("validation"))[0]
    weights = {"chain": torch.nn.functional.one_hot(torch.tensor([1, 2, 3, 4]), 5).float()}
    assert torch.allclose(shared.supernet.mix(x, weights), shared.supernet(x, Arch("toy", (3, 1, 2, 3, 4))))
    assert shared.supernet.derive(weights) == Arch("toy", (3, 1, 2, 3, 4))


def test_five_fair_cells_of_nasbench201_have_every_operation_on_every_edge_once() -> None:
    archs = fair_sample(NASBench201(), 5, np.random.default_rng(1))
    for edge in range(6):
        assert sorted(arch.choices[edge] for arch in archs) == [0, 1, 2, 3, 4]


def test_fair_samples_keep_to_what_is_allowed() -> None:
    archs = fair_sample(NASBench201(), 6, np.random.default_rng(1), allowed={"op": (1, 3, 4)})
    for edge in range(6):
        assert sorted(arch.choices[edge] for arch in archs) == [1, 1, 3, 3, 4, 4]
    with pytest.raises(SettingError, match="leaves no answer to edge 0->1"):
        fair_sample(NASBench201(), 6, np.random.default_rng(1), allowed={"op": (9,)})


def test_questions_that_depend_on_others_are_fair_among_the_times_they_came_up() -> None:
    archs = fair_sample(ToySpace(), 40, np.random.default_rng(2))
    last = np.bincount([arch.choices[4] for arch in archs if len(arch.choices) == 5], minlength=5)
    assert last.max() - last.min() <= 1


def test_an_architecture_of_elsewhere_is_named() -> None:
    with pytest.raises(InvalidArchError):
        ToyShared(0).learn([Arch("elsewhere", (0,))], 1)
