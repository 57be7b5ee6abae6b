"""What happens when inside the papers' loops: drawn from where, judged by which baseline, learned on what, inherited when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from archduel.assemble import assemble
from archduel.core import Arch, Cost, Estimate, sample
from archduel.policies.logits import LogitsPolicy
from archduel.spaces.darts.space import DARTS as DARTSSpace
from archduel.spaces.nasbench201.space import NASBench201
from archduel.strategies.cnas import operation_stages
from archduel.strategies.ctnas import CTNAS
from archduel.strategies.one_shot import ignores_input
from archduel.strategies.relativenas import RelativeNAS, cosine
from archduel.testing.toy import ToyRanker, ToyShared, ToySpace, toy_score

SPACE = ToySpace()


# -- CTNAS ----------------------------------------------------------------------------------------------------------------


class Oracle(ToyRanker):
    """Compares true scores and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.asked: list[tuple[list[Arch], list[Arch]]] = []

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> np.ndarray[Any, Any]:
        self.asked.append((list(first), list(second)))
        gap = np.array([toy_score(a) - toy_score(b) for a, b in zip(first, second)])
        return np.asarray(1 / (1 + np.exp(-20 * gap)))

    def update(self, archs: Any, scores: Any, *, pairs: Any = None, epochs: int = 1) -> dict[str, float]:
        return {}


def ctnas(**settings: Any) -> CTNAS:
    policy = settings.pop("policy", None) or LogitsPolicy(SPACE)
    small = {"labels": 8, "iterations": 40, "baseline_every": 10, "explore_every": 15, "samples": 30, "keep": 5, "chunk": 1}
    return CTNAS(
        SPACE, policy, Oracle(), rng=np.random.default_rng(0), generator=torch.Generator().manual_seed(0), **{**small, **settings}
    )  # fmt: skip


def by_quality() -> list[Arch]:
    """Returns the chains of one operation, the best last."""
    return sorted((Arch("toy", (0, op)) for op in range(5)), key=toy_score)


def test_rewards_are_against_the_latest_baseline() -> None:
    strategy = ctnas(batch=3)
    while queries := strategy.ask(8):
        strategy.tell(queries, [Estimate(toy_score(query.arch)) for query in queries])
    strategy.step()  # fits, draws the first baseline
    strategy.baselines = [by_quality()[0]]
    rivals = []
    for _ in range(40):
        before = strategy.iteration
        assert isinstance(strategy.ranker, Oracle)
        strategy.ranker.asked.clear()
        strategy.step()
        first, second = strategy.ranker.asked[-1]
        if len(first) <= 3 and len(set(second)) == 1:  # the draws of this iteration
            assert second[0] == strategy.baselines[-1], before
            rivals.append(second[0])
    assert len(strategy.baselines) == 4
    assert len(set(strategy.baselines)) > 1
    assert set(rivals) >= set(strategy.baselines[:2])


def test_the_next_baseline_is_the_strongest_of_history_and_draws() -> None:
    strategy, archs = ctnas(), by_quality()
    strategy.baselines, strategy.sampled = [archs[-1], archs[1]], archs[:3]
    strategy._next_baseline()
    assert strategy.baselines[-1] == archs[-1]  # of the history, stronger than every draw
    strategy.baselines, strategy.sampled = [archs[0]], archs
    strategy._next_baseline()
    assert strategy.baselines[-1] == archs[-1]


def test_a_reward_is_asked_again_after_a_new_baseline_and_after_an_exploration() -> None:
    strategy, archs = ctnas(), by_quality()
    strategy.baselines, strategy.sampled = [archs[0]], archs
    strategy._judge([archs[2]])
    easy = strategy._verdicts[archs[2]]
    strategy._next_baseline()
    strategy._judge([archs[2]])
    assert strategy._verdicts[archs[2]] < easy
    strategy.iteration = 15
    strategy._explore()
    assert not strategy._verdicts


@pytest.mark.parametrize("name", ["ctnas", "cnas"])
def test_the_entropy_bonus_spreads_a_policy_that_earns_nothing(name: str) -> None:
    policy = LogitsPolicy(SPACE)
    with torch.no_grad():
        policy.logits.copy_(torch.randn(policy.logits.shape, generator=torch.Generator().manual_seed(1)))

    def entropy() -> float:
        return float(policy.draw(400, torch.Generator().manual_seed(2)).entropy.detach().mean())

    before = entropy()
    if name == "ctnas":
        strategy = ctnas(policy=policy, entropy=1.0, lr=0.02, weight_decay=0.0, batch=8, constraint=lambda arch: False)
        strategy.baselines = by_quality()[:1]
        for _ in range(15):
            strategy._improve()
    else:
        settings = {"entropy": 1.0, "lr": 0.02, "weight_decay": 0.0, "batch": 8, "batches": 16}
        cnas = assemble("cnas", SPACE, seed=0, settings=settings, given={"policy": policy, "shared": Watched()}, constraint=lambda arch: False)
        for _ in range(8):
            cnas._improve_policy({})
    assert entropy() > before + 0.05


