"""Shared weights over the supernets keep the contract of shared estimators."""

from __future__ import annotations

from shared_task import shared

from archduel.core import SharedEstimator
from archduel.spaces.darts.space import DARTS
from archduel.spaces.nasbench201.space import NASBench201
from archduel.testing.estimators import SharedEstimatorContract


class TestSharedNASBench201(SharedEstimatorContract):
    space = NASBench201()

    def make(self, seed: int) -> SharedEstimator:
        return shared("nasbench201", seed)


class TestSharedDARTS(SharedEstimatorContract):
    space = DARTS("relativenas")

    def make(self, seed: int) -> SharedEstimator:
        return shared("darts", seed, {"affine": True, "pool_norm": False}, channels=2)
