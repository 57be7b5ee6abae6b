"""Backbones as values: costs in closed form against built networks and published figures, parts of them, errors."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from measured_counts import measured

from archduel.errors import SettingError, UnknownNameError
from archduel.export.source import network_source, read_network
from archduel.pretrained import BACKBONES, Block, Classifier, Layout, Stem, Trunk, backbone, count, whole
from archduel.spaces.pretrained.network import ConvNorm

NAMES = sorted(BACKBONES)
LITE = [name for name in NAMES if name.startswith("efficientnet")]

def normed(name: str, size: int) -> int:
    """Returns how many values the batch norms of a backbone see of one image: what its convolutions make."""
    with torch.device("meta"):
        network, image = whole(BACKBONES[name]).eval(), torch.zeros(1, 3, size, size)
    seen = []
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda _, inputs, out: seen.append(out.numel()))
    network(image)
    return sum(seen)


def test_backbones_keep_their_numbers() -> None:
    """Architectures of the space give them by number: what was written stays readable only if new ones come last."""
    lite = [f"efficientnet_lite{number}" for number in range(5)]
    assert list(BACKBONES)[:11] == [*lite, "mobilenet_v3_small", "mobilenet_v3_large", "mobilenet_v2", "resnet18", "resnet34", "resnet50"]


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(LITE)))
def test_costs_are_the_published_ones(name: str) -> None:
    """Torchvision gives parameters exactly and multiply-adds to a million."""
    each = BACKBONES[name]
    found = count(each.layout, each.resolution)
    assert found.params == each.published.params
    assert round(found.macs / 1e6) == each.published.macs / 1e6


@pytest.mark.parametrize("name", LITE)
def test_costs_of_efficientnet_lite_are_the_published_ones(name: str) -> None:
    """Parameters to 0.1 M; multiply-adds to 0.5 %, three operations for each value of a batch norm counted, as the publisher does."""
    each = BACKBONES[name]
    found = count(each.layout, each.resolution)
    assert round(found.params / 1e5) == each.published.params / 1e5
    assert found.macs + 3 * normed(name, each.resolution) == pytest.approx(each.published.macs, rel=5e-3)


@pytest.mark.parametrize(("name", "size", "millions", "billions"), [("efficientnet_lite0", 224, 6.7, 0.4), ("efficientnet_lite3", 300, 21.8, 1.7)])
def test_costs_are_those_of_timms_cards(name: str, size: int, millions: float, billions: float) -> None:
    """Activations and multiply-adds, two operations for each value of a batch norm counted."""
    values = normed(name, size)
    assert round(values / 1e6, 1) == millions
    assert round((count(BACKBONES[name].layout, size).macs + 2 * values) / 1e9, 1) == billions


@pytest.mark.parametrize("name", NAMES)
def test_costs_in_closed_form_are_those_of_the_built_network(name: str) -> None:
    each = BACKBONES[name]
    with torch.device("meta"):  # shapes alone
        network = whole(each)
    for size in (each.resolution, 33):
        assert count(each.layout, size) == measured(network, size)


@pytest.mark.parametrize("name", NAMES)
def test_parts_of_a_backbone_are_networks_with_costs_of_their_own(name: str) -> None:
    layout = BACKBONES[name].layout
    blocks = [block for block in layout.blocks[: len(layout.blocks) * 2 // 3] if not block.removable or block.kernel == 5]
    thin = [replace(block, inner_channels=5 + number) if block.expand else block for number, block in enumerate(blocks)]
    part = replace(layout, blocks=tuple(thin), neck=0, hidden=0)
    with torch.device("meta"):
        network = Classifier(part, 7, in_channels=1)
        trunk = Trunk(part, in_channels=1)
    assert count(part, 40, in_channels=1, n_classes=7) == measured(network, 40, 1)
    assert count(part, 40, in_channels=1, n_classes=0) == measured(trunk, 40, 1)
    assert count(part, 40, in_channels=1, n_classes=0).params < count(layout, 40, n_classes=0).params


@pytest.mark.parametrize("name", NAMES)
def test_stages_are_the_blocks_in_order(name: str) -> None:
    each = BACKBONES[name]
    assert sum(each.stages, ()) == each.layout.blocks
    for stage in each.stages:
        assert all(block.removable for block in stage[1:])
    assert each.layout.stride == 32


def test_every_map_comes_out_of_one_pass() -> None:
    torch.manual_seed(0)
    network = whole(backbone("efficientnet_lite0"), 3).eval()
    x = torch.randn(2, 3, 37, 48)
    with torch.no_grad():
        maps = list(network.maps(x))
        assert len(maps) == 1 + 16 + 1
        assert torch.equal(network.head(maps[-1]), network(x))
        cut = replace(network.layout, blocks=network.layout.blocks[:5], neck=0)
        short = Trunk(cut).eval()
        short.load_state_dict({key: value for key, value in network.state_dict().items() if key in short.state_dict()})
        assert torch.equal(short(x), maps[5])
        assert torch.equal(network.features(x)[32], maps[16])
        assert torch.equal(pickle.loads(pickle.dumps(network))(x), network(x))
        ordered = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        assert torch.allclose(ordered, network(x), atol=1e-5)


def test_borders_are_tensorflows() -> None:
    """By hand: of an even side, a window of three pixels and stride 2 first covers pixels 0 to 2, of an odd one -1 to 1."""
    stem = ConvNorm(1, 1, 3, 2, layout=backbone("efficientnet_lite0").layout)
    torch.nn.init.ones_(stem.conv.weight)
    assert stem.border is not None
    row = torch.arange(1.0, 6.0).expand(1, 1, 5, 5)
    assert stem.conv(stem.border(row[..., :4, :4]))[0, 0, 0].tolist() == [3 * (1 + 2 + 3), 3 * (3 + 4)]
    assert stem.conv(stem.border(row))[0, 0, 1].tolist() == [3 * (1 + 2), 3 * (2 + 3 + 4), 3 * (4 + 5)]


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small", "resnet18"])
def test_networks_are_exported(name: str) -> None:
    network = Classifier(BACKBONES[name].layout, 2).eval()
    x = torch.randn(2, 3, 32, 32)
    scope: dict[str, object] = {}
    source = network_source(read_network(network, x))
    exec("import torch\nfrom torch import nn\nfrom torch.nn import functional\nMEAN, STD = [0.0], [1.0]\n" + source, scope)
    written = scope["Network"]()  # type: ignore[operator]
    written.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.allclose(written.eval()(x * 255), network(x), atol=1e-4)
        program = torch.export.export(network, (x,))
        assert torch.allclose(program.module()(x), network(x), atol=1e-5)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'efficientnet_lite4'"):
        backbone("efficientnet_lite")
    with pytest.raises(SettingError, match="at least one block"):
        Layout(Stem(8), ())
    with pytest.raises(SettingError, match="block 1 takes 9 channels, but gets 8"):
        Layout(Stem(8), (Block("separable", 8, 8, 8), Block("separable", 9, 9, 8)))
    with pytest.raises(SettingError, match="without expand"):
        Block("separable", 8, 4, 8, expand=False)
    with pytest.raises(SettingError, match="where shapes are equal"):
        Block("separable", 8, 4, 8, stride=2, residual=True)
    with pytest.raises(SettingError, match="'wide'"):
        Block("wide", 8, 4, 8)
    with pytest.raises(SettingError, match="image_size is 0"):
        count(backbone("efficientnet_lite0").layout, 0)
    with pytest.raises(SettingError, match="n_classes is 0"):
        Classifier(backbone("efficientnet_lite0").layout, 0)
