"""The recurrent policy where a space leaves it little choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archduel.core import Arch, sample
from archduel.policies.lstm import LSTMPolicy
from archduel.spaces.nasbench101.space import NASBench101
from archduel.tables.estimator import Restricted

SPACE = NASBench101()


def listed(n: int) -> list[Arch]:
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(sample(SPACE, rng) for _ in range(n)))


def policy_over(archs: list[Arch]) -> LSTMPolicy:
    policy = LSTMPolicy(Restricted(SPACE, archs), generator=torch.Generator().manual_seed(0), hidden=8)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(10)  # far from uniform
    return policy


def test_probabilities_of_all_that_is_listed_sum_to_one() -> None:
    archs = listed(40)
    total = policy_over(archs).log_prob(archs).exp().sum().item()
    assert total == pytest.approx(1.0, abs=1e-5)


def test_draws_are_listed_and_as_likely_as_log_prob_says() -> None:
    archs = listed(6)
    policy = policy_over(archs)
    draw = policy.draw(200, torch.Generator().manual_seed(1))
    assert set(draw.archs) <= set(archs)
    assert torch.allclose(draw.log_prob, policy.log_prob(draw.archs), atol=1e-6)
    shares = np.array([draw.archs.count(arch) / 200 for arch in archs])
    expected = policy.log_prob(archs).exp().detach().numpy()
    assert np.abs(shares - expected).max() < 0.2  # more than five standard deviations of a share


def test_repeated_draws_count_in_the_gradient_as_often_as_drawn() -> None:
    archs = listed(3)
    policy = policy_over(archs)
    draw = policy.draw(50, torch.Generator().manual_seed(1))
    assert len(set(draw.archs)) < 50
    (found,) = torch.autograd.grad(draw.log_prob.sum(), [policy.head.weight])
    (alone,) = torch.autograd.grad(sum(policy.log_prob([arch]).sum() for arch in draw.archs), [policy.head.weight])
    assert torch.allclose(found, alone, atol=1e-4)


def test_a_single_architecture_is_certain() -> None:
    (arch,) = listed(1)
    draw = policy_over([arch]).draw(3, torch.Generator().manual_seed(0))
    assert draw.archs == [arch] * 3
    assert draw.log_prob.tolist() == [0.0] * 3
    assert draw.entropy.tolist() == [0.0] * 3
