"""CTNAS line by line, on the toy space with a ranker that knows the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from archduel.core import Arch, Budget, Estimate, Local, search
from archduel.errors import SettingError
from archduel.policies.lstm import LSTMPolicy
from archduel.rankers.nac import NAC
from archduel.strategies.ctnas import CTNAS
from archduel.testing.toy import ToyRanker, ToySpace, toy_score

SPACE = ToySpace()


class Oracle(ToyRanker):
    """Compares true scores and remembers what it was taught."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.lessons: list[Any] = []

    def prob(self, first, second):  # type: ignore[no-untyped-def]
        gap = np.array([toy_score(a) - toy_score(b) for a, b in zip(first, second)])
        return 1 / (1 + np.exp(-20 * gap))

    def update(self, archs, scores, *, pairs=None, epochs=1):  # type: ignore[no-untyped-def]
        self.lessons.append(pairs)
        return {}


def make(seed: int = 0, ranker: Any = None, **settings: Any) -> CTNAS:
    """A small CTNAS."""
    generator = torch.Generator().manual_seed(seed)
    small = {"labels": 20, "iterations": 60, "baseline_every": 20, "explore_every": 15, "samples": 40, "keep": 10}
    return CTNAS(
        SPACE,
        LSTMPolicy(SPACE, generator=generator),
        ranker or Oracle(),
        rng=np.random.default_rng(seed),
        generator=generator,
        **{**small, **settings},
    )


def run(strategy: CTNAS, evaluations: int = 1000) -> Any:
    """Runs it to its end."""
    executor = Local(lambda queries: [Estimate(toy_score(query.arch)) for query in queries])
    return search(strategy, executor, budget=Budget(evaluations), window=4, clock=None)


def test_baselines_rise() -> None:
    strategy = make(lr=5e-3)
    run(strategy)
    scores = [toy_score(arch) for arch in strategy.baselines]
    assert len(scores) == 3  # the first, and those of iterations 20 and 40
    assert scores[1:] == sorted(scores[1:])
    assert scores[-1] >= scores[0]


def test_a_fixed_baseline_stays_and_a_random_one_changes() -> None:
    fixed, random = make(baseline="fixed"), make(baseline="random")
    run(fixed)
    run(random)
    assert len(fixed.baselines) == 1
    assert len(random.baselines) == 3


def test_the_surest_pairs_are_kept_with_their_verdict() -> None:
    ranker = Oracle()
    strategy = make(ranker=ranker)
    run(strategy)
    assert 10 < len(strategy.pairs) <= 4 * 10
    for first, second, label in strategy.pairs:
        assert label == float(toy_score(first) >= toy_score(second))
    assert {label for _, _, label in strategy.pairs} == {0.0, 1.0}
    assert len(ranker.lessons) == 4


def test_the_released_variant_keeps_wins_only() -> None:
    strategy = make(variant="released")
    run(strategy)
    assert {label for _, _, label in strategy.pairs} == {1.0}


def test_the_policy_learns_to_win() -> None:
    """The policy becomes likelier to draw what beats the first baseline."""
    strategy = make(iterations=100, batch=8, lr=1e-2, centre=True, baseline="fixed", explore_every=0, chunk=10)
    run(strategy)
    untrained = LSTMPolicy(SPACE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = (policy.draw(200, torch.Generator().manual_seed(1)).archs for policy in (untrained, strategy.policy))
    assert np.mean([toy_score(arch) for arch in after]) > np.mean([toy_score(arch) for arch in before]) + 0.1


def test_forbidden_draws_earn_nothing_and_are_no_candidates() -> None:
    def allowed(arch: Arch) -> bool:
        return arch.choices[0] == 2

    strategy = make(constraint=allowed, batch=4, iterations=100, lr=1e-2, centre=True)
    run(strategy)
    assert all(map(allowed, [*strategy.sampled, *strategy.baselines, *strategy.finalists(5)]))
    with torch.no_grad():
        draws = strategy.policy.draw(200, torch.Generator().manual_seed(1)).archs
    assert np.mean([allowed(arch) for arch in draws]) > 0.4  # a quarter at the start


def test_verified_candidates_decide_by_their_label() -> None:
    strategy = make(verify=6)
    result = run(strategy)
    assert len(result.told) == 26
    assert result.best == max((told.query.arch for told in result.told), key=toy_score)


def test_without_verification_the_comparator_decides() -> None:
    strategy = make(lr=5e-3)
    result = run(strategy)
    assert len(result.told) == 20
    assert result.best == strategy.finalists(3)[0]


def test_it_works_with_the_real_comparator() -> None:
    ranker = NAC(SPACE, epochs=60, lr=2e-3, embedding_dim=16)
    strategy = make(ranker=ranker, labels=40, verify=5)
    result = run(strategy)
    labels = [told.estimate.score for told in result.told[:40]]
    assert toy_score(result.best) >= max(labels)
    assert any("fit_loss" in step.metrics for step in result.steps)


@pytest.mark.parametrize(
    "settings", [{"baseline": "rising"}, {"variant": "mine"}, {"labels": 1}, {"samples": 1}, {"iterations": 0}, {"lr": 0.0}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        make(**settings)
