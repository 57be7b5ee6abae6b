"""Whole networks of three stages: words, closed-form costs against built networks, what is the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from measured_counts import measured

from archduel.core import Scale, sample
from archduel.errors import InvalidArchError
from archduel.spaces.family import build, count
from archduel.spaces.layers import GlobalMax
from archduel.spaces.stages.space import Stages, form_of


@pytest.mark.parametrize("size", [8, 28, 32, 64, 96])
def test_costs_in_closed_form_are_those_of_the_built_network(size: int) -> None:
    space, rng = Stages(), np.random.default_rng(size)
    for _ in range(12):
        arch = sample(space, rng)
        scale = Scale(int(rng.choice([6, 12, 16])), 1, size, 3, 7)
        assert count(arch, scale) == measured(build(arch, scale), size), space.write(arch)


def test_the_start_is_the_plain_pooled_network() -> None:
    """By hand: 2 x 2 stem of 24 channels, then 32, 64 and 128 channels, two convolutions each."""
    space = Stages()
    form = form_of(space.start())
    assert (form.stem, form.pool, form.extra, form.growth) == ("conv2", True, (1, 1, 1), (1.0, 2.0, 4.0))
    convolutions = 4 * 3 * 24 + 9 * (24 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
    norms = 2 * (24 + 2 * (32 + 64 + 128))
    assert count(space.start(), Scale(32, 1, 32, 3, 10)).params == convolutions + norms + 129 * 10


def test_words_are_read_back_and_wrong_ones_are_shown() -> None:
    space, rng = Stages(), np.random.default_rng(0)
    for _ in range(50):
        arch = sample(space, rng)
        assert space.read(space.write(arch)) == arch
    with pytest.raises(InvalidArchError, match="stem 'conv9'"):
        space.read("conv9-pool-1-1-1-2-2-plain-all-maximum")
    with pytest.raises(InvalidArchError, match="2 parts, expected 10"):
        space.read("conv2-pool")


def test_a_shortcut_around_nothing_is_no_other_network() -> None:
    space = Stages()
    plain, residual = (space.read(f"conv3-stride-0-0-0-2-2-{word}-all-average") for word in ("plain", "residual"))
    assert space.fingerprint(plain) == space.fingerprint(residual)
    with_one, other = (space.read(f"conv3-stride-0-1-0-2-2-{word}-all-average") for word in ("plain", "residual"))
    assert space.fingerprint(with_one) != space.fingerprint(other)


def test_every_decision_changes_the_network_somewhere() -> None:
    space = Stages()
    start = space.start()
    x = torch.randn(2, 3, 32, 32)
    outputs = {tuple(build(start, Scale(8, 1, 32, 3, 10), generator=torch.Generator().manual_seed(0)).eval()(x).flatten().tolist())}
    for place, kind in enumerate(start.choices):
        other = list(start.choices)
        other[place] = (kind + 1) % len(space.words(space.decision(other[:place]).kind))  # type: ignore[union-attr]
        arch = space.read("-".join(space.words(space.decision(other[:i]).kind)[c] for i, c in enumerate(other)))  # type: ignore[union-attr]
        network = build(arch, Scale(8, 1, 32, 3, 10), generator=torch.Generator().manual_seed(0)).eval()
        outputs.add(tuple(network(x).flatten().tolist()))
    assert len(outputs) == 11


def test_a_drawing_says_the_stages_in_words() -> None:
    from archduel.spaces.drawing import diagrams

    space = Stages()
    shown = diagrams(space, space.start())[0]
    assert shown.labels[1] == "conv 2×2"
    assert shown.labels[2:5] == tuple(f"conv 3×3, max pool + 1 conv 3×3; width {growth}" for growth in (1, 2, 4))
    assert shown.labels[-1] == "maximum of each channel, linear"


def test_the_head_maximum_is_torch_s_adaptive_maximum_in_outputs_and_slopes() -> None:
    x = torch.randn(4, 6, 5, 7, requires_grad=True)
    weight = torch.randn(4, 6, 1, 1)
    ours, theirs = GlobalMax()(x), torch.nn.AdaptiveMaxPool2d(1)(x)
    assert torch.equal(ours, theirs)
    slopes = [torch.autograd.grad((out * weight).sum(), x)[0] for out in (ours, theirs)]
    assert torch.equal(*slopes)
    assert any(isinstance(layer, GlobalMax) for layer in build(Stages().start(), Scale(8, 1, 16, 3, 3)).modules())
