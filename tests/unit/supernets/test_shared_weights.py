"""Shared weights: steps against a dense reference, the weight set, recalibrated scores, bad input."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
import torch
from shared_task import pixels, shared
from torch import nn
from torch.nn import functional as F

from archduel.core import Arch, Query, parse, sample
from archduel.errors import RunError, SettingError, StateError, UnknownNameError
from archduel.estimators.shared import SharedWeights
from archduel.spaces import family as nets
from archduel.spaces.darts.space import DARTS
from archduel.training.metrics import evaluate
from archduel.training.norms import recalibrate

FIRST, SECOND, THIRD = (parse(f"nasbench201:{text}") for text in ("3.2.1.3.4.1", "3.3.1.2.4.3", "1.4.2.1.2.3"))


def weights_of(one: SharedWeights) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in one.supernet.state_dict().items()}


def dense(network: nn.Module, arch: Arch, x: torch.Tensor) -> torch.Tensor:
    """All operations of all edges run and are blended with ones and zeros that depend on a gradient."""
    weights = torch.full((6, 5), 1e-30)
    weights[torch.arange(6), list(arch.choices)] = 1.0
    return network.mix(x, {"cell": weights})  # type: ignore[operator, no-any-return]


def test_steps_equal_those_of_a_dense_network_and_the_library_s_optimizer() -> None:
    sparse, other = shared(), shared()
    network = other.supernet
    archs = [FIRST, SECOND, THIRD, FIRST]
    reference = torch.optim.SGD(network.parameters(), 0.05, momentum=0.8, weight_decay=1e-3, nesterov=True)
    for arch, (x, labels) in zip(archs, other.batches("train")):
        reference.param_groups[0]["lr"] = other.lr
        reference.zero_grad()
        F.cross_entropy(dense(network, arch, x), labels).backward()  # type: ignore[no-untyped-call]
        used = {id(p) for p in other._own.parameters(arch)}
        for p in network.parameters():
            if id(p) not in used:
                p.grad = None  # the dense network has gradients of 1e-30 there
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        reference.step()
        other._done += 1
    sparse.learn(archs, 4)
    for (name, mine), theirs in zip(sparse.supernet.named_parameters(), network.parameters()):
        assert torch.allclose(mine, theirs, atol=2e-6), name


def test_a_list_of_architectures_is_one_step_on_their_mean_loss() -> None:
    one, two = shared(), shared()
    one.learn([[FIRST, SECOND]], 1)
    batch = next(two.batches("train"))
    two.update((two.loss(FIRST, batch) + two.loss(SECOND, batch)) / 2)
    for mine, theirs in zip(one.supernet.parameters(), two.supernet.parameters()):
        assert torch.allclose(mine, theirs, atol=1e-6)
    assert one.lr == two.lr < 0.05


def test_the_gradient_of_the_loss_is_its_finite_difference() -> None:
    one = shared(grad_clip=0.0)
    network = one.supernet.double()
    x, labels = next(one.batches("train"))
    batch = (x.double(), labels)
    one.loss(FIRST, batch).backward()  # type: ignore[no-untyped-call]
    for name in ("stem.0.weight", "blocks.0.edges.0.3.1.weight", "tail.4.weight"):
        weight = network.get_parameter(name)
        place = (0,) * weight.ndim
        assert weight.grad is not None
        with torch.no_grad():
            weight[place] += 1e-6
            above = one.loss(FIRST, batch)
            weight[place] -= 2e-6
            below = one.loss(FIRST, batch)
        assert float(weight.grad[place]) == pytest.approx(float(above - below) / 2e-6, rel=1e-4, abs=1e-7)


def test_the_momentum_buffer_can_be_read() -> None:
    one = shared(weight_decay=0.0, grad_clip=0.0)
    weight = one.supernet.stem[0].weight
    assert not one.velocity(weight).any()
    batch = next(islice(one.batches("train"), 1))
    (gradient,) = torch.autograd.grad(one.loss(FIRST, batch), [weight])
    one.update(one.loss(FIRST, batch), lr=0.0)
    assert torch.allclose(one.velocity(weight), gradient)
    assert (one.momentum, one.weight_decay) == (0.8, 0.0)


def test_a_pair_leaves_the_weight_set_of_relativenas() -> None:
    one = shared()
    start = weights_of(one)
    alone = []
    for arch in (FIRST, SECOND):
        other = shared()
        other.compete(arch, arch, 3, lr=0.05)
        other.inherit(arch, arch)
        alone.append(weights_of(other))
    one.compete(FIRST, SECOND, 3, lr=0.05)
    one.inherit(SECOND, FIRST)
    moved = set()
    for name, value in weights_of(one).items():
        owner = ".".join(name.split(".")[:5]) if ".edges." in name else ""
        if owner and owner not in one.supernet.modules_of(FIRST) | one.supernet.modules_of(SECOND):
            expected = start
        elif owner and owner not in one.supernet.modules_of(SECOND):
            expected = alone[0]
            moved |= {"first"} if not torch.equal(value, start[name]) else set()
        else:
            expected = alone[1]
            moved |= {"second"} if not torch.equal(value, start[name]) else set()
        assert torch.equal(value, expected[name]), name
    assert moved == {"first", "second"}


def test_drop_path_acts_within_a_competition_only() -> None:
    arch = Arch("darts", (0, 4, 1, 5) * 8)
    one, two = (shared("darts", 0, {"affine": True}, channels=2) for _ in range(2))
    (plain, _), (dropped, _) = one.compete(arch, arch, 2), two.compete(arch, arch, 2, drop_path=0.5)
    assert plain.values["val_loss"] != dropped.values["val_loss"]
    assert {cell.drop.p for cell in two.supernet.cells} == {0.0}


def test_computing_cells_twice_changes_nothing_but_memory() -> None:
    """Weights and running statistics are the same, also with drop path, whose masks must be those of the first time."""
    arch, other = Arch("darts", (0, 4, 1, 6) * 8), Arch("darts", (1, 5, 0, 3) * 8)
    plain, lean = (shared("darts", 0, {"affine": True, "lean": lean}, channels=2) for lean in (False, True))
    for one in (plain, lean):
        one.learn([arch, other], 2)
        one.compete(arch, other, 2, drop_path=0.5)
        one.inherit(arch, other)
    for (name, mine), theirs in zip(weights_of(lean).items(), weights_of(plain).values()):
        assert torch.allclose(mine.double(), theirs.double(), atol=1e-6), name


def test_a_score_is_that_of_the_extracted_network_with_measured_statistics() -> None:
    one, validation = shared(recalibration=3), pixels(24, 2)
    one.learn([FIRST, SECOND] * 4, 8)
    (estimate,) = one.estimate([Query(FIRST)])
    network = one.supernet.extract(FIRST)
    recalibrate(network, one._judged.calibration())
    scored = evaluate(network, validation)
    assert estimate.score == scored.accuracy
    assert estimate.values["val_loss"] == pytest.approx(scored.loss, rel=1e-5)
    built = nets.build(FIRST, one._judged.scale, generator=torch.Generator())  # counts are those of the benchmark's network
    assert estimate.values["params"] == sum(p.numel() for p in built.parameters())
    assert estimate.cost.images == 0
    share = float(validation.labels.bincount().max()) / len(validation)
    assert estimate.values["chance"] == pytest.approx(share + 1.645 * math.sqrt(share * (1 - share) / len(validation)))
    assert "chance" not in one.estimate([Query(FIRST, "batch")])[0].values  # of a batch of its own


def test_statistics_are_the_average_over_the_batches() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.9))
    batches = [torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    recalibrate(network, batches)
    norm = network[0]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert torch.allclose(norm.running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0), atol=1e-6)
    assert (norm.momentum, network.training) == (0.1, True)


def test_recalibration_matters_after_other_architectures_have_learned() -> None:
    """Without it a score uses statistics that many architectures have left behind."""
    one, two = shared(recalibration=2), shared(recalibration=0)
    losses = []
    for estimator in (one, two):
        estimator.learn([FIRST, SECOND, THIRD] * 5, 15)
        losses.append(estimator.estimate([Query(FIRST)])[0].values["val_loss"])
    assert losses[0] != losses[1]


def test_a_part_of_the_validation_images_can_do() -> None:
    one = shared(score_share=0.5)
    assert one.estimate([Query(FIRST)])[0].score * 12 == pytest.approx(round(one.estimate([Query(FIRST)])[0].score * 12))
    assert len(one._judged.validation) == 12


def test_learning_learns() -> None:
    one = shared(epochs=12, flip=False, crop_pad=0)
    before, _ = (one.estimate([Query(FIRST)])[0].values["val_loss"] for _ in range(2))
    one.learn([FIRST] * 60, 60)
    after = one.estimate([Query(FIRST)])[0]
    assert after.values["val_loss"] < before
    assert after.score > 0.6
    assert one.lr == 0.0


def test_bad_input_is_named() -> None:
    one = shared()
    with pytest.raises(UnknownNameError, match="fidelity of shared weights 'cheap' is unknown"):
        one.estimate([Query(FIRST, "cheap")])
    with pytest.raises(UnknownNameError, match="split 'test' is unknown"):
        one.batches("test")
    with pytest.raises(UnknownNameError, match="metric"):
        shared(metric="speed")
    with pytest.raises(SettingError, match="without mixup"):
        shared(mixup=0.2)
    for alone in ({"frozen_norms": True}, {"layer_decay": 0.5}, {"optimizer": "adamw"}):
        with pytest.raises(SettingError, match="share weights"):
            shared(**alone)
    with pytest.raises(SettingError, match="channels"):
        shared(validation=pixels(8, 0, channels=1))
    with pytest.raises(SettingError, match="for 1 batches, 2 were"):
        one.learn([FIRST], 2)
    with pytest.raises(RunError, match="not finite"):
        one.learn([FIRST] * 6, 6, lr=1e30)
    (strange,) = shared().estimate([Query(Arch("darts", (0,) * 32))])
    assert strange.failed
    assert "nasbench201" in strange.reason


def test_a_state_of_other_weights_is_refused() -> None:
    state = shared().state_dict()
    with pytest.raises(StateError, match="another recipe, seed"):
        shared(seed=1).load_state_dict(state)
    with pytest.raises(StateError, match="another supernet"):
        shared(options={"affine": True}).load_state_dict(state)


def test_a_failed_learner_has_a_reason() -> None:
    one = shared()
    first, _ = one.compete(FIRST, SECOND, 6, lr=1e30)
    assert first.failed
    assert "not finite" in first.reason


@pytest.mark.parametrize(("channels", "side", "last"), [(4, 64, False), (4, 32, True), (16, 64, True)])
def test_a_supernet_that_torch_crashes_on_is_trained_channels_first(channels: int, side: int, last: bool) -> None:
    one = shared("darts", channels=channels, image_size=side, batch_size=4)
    images, _ = next(one.batches("train"))
    weight = one.supernet.stem[0][0].weight
    for tensor in (images, weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last) is last
        assert tensor.is_contiguous() is not last
    if not last:
        one.learn([sample(DARTS("any"), np.random.default_rng(0))], 1)
