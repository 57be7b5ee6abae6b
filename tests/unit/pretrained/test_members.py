"""Networks that keep a part of a backbone, with its weights: the same features, the same function where nothing that counts is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from archduel.core import Arch, Scale, sample
from archduel.errors import InvalidArchError, SettingError
from archduel.pretrained.members import member, weights_for
from archduel.spaces.family import build, count
from archduel.spaces.pretrained.backbones import BACKBONES, backbone
from archduel.spaces.pretrained.member import Shown
from archduel.spaces.pretrained.network import Trunk, whole
from archduel.spaces.pretrained.space import Plan, Pretrained, arch_of, plan_of

MEAN, STD = (0.4, 0.5, 0.3), (0.2, 0.25, 0.3)


def drawn(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Returns weights of a backbone, every number drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = whole(backbone(name))
        for key, value in model.state_dict().items():
            if key.endswith(("norm.weight", "running_var")):
                value.uniform_(0.5, 1.5)
            elif key.endswith(("norm.bias", "running_mean")):
                value.normal_(0.0, 0.1)
    return {key: value.clone() for key, value in model.state_dict().items()}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small", "resnet18", "resnet50"])
def test_a_backbone_cut_nowhere_computes_what_it_was_published_with(name: str) -> None:
    source, weights = backbone(name), drawn(name)
    head = "neck" if source.layout.neck else "linear"
    arch = arch_of(Plan(name, 32, source.depths, (1.0,) * len(source.depths), head))
    model = member(arch, Scale(1, 1, 32, 3, 7), MEAN, STD, generator=generator(), weights=weights).eval()
    trunk = Trunk(source.layout)
    trunk.load_state_dict({key: value for key, value in weights.items() if not key.startswith("head.")})
    pixels = torch.rand(2, 3, 32, 32, generator=generator(1))
    mine, theirs = ((pixels - torch.tensor(m).view(3, 1, 1)) / torch.tensor(s).view(3, 1, 1) for m, s in ((MEAN, STD), (source.mean, source.std)))
    with torch.no_grad():
        torch.testing.assert_close(list(model.maps(model.shown(mine)))[-1], trunk.eval()(theirs), rtol=1e-3, atol=1e-4)
        assert model(mine).shape == (2, 7)  # type: ignore[union-attr]
    hidden = [key for key in model.state_dict() if key.startswith("head.hidden.")]
    assert all(torch.equal(model.state_dict()[key], weights[key]) for key in hidden)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small", "resnet18", "resnet50"])
def test_thinning_keeps_the_channels_that_say_something(name: str) -> None:
    source, weights = backbone(name), drawn(name)
    plan = plan_of(arch_of(Plan(name, 32, source.depths, tuple(0.5 if any(b.expand or b.kind != "separable" for b in stage) else 1.0 for stage in source.stages))))
    layout = source.layout
    numbered = dict(enumerate(layout.blocks))
    model = build(arch_of(plan), Scale(1, 1, 32, 3, 5), generator=generator())
    for number, block in numbered.items():  # all but every second inner channel say nothing any more
        inner, left = block.inner_channels, model.layout.blocks[number].inner_channels  # type: ignore[union-attr]
        if left == inner:
            continue
        readers = {"separable": ("project",), "basic": ("layers.1",), "bottleneck": ("layers.1", "layers.2")}[block.kind]
        for place, reader in enumerate(readers):
            silent = torch.ones(inner, dtype=torch.bool)
            silent[torch.randperm(inner, generator=generator(2 * number + place))[:left]] = False
            weights[f"blocks.{number}.{reader}.conv.weight"][:, silent] = 0.0
        if block.squeeze:  # the means of silent channels are looked at too
            weights[f"blocks.{number}.squeeze.reduce.weight"][:, silent] = 0.0
    full = build(arch_of(Plan(name, 32, source.depths, (1.0,) * len(source.depths))), Scale(1, 1, 32, 3, 5), generator=generator())
    x = torch.rand(2, 3, 32, 32, generator=generator(1))
    with torch.no_grad():
        for network, what in ((model, plan), (full, plan_of(arch_of(Plan(name, 32, source.depths, (1.0,) * len(source.depths)))))):
            network.load_state_dict(weights_for(network, what, weights), strict=False)  # type: ignore[arg-type]
        maps = [list(network.eval().maps(x))[-1] for network in (model, full)]  # type: ignore[operator]
    torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-4)
    assert sum(p.numel() for p in model.parameters()) < 0.8 * sum(p.numel() for p in full.parameters())


def test_blocks_left_out_are_the_last_of_their_stage() -> None:
    weights = drawn("efficientnet_lite0")
    plan = Plan("efficientnet_lite0", 32, (1, 1, 2, 2), (1.0,) * 4)
    assert plan.kept == (0, 1, 3, 4, 5, 6)
    model = build(arch_of(plan), Scale(1, 1, 32, 3, 5), generator=generator())
    chosen = weights_for(model, plan, weights)  # type: ignore[arg-type]
    assert torch.equal(chosen["blocks.2.project.conv.weight"], weights["blocks.3.project.conv.weight"])
    missing = set(model.state_dict()) - set(chosen)
    assert missing == {"head.classifier.weight", "head.classifier.bias", "shown.gain", "shown.shift"}


def test_grey_images_are_shown_as_three_equal_channels_and_others_refused() -> None:
    shown = Shown(1, 8, 16)
    shown.between((0.2,), (0.5,), BACKBONES["resnet18"])
    x = (torch.rand(2, 1, 8, 8, generator=generator()) - 0.2) / 0.5
    y = shown(x)
    assert y.shape == (2, 3, 16, 16)
    back = y * torch.tensor(BACKBONES["resnet18"].std).view(3, 1, 1) + torch.tensor(BACKBONES["resnet18"].mean).view(3, 1, 1)
    torch.testing.assert_close(back[:, 0], back[:, 2])
    with pytest.raises(SettingError, match="4 channels"):
        count(sample(Pretrained(), np.random.default_rng(0)), Scale(1, 1, 32, 4, 3))


@pytest.mark.parametrize(
    ("tuned", "trained"),
    [("head", {"head"}), ("last", {"blocks.5", "blocks.6", "head"}), ("half", {"blocks.3", "blocks.4", "blocks.5", "blocks.6", "head"})],
)
def test_what_is_trained_on(tuned: str, trained: set[str]) -> None:
    plan = Plan("efficientnet_lite0", 32, (1, 2, 2, 2), (1.0,) * 4, tuned=tuned)
    model = build(arch_of(plan), Scale(1, 1, 32, 3, 5), generator=generator())
    parts = {id(part) for part in model.tuned_modules()}  # type: ignore[operator]
    assert {name for name, part in model.named_modules() if id(part) in parts} == trained
    everything = build(arch_of(Plan("efficientnet_lite0", 32, (1, 2, 2, 2), (1.0,) * 4)), Scale(1, 1, 32, 3, 5), generator=generator())
    assert sum(p.numel() for part in everything.tuned_modules() for p in part.parameters()) == sum(p.numel() for p in everything.parameters())  # type: ignore[operator]


def test_texts_say_what_does_not_fit() -> None:
    space = Pretrained()
    text = "efficientnet_lite0@96:1-2-2x0.5:linear:all"
    assert space.write(space.read(text)) == text
    for wrong, why in (
        ("efficientnet_lite9@96:1-2:linear:all", "not of the form"), ("efficientnet_lite0@97:1-2:linear:all", "97"),
        ("efficientnet_lite0@96:1-3:linear:all", "2 blocks, got 3"), ("efficientnet_lite0@96:1x0.5-2:linear:all", "cannot be thinned"),
        ("efficientnet_lite0@96:1-2:neck:all", "head"), ("efficientnet_lite0@96:1:linear:all", "2 or more"),
    ):  # fmt: skip
        with pytest.raises(InvalidArchError, match=why):
            space.read(wrong)
    with pytest.raises(InvalidArchError):
        plan_of(Arch("stages", (0,)))


def test_a_space_holds_only_what_it_was_asked_for() -> None:
    space = Pretrained(backbones=["resnet18"], resolutions=[64, 32])
    plans = [plan_of(sample(space, np.random.default_rng(seed))) for seed in range(20)]
    assert {plan.backbone for plan in plans} == {"resnet18"}
    assert {plan.resolution for plan in plans} == {32, 64}
    assert space.size == 2 * sum(math.prod([2, 4] * stages) * 2 * 4 for stages in (2, 3, 4))  # blocks and width a stage, head, tuned
    with pytest.raises(SettingError, match="33"):
        Pretrained(resolutions=[33])
    with pytest.raises(KeyError, match="resnet19"):
        Pretrained(backbones=["resnet19"])
