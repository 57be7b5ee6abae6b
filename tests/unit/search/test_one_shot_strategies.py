"""One-shot strategies by hand: gradients against finite differences, masks, moves, labels, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from archduel.assemble import assemble
from archduel.core import Arch, Cost, Draw, Estimate, Query, Scale, enumerate_space, sample, sample_distinct
from archduel.errors import SettingError, UnknownNameError
from archduel.estimators.shared import SharedWeights
from archduel.policies.logits import LogitsPolicy
from archduel.spaces.darts.space import DARTS as DARTSSpace
from archduel.spaces.family import supernet
from archduel.spaces.nasbench201.space import NASBench201
from archduel.strategies.cnas import node_stages, numbered, operation_stages, random_order
from archduel.strategies.darts import DARTS, concentration, dirichlet
from archduel.strategies.one_shot import Closing
from archduel.strategies.relativenas import Coding, RelativeNAS, cosine
from archduel.testing.toy import ToyRanker, ToyShared, ToySpace
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe


def toy(name: str, shared: Any = None, seed: int = 0, **settings: Any) -> Any:
    """Returns a strategy over the toy space."""
    space = ToySpace()
    given = {"ranker": ToyRanker(space), "shared": shared or ToyShared()}
    return assemble(name, space, seed=seed, settings=settings, given=given)


def exact() -> ToyShared:
    """Returns toy weights in double precision: somewhere, in motion, with weight decay."""
    shared = ToyShared(lr=0.05)
    shared.weight_decay = 0.01  # type: ignore[misc]
    generator = torch.Generator().manual_seed(1)
    shared.supernet.double()
    with torch.no_grad():
        for name, p in shared.supernet.named_parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
            shared._velocity[name] = 0.1 * torch.randn(p.shape, generator=generator).double()
    shared._data = {split: (x.double(), y) for split, (x, y) in shared._data.items()}
    return shared


def unrolled_loss(darts: Any, train: Any, validation: Any) -> float:
    """Returns L_val(w', alpha) with w' one virtual step of all weights away, w left as it is."""
    shared = darts.shared
    weights = list(shared.supernet.parameters())
    kept = [w.detach().clone() for w in weights]
    grads = torch.autograd.grad(shared.loss(darts._weights(), train), weights, allow_unused=True)
    with torch.no_grad():
        for w, g in zip(weights, grads):
            w -= shared.lr * ((0 if g is None else g) + shared.weight_decay * w + shared.momentum * shared.velocity(w))
        value = float(shared.loss(darts._weights(), validation))
        for w, before in zip(weights, kept):
            w.copy_(before)
    return value


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_darts_are_those_of_finite_differences(order: int) -> None:
    shared = exact()
    darts = toy("darts", shared, order=order, variant="judged")
    alpha = darts.alphas["chain"] = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    train, validation = next(shared.batches("train")), next(shared.batches("validation"))
    before = [w.detach().clone() for w in shared.supernet.parameters()]
    found = darts.gradients(train, validation)[0]
    assert all(torch.equal(a, b) for a, b in zip(before, shared.supernet.parameters())), "w must be put back"
    wanted, step = torch.zeros_like(alpha), 1e-5
    for i in range(4):
        for j in range(5):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    alpha[i, j] += sign * step
                values.append(unrolled_loss(darts, train, validation) if order == 2 else float(shared.loss(darts._weights(), validation).detach()))
                with torch.no_grad():
                    alpha[i, j] -= sign * step
            wanted[i, j] = (values[0] - values[1]) / (2 * step)
    # equation 8 is a finite difference itself, with radius 0.01: right to second order
    torch.testing.assert_close(found, wanted, rtol=1e-6 if order == 1 else 2e-4, atol=1e-7)
    if order == 2:
        first = toy("darts", shared, order=1, variant="judged")
        first.alphas["chain"] = alpha
        assert float((first.gradients(train, validation)[0] - wanted).norm()) > 20 * float((found - wanted).norm())


def test_the_drawn_mixture_has_the_moments_of_a_dirichlet_distribution_and_their_gradient() -> None:
    n, row = 40_000, torch.tensor([1.5, -2.0, 0.0, 0.7], dtype=torch.float64)
    mixed = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    alpha = row.repeat(n, 1).requires_grad_()
    drawn = dirichlet(alpha, mixed, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.sum(1), torch.ones(n, dtype=torch.float64))
    assert bool((drawn[:, 2] == 0).all())
    exact, beta = row.clone().requires_grad_(), torch.tensor([2.5, math.exp(-2), 0.0, 1.7], dtype=torch.float64)
    mean = beta / beta.sum()
    spread = (mean * (1 - mean) / (beta.sum() + 1)).sqrt()
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.01)
    torch.testing.assert_close(drawn.std(0), spread, rtol=0.03, atol=0)
    wanted = torch.autograd.grad(concentration(exact)[0] / (concentration(exact) * mixed).sum(), exact)[0]
    each = torch.autograd.grad(drawn[:, 0].sum(), alpha)[0]  # of each draw, the mean is that of the mean
    error = 4 * each.std(0) / math.sqrt(n)
    assert bool(((each.mean(0) - wanted).abs() <= error).all())
    assert bool((wanted.abs() > 4 * error)[[0, 1, 3]].all()), "the bound must tell a wrong gradient"


def test_an_edge_without_any_weight_is_nothing_and_not_nan() -> None:
    alpha = torch.full((2, 3), -200.0).requires_grad_()
    drawn = dirichlet(alpha, torch.ones(3), torch.Generator().manual_seed(0))
    assert bool(drawn.isfinite().all())
    assert bool(torch.autograd.grad(drawn.square().sum(), alpha)[0].isfinite().all())


@pytest.mark.parametrize("order", [1, 2])
def test_a_mixture_is_drawn_anew_for_each_update_and_stays_while_its_gradient_is_found(order: int) -> None:
    shared = ToyShared()
    darts = toy("darts", shared, order=order, epochs=1, batches=3)
    seen: list[list[torch.Tensor]] = [[]]
    loss, gradients, update = shared.loss, darts.gradients, shared.update

    def watched(what: Any, batch: Any) -> torch.Tensor:
        if not isinstance(what, Arch):
            seen[-1].append(what["chain"].detach().clone())
        return loss(what, batch)

    def found(train: Any, validation: Any) -> Any:
        answer = gradients(train, validation)
        seen.append([])
        return answer

    def learned(value: torch.Tensor) -> None:
        update(value)
        seen.append([])

    shared.loss, darts.gradients, shared.update = watched, found, learned  # type: ignore[assignment, method-assign]
    darts.step()
    turns = [turn for turn in seen if turn]
    assert [len(turn) for turn in turns] == [1 if order == 1 else 4, 1] * 3
    assert all(torch.equal(turn[0], other) for turn in turns[::2] for other in turn)  # alpha stands still meanwhile
    firsts = [turn[0] for turn in turns]
    assert not any(torch.equal(a, b) for i, a in enumerate(firsts) for b in firsts[:i])


def test_the_order_and_the_price_of_darts_are_those_of_its_variants_paper() -> None:
    assert [toy("darts", variant=variant).order for variant in ("dirichlet", "judged", "paper")] == [1, 2, 2]
    assert toy("darts", order=2).order == 2
    given = [{}, {"order": 0}, {"order": 2}, {"variant": "paper"}, {"variant": "judged", "order": 1}]
    assert [DARTS.mixing(settings, 4) for settings in given] == [4, 4, 10, 10, 4]
    with pytest.raises(SettingError, match="beta_decay is 50: .* set variant='judged' or 'paper'"):
        toy("darts", beta_decay=50.0)
    with pytest.raises(SettingError, match="variant is 'dirichlet', expected 'judged' or 'paper'"):
        toy("gdas", variant="dirichlet")


def test_gdas_runs_one_operation_an_edge_with_the_gradient_of_the_relaxed_sample() -> None:
    gdas = toy("gdas", tau_max=3.0, tau_min=1.0, epochs=3)
    gdas._noise = {"chain": gdas._gumbel(gdas.alphas["chain"])}
    alpha, noise = gdas.alphas["chain"], gdas._noise["chain"]
    weights = gdas._weights()["chain"]
    assert torch.equal((weights == 1).sum(1), torch.ones(4, dtype=torch.int64))
    assert int((weights == 0).sum()) == 16
    relaxed = ((alpha.log_softmax(1) + noise) / 3.0).softmax(1)
    assert torch.equal(weights.argmax(1), relaxed.argmax(1))
    gradient = torch.autograd.grad(weights.sum(), alpha)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(relaxed.amax(1).sum(), alpha)[0])


class Recorded:
    """Shared weights whose rewards are a table and that learn nothing."""

    supernet = ToyShared().supernet

    def __init__(self, table: Mapping[Arch, float]) -> None:
        self.table = table

    def n_batches(self, split: str) -> int:
        """Returns 1."""
        return 1

    def estimate(self, queries: list[Query]) -> list[Estimate]:
        """Returns the table's rewards."""
        return [Estimate(self.table[query.arch]) for query in queries]


def test_the_policy_gradient_of_cnas_is_that_of_expected_reward_and_entropy() -> None:
    space, omega = ToySpace(), {"length": (0, 1), "op": (1, 2)}
    archs = [a for a in enumerate_space(space) if a.choices[0] < 2 and set(a.choices[1:]) <= {1, 2}]
    table = {arch: 0.1 * i for i, arch in enumerate(archs)}
    policy = LogitsPolicy(space)
    with torch.no_grad():
        policy.logits.copy_(0.5 * torch.randn(policy.logits.shape, generator=torch.Generator().manual_seed(3)))
    cnas = assemble(
        "cnas", space, seed=0, given={"policy": policy, "shared": Recorded(table)},
        settings={"batch": 4000, "entropy": 0.1, "grad_clip": 0.0, "momentum": 0.9999, "lr": 1e-12, "weight_decay": 0.0},
    )  # fmt: skip
    cnas._improve_policy(omega)

    def objective() -> float:
        p = policy.log_prob(archs, allowed=omega).exp()
        assert float(p.sum()) == pytest.approx(1.0, abs=1e-5)
        return float((p * torch.tensor([table[a] for a in archs]) - 0.1 * p * p.log()).sum())

    found, wanted = -policy.logits.grad, torch.zeros_like(policy.logits)
    for i, j in torch.nonzero(found).tolist():
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                policy.logits[i, j] += sign * 0.05
                values.append(objective())
                policy.logits[i, j] -= sign * 0.05
        wanted[i, j] = (values[0] - values[1]) / 0.1
    # the sum of decision entropies has the joint entropy as its mean, but its gradient lacks that of which questions come up
    named = [row for name, row in policy._index.items() if name != "length"]
    assert float(wanted.norm()) > 0.05
    assert float((found - wanted)[named].abs().max()) < 0.015


def test_stages_add_one_operation_and_the_last_ones_can_be_chosen() -> None:
    space = DARTSSpace("cnas")
    order = random_order(space, "op", np.random.default_rng(1))
    assert order[0] == space.words("op").index("sep_conv_3x3")
    assert sorted(order) == list(range(8))
    stages = operation_stages(space, "op", order)
    assert [len(stage["op"]) for stage in stages] == list(range(1, 9))
    policy = LogitsPolicy(space)
    draw: Draw = policy.draw(20, torch.Generator().manual_seed(0), allowed=stages[-1])
    assert {op for arch in draw.archs for op in arch.choices[1::2]} == set(range(8))
    first = policy.draw(5, torch.Generator().manual_seed(0), allowed=stages[0])
    assert {op for arch in first.archs for op in arch.choices[1::2]} == {order[0]}
    rng = np.random.default_rng(0)
    assert all(set(sample(space, rng, allowed=stages[2]).choices[1::2]) <= set(order[:3]) for _ in range(20))


def test_operations_may_be_named_and_wrong_names_are_refused() -> None:
    space = NASBench201()
    assert numbered(space, "op", ["nor_conv_3x3", "none", 4]) == [3, 0, 4]
    with pytest.raises(UnknownNameError, match="did you mean 'nor_conv_3x3'"):
        numbered(space, "op", ["nor_conv_3x4"])
    with pytest.raises(SettingError, match="twice"):
        numbered(space, "op", ["none", 0])
    with pytest.raises(UnknownNameError, match="operation '7' is unknown"):
        toy("cnas", order=[1, 7])
    with pytest.raises(SettingError, match="must be a list"):
        toy("cnas", order="skip")
    with pytest.raises(SettingError, match="no decisions of kind 'colour'"):
        toy("cnas", order=[1], kind="colour")


def test_nodes_may_grow_where_a_node_can_be_idle() -> None:
    space = DARTSSpace("cnas")
    stages = node_stages(space, "op", "none")
    assert [len(stage) for stage in stages] == [12, 8, 4, 0]  # of 16 operations, those of 3, 2, 1, 0 nodes in both cells
    arch = sample(space, np.random.default_rng(0), allowed=stages[0])
    assert set(arch.choices[5:16:2]) == {0}
    with pytest.raises(SettingError, match="preset=cnas"):
        node_stages(DARTSSpace(), "op", "none")
    with pytest.raises(SettingError, match="cannot grow by nodes"):
        node_stages(NASBench201(), "op", "none")


def test_cnas_warms_up_with_weights_alone_and_grows_at_its_epochs() -> None:
    cnas = toy("cnas", warmup_epochs=1, stage_epochs=2, batches=1, order=[4, 3, 1])
    before = {k: v.clone() for k, v in cnas.policy.state_dict().items()}
    reports = [cnas.step() for _ in range(2)]
    assert [r.metrics["warmup"] for r in reports] == [1.0, 0.0]
    assert "reward" not in reports[0].metrics
    assert any(not torch.equal(before[k], v) for k, v in cnas.policy.state_dict().items())
    stages = [r.metrics["stage"] for r in iter(cnas.step, None)]
    assert stages == [1, 2, 2, 2, 3, 3, 3]
    assert len(toy("cnas", grow="fixed", order=[4, 3, 1]).stages) == 3


def test_the_moving_baseline_begins_at_the_first_reward_and_moves_before_it_is_used() -> None:
    cnas = toy("cnas", momentum=0.9)
    assert cnas._moved(0.5) == 0.5
    assert cnas._moved(1.0) == pytest.approx(0.55)


def test_floor_decodes_and_bounds_mean_the_last_option() -> None:
    coding = Coding(DARTSSpace("relativenas"))
    one_cell = [2, 7, 2, 7, 3, 7, 3, 7, 4, 7, 4, 7, 5, 7, 5, 7]
    assert coding.upper.tolist() == one_cell * 2
    assert coding.decode(coding.upper).choices[:4] == (1, 7, 1, 7)
    x = np.zeros(32)
    assert coding.decode(x).choices[:4] == (0, 1, 0, 1)
    x[1], x[2], x[3] = 3.2, 1.0, 6.999
    assert coding.decode(x).choices[:4] == (0, 4, 0, 7)  # 3.2 is the fourth of the options 1..7; a whole 1.0 is read as 0
    for space in (DARTSSpace("relativenas"), DARTSSpace(), NASBench201(), ToySpace()):
        coding, rng = Coding(space), np.random.default_rng(0)
        for arch in (sample(space, rng) for _ in range(20)):
            assert coding.decode(coding.encode(arch)) == arch
        space.validate(coding.decode(coding.draw(rng)))


def test_only_the_slow_learner_moves_and_by_the_rule() -> None:
    strategy = toy("relativenas", population=2, generations=2)
    strategy.rng = np.random.default_rng(5)
    copy = np.random.default_rng(5)
    x = np.stack([strategy.coding.draw(copy) for _ in range(2)])
    order = copy.permutation(2).tolist()
    strategy.step()
    assert strategy.velocities.shape == (2, 5)
    a, b = (strategy.coding.decode(x[i]) for i in order)
    losses = [e.values["val_loss"] for e in ToyShared().compete(a, b, 8, lr=0.1)]
    fast, slow = order if losses[0] <= losses[1] else order[::-1]
    r2 = copy.random((2, 5))[1]
    v = r2 * (x[fast] - x[slow])  # the velocity began at zero
    np.testing.assert_allclose(strategy.velocities[slow], v)
    np.testing.assert_allclose(strategy.positions[slow], np.clip(x[slow] + v, 0, strategy.coding.upper))
    np.testing.assert_array_equal(strategy.positions[fast], x[fast])
    np.testing.assert_array_equal(strategy.velocities[fast], 0)


def test_odd_populations_and_wrong_numbers_are_refused() -> None:
    with pytest.raises(SettingError, match="population is 7, expected an even number above 0"):
        RelativeNAS(ToySpace(), ToyShared(), rng=np.random.default_rng(0), population=7)
    for name, wrong in (
        ("relativenas", {"lr_min": 0.2}), ("cnas", {"grow": "sideways"}), ("cnas", {"stage_epochs": 0}), ("darts", {"order": 3}),
        ("spos", {"sampling": "often"}), ("spos", {"rate": 0.0}), ("gdas", {"tau_min": 0.0}), ("ctnas_oneshot", {"average": 200}),
        ("spos", {"verify": -1}),
    ):  # fmt: skip
        with pytest.raises(SettingError):
            toy(name, **wrong)
    assert cosine(0.1, 0.001, 0) == 0.1
    assert cosine(0.1, 0.001, 1) == pytest.approx(0.001)


def test_darts_refuses_a_supernet_that_cannot_mix() -> None:
    shared = ToyShared()
    shared.supernet = object()  # type: ignore[assignment]
    with pytest.raises(SettingError, match="cannot mix"):
        toy("darts", shared)


def test_spos_never_scores_an_architecture_twice() -> None:
    shared = ToyShared()
    asked: list[Arch] = []
    score = shared.estimate
    shared.estimate = lambda queries: asked.extend(q.arch for q in queries) or score(queries)  # type: ignore[method-assign]
    spos = toy("spos", shared, epochs=1, population=10, generations=5, parents=3, crossovers=5, mutants=5)
    while spos.step() is not None:
        pass
    assert len(asked) == len(set(asked)) == 60
    assert spos.best() == max(asked, key=spos.closing.inherited.score)


class Says:
    """Shared weights that say what is written down: score, loss and multiply-adds of each architecture."""

    def __init__(self, known: dict[Arch, dict[str, float]]) -> None:
        self.known = known

    def estimate(self, queries: list[Query]) -> list[Estimate]:
        return [Estimate(self.known[q.arch]["score"], Cost(), {k: v for k, v in self.known[q.arch].items() if k != "score"}) for q in queries]


def test_candidates_are_judged_by_scores_losses_and_size_together() -> None:
    space, rng = ToySpace(), np.random.default_rng(0)
    archs = sample_distinct(space, 4, rng)
    rows = [(0.50, 1.2, 10), (0.52, 1.1, 20), (0.51, 1.0, 40), (0.30, 2.0, 30)]
    known = {arch: {"score": s, "val_loss": loss, "macs": macs} for arch, (s, loss, macs) in zip(archs, rows)}
    joint, plain = Closing(space, 2), Closing(space, 2, "score")
    for closing in (joint, plain):
        closing.judge(Says(known), archs)
        closing.finish()
    assert [archs.index(arch) for arch in plain.ranked()] == [1, 2, 0, 3]
    assert [archs.index(arch) for arch in joint.ranked()] == [2, 1, 3, 0]  # 2 has the least loss and the most multiply-adds
    assert [q.arch for q in joint.ask(2)] == [archs[2], archs[1]]
    again = Closing(space, 2)
    again.load_state_dict(joint.state_dict())
    assert again.ranked() == joint.ranked()
    old = {name: value for name, value in joint.state_dict().items() if name != "beside"}  # as searches wrote it before
    again.load_state_dict(old)
    assert again.ranked() == plain.ranked()
    del known[archs[0]]["macs"]  # a space without counts
    joint.judge(Says(known), archs)
    joint.beside.pop(archs[0], None)
    assert joint.ranked() == plain.ranked()
    with pytest.raises(SettingError, match="judged_by is 'size', expected 'joint' or 'score'"):
        Closing(space, 0, "size")


def test_candidates_that_guess_come_last_whatever_their_size_unless_all_do() -> None:
    space, rng = ToySpace(), np.random.default_rng(0)
    archs = sample_distinct(space, 4, rng)
    rows = [(0.50, 1.2, 10), (0.12, 2.3, 90), (0.40, 1.5, 20), (0.10, 2.4, 80)]
    known = {arch: {"score": s, "val_loss": loss, "macs": macs, "chance": 0.12} for arch, (s, loss, macs) in zip(archs, rows)}
    closing = Closing(space, 0)
    closing.judge(Says(known), archs)
    assert [archs.index(arch) for arch in closing.ranked()] == [0, 2, 1, 3]
    assert [closing.refused(arch) for arch in archs] == [False, True, False, True]
    again = Closing(space, 0)
    again.load_state_dict(closing.state_dict())
    assert (again.ranked(), again.guessing) == (closing.ranked(), {archs[1], archs[3]})
    again.load_state_dict({name: value for name, value in closing.state_dict().items() if name != "guessing"})  # as searches wrote it before
    assert again.guessing == set()
    for arch in archs:
        known[arch]["chance"] = 0.6
    closing.judge(Says(known), archs)  # nothing else to go by: the order of the judge
    assert not any(map(closing.refused, archs))
    del known[archs[1]]["chance"]
    closing.judge(Says(known), archs)
    assert closing.guessing == {archs[0], archs[2], archs[3]}


@pytest.mark.parametrize("variant", ["dirichlet", "judged", "paper"])
def test_a_derived_cell_that_guesses_is_not_named_and_the_last_step_says_so(variant: str) -> None:
    reports: dict[bool, Any] = {}
    for others_learn in (True, False):
        shared = ToyShared()
        darts = toy("darts", shared, order=1, epochs=2, batches=1, variant=variant)

        def said(queries: list[Query], darts: Any = darts, others: float = 0.5 if others_learn else 0.1) -> list[Estimate]:
            return [Estimate(0.1 if q.arch == darts._derived() else others, Cost(), {"chance": 0.12}) for q in queries]

        shared.estimate = said  # type: ignore[method-assign]
        last = list(iter(darts.step, None))[-1]
        reports[others_learn] = last.metrics
        assert (darts.best() != darts._derived()) == others_learn
    assert reports[True]["guesses"] == 1.0
    assert "guesses" not in reports[False]


def test_darts_names_no_cell_with_none_and_the_judged_one_unless_it_is_the_papers() -> None:
    space, network = NASBench201(), supernet("nasbench201", Scale(4, 1, 8, 3, 10), generator=torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    pixels = Pixels(images, np.arange(60) % 10, (0.5,) * 3, (0.25,) * 3)
    recipe = Recipe(epochs=1, batch_size=20, channels=4, depth=1, image_size=8, crop_pad=1)
    named = {}
    for name, variant in (("darts", "dirichlet"), ("darts", "judged"), ("darts", "paper"), ("gdas", "judged")):
        shared = SharedWeights(network, pixels.subset(range(40)), pixels.subset(range(40, 60)), recipe, n_classes=10, seed=0)
        settings = {"epochs": 1, "batches": 1, "variant": variant, **({"order": 1} if name == "darts" else {})}
        strategy = assemble(name, space, seed=0, settings=settings, given={"shared": shared})
        with torch.no_grad():
            strategy.alphas["cell"][:, 0] += 1.0  # none is strongest everywhere
            strategy.alphas["cell"][5, 3] += 2.0
        while strategy.step() is not None:
            pass
        named[name, variant] = strategy.finalists(5)
    assert all(0 not in arch.choices for key, archs in named.items() if key[1] != "paper" for arch in archs)
    assert any(0 in arch.choices for arch in named["darts", "paper"])
    with pytest.raises(SettingError, match="variant is 'plain', expected 'dirichlet' or 'judged' or 'paper'"):
        assemble("darts", space, seed=0, settings={"variant": "plain"}, given={"shared": shared})


def test_a_label_of_ctnas_is_the_mean_score_of_the_last_epochs() -> None:
    shared = ToyShared()
    seen: list[list[float]] = []
    score = shared.estimate

    def watched(queries: list[Query]) -> list[Estimate]:
        estimates = score(queries)
        seen.append([e.score for e in estimates])
        return estimates

    shared.estimate = watched  # type: ignore[method-assign]
    strategy = toy("ctnas_oneshot", shared, epochs=4, average=3, labels=6, iterations=2, samples=4, keep=2)
    for _ in range(4):
        strategy.step()
    archs, labels = strategy.search.rounds.ledger.labelled()
    assert archs == strategy.asked
    np.testing.assert_allclose(labels, np.mean(seen, axis=0))
    assert len(seen) == 3
    assert not any(map(math.isnan, labels))
