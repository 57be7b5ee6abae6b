"""Measurements of untrained networks: by hand, the contract, every space."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from archduel import registry
from archduel.core import Estimator, Query, sample
from archduel.errors import SettingError, UnknownNameError
from archduel.estimators.zero_cost import MEASURES, ZeroCost, measure
from archduel.spaces.nasbench201.space import NASBench201
from archduel.testing.estimators import EstimatorContract
from archduel.training.images import Pixels

SMALL = {"channels": 4, "image_size": 8, "batch_size": 6}


def pixels(n: int = 12) -> Pixels:
    """Returns random images of three classes."""
    rng = np.random.default_rng(0)
    return Pixels(rng.integers(256, size=(n, 3, 8, 8)).astype(np.uint8), np.arange(n) % 3, (0.5,) * 3, (0.25,) * 3)


class TestZeroCost(EstimatorContract):
    space = NASBench201()
    n = 3

    def make(self, seed: int) -> Estimator:
        return ZeroCost(pixels(), n_classes=3, seed=seed, **SMALL)


class Line(nn.Module):
    """One linear layer on flattened images, without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)
        self.linear.weight.data = torch.tensor([[1.0, -2, 0, 1], [0, 1, 1, -1], [2, 0, -1, 0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (B, 3)."""
        return self.linear(x.flatten(1))


def test_a_linear_network_by_hand() -> None:
    x, labels = torch.tensor([[1.0, 0, 2, 1], [0, 1, -1, 1]]).reshape(2, 1, 2, 2), torch.tensor([0, 2])
    weight = Line().linear.weight.detach().clone().requires_grad_()
    F.cross_entropy(x.flatten(1) @ weight.T, labels).backward()
    found = measure(Line(), x, labels, seed=0)
    assert weight.grad is not None
    assert found["grad_norm"] == pytest.approx(math.log(float(weight.grad.norm())), rel=1e-5)
    assert found["snip"] == pytest.approx(math.log(float((weight.detach() * weight.grad).abs().sum())), rel=1e-5)
    assert found["synflow"] == pytest.approx(math.log(10))  # the sum of |weights|, each seen by a one
    # equal slopes for both images: correlations of rank one, eigenvalues 0 and 2
    expected = -(math.log(1e-5) + 1e5 + math.log(2 + 1e-5) + 1 / (2 + 1e-5))
    assert found["jacobian_covariance"] == pytest.approx(expected, rel=1e-3)


def test_switches_by_hand() -> None:
    class Switched(Line):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Returns (B, 3)."""
            return self.linear(self.relu(x.flatten(1)))

    x = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1]]).reshape(2, 1, 2, 2)
    found = measure(Switched(), x, torch.tensor([0, 1]), seed=0)
    assert found["naswot"] == pytest.approx(math.log(4.001**2 - 2**2), rel=1e-6)  # 4 switches, 2 agree


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201", "natsbench_sss", "darts", "mobilenetv3", "resnet"])
def test_networks_of_every_space_can_be_measured(name: str) -> None:
    space = registry.make("space", name)
    size = {**SMALL, "image_size": 32} if name == "mobilenetv3" else SMALL
    estimator = ZeroCost(pixels(), n_classes=3, **{**size, "depth": 3 if name == "darts" else 1})
    (estimate,) = estimator.estimate([Query(sample(space, np.random.default_rng(1)))])
    assert not estimate.reason
    assert set(estimate.values) == set(MEASURES)
    assert np.isfinite(list(estimate.values.values())).all()
    assert estimate.cost.images == 6


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'synflow'"):
        ZeroCost(pixels(), n_classes=3, metric="sinflow")
    with pytest.raises(SettingError, match="2 or more"):
        ZeroCost(pixels(), n_classes=3, batch_size=1)