# -- CNAS -----------------------------------------------------------------------------------------------------------------


class Watched(ToyShared):
    """Toy weights that keep what they were taught, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.taught: list[list[Arch]] = []

    def learn(self, archs: Iterable[Arch | Sequence[Arch]], n_batches: int, *, lr: float | None = None) -> Cost:
        items = list(islice(archs, n_batches))
        self.taught.append([arch for arch in items if isinstance(arch, Arch)])
        return super().learn(items, n_batches, lr=lr)


def test_weights_learn_uniformly_in_the_stage_while_it_warms_up_and_from_the_policy_in_it_after_that() -> None:
    shared, policy = Watched(), LogitsPolicy(SPACE)
    with torch.no_grad():
        policy.logits.copy_(torch.linspace(-2, 2, policy.logits.numel()).view_as(policy.logits))  # far from uniform
    order = [4, 3, 1]
    settings = {"warmup_epochs": 1, "stage_epochs": 1, "batches": 12, "order": order, "lr": 1e-12, "weight_decay": 0.0}
    cnas = assemble("cnas", SPACE, seed=0, settings=settings, given={"policy": policy, "shared": shared})
    drawn: list[int] = []
    draw = policy.draw

    def watched(n: int, generator: torch.Generator, *, allowed: Any = None) -> Any:
        drawn.append(cnas.epoch)
        return draw(n, generator, allowed=allowed)

    policy.draw = watched  # type: ignore[method-assign]
    sampled = np.random.default_rng()
    stages = operation_stages(SPACE, "op", order)
    for epoch in range(6):
        stage, warm = stages[epoch // 2], epoch % 2 == 0
        sampled.bit_generator.state = cnas.rng.bit_generator.state
        if cnas.closing.any is None:  # the first step names an architecture first
            sample(SPACE, sampled)
        drawn.clear()
        assert cnas.step() is not None
        taught = shared.taught[-1]
        assert {op for arch in taught for op in arch.choices[1:]} <= set(stage["op"]), epoch
        uniform = [sample(SPACE, sampled, allowed=stage) for _ in range(12)]
        assert (taught == uniform) == warm, epoch
        assert bool(drawn) != warm, epoch


# -- RelativeNAS ----------------------------------------------------------------------------------------------------------


class Races(ToyShared):
    """Weights whose races are decided by a table and written down."""

    def __init__(self, losses: dict[Arch, float]) -> None:
        super().__init__()
        self.losses, self.events = losses, list[tuple[Any, ...]]()

    def loss_of(self, arch: Arch) -> float:
        return self.losses.setdefault(arch, (hash(arch.choices) % 997) / 997)

    def compete(
        self, first: Arch, second: Arch, n_batches: int, *, lr: float | None = None, drop_path: float = 0.0
    ) -> tuple[Estimate, Estimate]:
        self.events.append(("race", first, second, n_batches, lr, drop_path))
        answers = [Estimate(1 - self.loss_of(arch), Cost(), {"val_loss": self.loss_of(arch)}) for arch in (first, second)]
        return answers[0], answers[1]

    def inherit(self, winner: Arch, loser: Arch) -> None:
        self.events.append(("inherit", winner, loser))


def test_three_generations_of_relativenas_are_those_of_ten_plain_lines() -> None:
    shared = Races({})
    strategy = RelativeNAS(SPACE, shared, rng=np.random.default_rng(3), population=4, generations=3, batches=5, lr=0.1, lr_min=0.001, drop_path=0.3)
    rng, coding = np.random.default_rng(3), strategy.coding
    strategy._begin()
    x = np.stack([coding.draw(rng) for _ in range(4)])
    np.testing.assert_array_equal(strategy.positions, x)
    v, expected, rates = np.zeros_like(x), [], []
    for g in range(3):
        order, races = rng.permutation(4).tolist(), []
        for a, b in (order[:2], order[2:]):
            first, second = coding.decode(x[a]), coding.decode(x[b])
            expected.append(("race", first, second, 5))
            rates.append((0.001 + 0.099 * (1 + math.cos(math.pi * g / 3)) / 2, 0.3 * g / 3))
            fast, slow = (a, b) if shared.loss_of(first) <= shared.loss_of(second) else (b, a)
            expected.append(("inherit", coding.decode(x[fast]), coding.decode(x[slow])))
            races.append((fast, slow))
        for fast, slow in races:
            r1, r2 = rng.random((2, x.shape[1]))
            v[slow] = r1 * v[slow] + r2 * (x[fast] - x[slow])
            x[slow] = np.clip(x[slow] + v[slow], 0, coding.upper)
    while strategy.step() is not None:
        pass
    np.testing.assert_allclose(strategy.positions, x)
    np.testing.assert_allclose(strategy.velocities, v)
    assert (v != 0).any(1).sum() > 1  # velocities that were kept and moved again
    assert [event[:4] if event[0] == "race" else event for event in shared.events] == expected
    found = [event[4:] for event in shared.events if event[0] == "race"]
    np.testing.assert_allclose(found, rates)
    assert len({lr for lr, _ in rates}) == 3
    assert cosine(0.1, 0.001, 1 / 3) == pytest.approx(rates[2][0])


# -- DARTS ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
def test_alphas_descend_on_validation_batches_and_weights_on_training_batches(order: int) -> None:
    shared = ToyShared()
    darts = assemble("darts", SPACE, seed=0, settings={"order": order, "epochs": 1, "batches": 3}, given={"shared": shared})
    kept = {split: list(islice(ToyShared().batches(split), 3)) for split in ("train", "validation")}
    asked: list[tuple[Any, Any]] = []
    gradients, update, updated = darts.gradients, shared.update, list[float]()

    def watched(train: Any, validation: Any) -> Any:
        asked.append((train, validation))
        found = gradients(train, validation)
        if order == 1:  # of the loss on the validation batch alone
            loss = shared.loss(darts._weights(), validation)
            for own, wanted in zip(found, torch.autograd.grad(loss, list(darts.alphas.values()))):
                torch.testing.assert_close(own, wanted)
        return found

    def learned(loss: torch.Tensor, *, lr: float | None = None) -> None:
        updated.append(float(loss.detach()) - float(shared.loss(darts._weights(), asked[-1][0]).detach()))
        update(loss, lr=lr)

    darts.gradients, shared.update = watched, learned  # type: ignore[method-assign]
    darts.step()
    for (train, validation), wanted_train, wanted_validation in zip(asked, kept["train"], kept["validation"], strict=True):
        assert torch.equal(train[0], wanted_train[0])
        assert torch.equal(validation[0], wanted_validation[0])
    assert updated == pytest.approx([0.0] * 3, abs=1e-6)


def test_beta_decay_adds_the_gradient_of_the_mean_log_sum_exp_with_a_rising_weight() -> None:
    settings = {"order": 1, "epochs": 4, "batches": 1, "beta_decay": 8.0, "variant": "judged"}
    darts = assemble("darts", SPACE, seed=0, settings=settings, given={"shared": ToyShared()})
    train, validation = next(ToyShared().batches("train")), next(ToyShared().batches("validation"))
    for epoch, weight in ((0, 0.0), (1, 2.0), (3, 6.0)):
        darts.epoch = epoch
        before = [alpha.detach().clone().requires_grad_() for alpha in darts.alphas.values()]
        plain = darts.gradients(train, validation)
        term = weight * torch.cat([alpha.logsumexp(1) for alpha in before]).mean()
        decays = torch.autograd.grad(term, before)
        darts._update_alphas(train, validation)
        for alpha, gradient, decay in zip(darts.alphas.values(), plain, decays):
            torch.testing.assert_close(alpha.grad, gradient + decay)


def test_a_cell_that_ignores_its_input_is_known_and_not_named() -> None:
    space = NASBench201()
    constant = [Arch("nasbench201", choices) for choices in ((0, 0, 2, 0, 3, 3), (3, 3, 3, 0, 0, 0), (0, 0, 3, 0, 3, 3))]
    seeing = [Arch("nasbench201", choices) for choices in ((0, 0, 0, 1, 0, 0), (0, 3, 0, 0, 0, 2), (3, 0, 3, 0, 0, 3))]
    assert [ignores_input(space, arch) for arch in constant + seeing] == [True] * 3 + [False] * 3
    share = np.mean([ignores_input(space, sample(space, np.random.default_rng(i))) for i in range(2000)])
    assert 0.01 < share < 0.1
    cells = DARTSSpace("any")
    assert ignores_input(cells, Arch("darts", (0, 0) * 8 + (0, 3) * 8))
    assert not ignores_input(cells, Arch("darts", (0, 3) + (0, 0) * 7 + (0, 0) * 8))
    assert not ignores_input(SPACE, Arch("toy", (0, 0)))  # which cannot say


def test_darts_names_another_cell_where_the_derived_one_is_a_constant() -> None:
    class Knowing(ToySpace):
        def ignores_input(self, arch: Arch) -> bool:
            return arch == derived

    shared = ToyShared()
    plain = assemble("darts", SPACE, seed=0, settings={"epochs": 1, "batches": 2, "order": 1}, given={"shared": shared})
    last = plain.step()
    derived = plain.best()
    assert "constant" not in last.metrics
    knowing = assemble("darts", Knowing(), seed=0, settings={"epochs": 1, "batches": 2, "order": 1}, given={"shared": ToyShared()})
    last = knowing.step()
    assert last.metrics["constant"] == 1.0
    assert knowing._derived() == derived
    assert derived not in knowing.finalists(9)
    assert knowing.best() != derived
