"""Golden counts of networks, closed form against built networks, images of every size, auxiliary heads, drop path."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archduel.core import Arch, Scale, sample
from archduel.errors import InfeasibleError, SettingError, UnknownNameError
from archduel.networks.zoo import counts_of_named
from archduel.spaces.counting import darts_stem, halved, stem_strides
from archduel.spaces.darts.cost import count_genotype
from archduel.spaces.darts.genotype import OPS, Genotype
from archduel.spaces.darts.genotype_text import read_genotype
from archduel.spaces.darts.network import build_genotype
from archduel.spaces.darts.space import DARTS
from archduel.spaces.darts.supercell import SuperCell
from archduel.spaces.family import build, count, family
from archduel.spaces.layers import DropPath, FactorizedReduce, set_drop_path
from archduel.spaces.named import named
from archduel.spaces.nasbench201.space import NASBench201
from archduel.spaces.natsbench_sss.space import NATSBenchSSS
from archduel.spaces.resnet.space import ResNet, ResNet4, count_resnet, ladder, standard_network

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "golden" / "cell_networks.json").read_text())
SPACES = (NASBench201(), NATSBenchSSS(), DARTS("any"), SuperCell(none=True), ResNet(), ResNet4())


def own_params(network: nn.Module) -> int:
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary"))


def run_macs(network: nn.Module, scale: Scale) -> int:
    """Multiply-adds of convolutions and linear layers as they run on one image."""
    found = []

    def add(module: nn.Module, _: Any, out: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            found.append(module.weight.numel() * out.shape[2] * out.shape[3])
        elif isinstance(module, nn.Linear):
            found.append(module.weight.numel())

    for module in network.modules():
        module.register_forward_hook(add)
    image = torch.zeros(
        1, scale.in_channels, scale.image_size, scale.image_size, device=next(network.parameters()).device
    )
    network.eval()(image)
    return sum(found)


@pytest.mark.parametrize(
    "row", GOLDEN["networks"], ids=lambda row: f"{row[0]}-C{row[1]}-L{row[2]}-{row[3]}px-{row[4]}"
)
def test_named_networks_cost_what_is_recorded(row: list[Any]) -> None:
    name, channels, depth, size, classes, params, macs = row
    counts = counts_of_named(named(name), Scale(channels, depth, size, 3, classes))
    assert params is None or counts.params == params
    assert macs is None or counts.macs / 1e6 == pytest.approx(macs, abs=0.0051)


@pytest.mark.parametrize("name", ["amoebanet_a", "ctnas_darts", "rs_bpe2"])
@pytest.mark.parametrize("scale", [Scale(36, 20), Scale(48, 14, 224, 3, 1000)], ids=["cifar", "imagenet"])
def test_built_named_networks_cost_what_the_closed_form_says(name: str, scale: Scale) -> None:
    genotype, options = read_genotype(named(name).text), named(name).options
    with torch.device("meta"):
        network = build_genotype(genotype, scale, **options)
    assert (own_params(network), run_macs(network, scale)) == count_genotype(genotype, scale, **options)


def test_bpe_cells_without_pool_norm() -> None:
    for name, params in GOLDEN["without_pool_norm"].items():
        assert count_genotype(read_genotype(named(name).text), Scale(36, 20)).params == params


def test_the_published_multiply_adds_of_cnas_are_convolutions_alone() -> None:
    scale = Scale(48, 14, 224, 3, 1000)
    for name, macs in GOLDEN["convolutions_alone_imagenet"].items():
        genotype = read_genotype(named(name).text)
        classifier = 16 * 48 * 1000 if name != "nasnet_a" else 20 * 48 * 1000
        assert (count_genotype(genotype, scale).macs - classifier) / 1e6 == pytest.approx(macs, abs=0.0051)
    mobile = counts_of_named(named("ctnas_mobile"), Scale(16, 1, 224, 3, 1000))
    assert mobile.macs == 483_292_448
    assert mobile.macs - 1_280_000 == 482_012_448  # the paper's 482 M


@pytest.mark.parametrize("scale", ["8x6", "16x16"])
def test_supercells_cost_what_is_recorded(scale: str) -> None:
    channels, depth = map(int, scale.split("x"))
    for op, (params, macs) in GOLDEN["supercells_16px"][scale].items():
        counts = count(Arch("darts_supercell", (OPS.index(op),) * 28), Scale(channels, depth, 16))
        assert counts.params == params
        assert counts.macs / 1e6 == pytest.approx(macs, abs=0.0051)
    params, macs = GOLDEN["darts_v2_16px_with_pool_norm"][scale]
    counts = count(DARTS().read(named("darts_v2").text), Scale(channels, depth, 16), pool_norm=True)
    assert (counts.params, counts.macs / 1e6) == (params, pytest.approx(macs, abs=0.0051))


@pytest.mark.parametrize("setting", GOLDEN["auxiliary"])
def test_auxiliary_heads_have_the_recorded_parameters(setting: str) -> None:
    channels, size, classes = map(int, setting.split("x"))
    arch = DARTS().read(named("darts_v2").text)
    with torch.device("meta"):
        network = build(arch, Scale(channels, 6, size, 3, classes), auxiliary=True)
    total = sum(p.numel() for p in network.parameters())
    assert total - own_params(network) == GOLDEN["auxiliary"][setting]


def test_nasbench201_and_size_space_cost_what_is_recorded() -> None:
    for name, op, classes in (("empty", 0, 10), ("all_3x3", 3, 10), ("all_3x3_100_classes", 3, 100)):
        counts = count(Arch("nasbench201", (op,) * 6), Scale(n_classes=classes))
        assert list(counts) == GOLDEN["nasbench201"][name]
    for text, expected in GOLDEN["natsbench_sss"].items():
        assert list(count(NATSBenchSSS().read(text), Scale())) == expected
    assert list(count(ResNet().read("resnet20-16"), Scale())) == GOLDEN["resnet20-16"]


@pytest.mark.parametrize(("size", "macs"), [(32, 555_422_720), (9, 77_625_024)])
def test_resnet18_costs_what_is_known_of_it_and_what_its_layers_say(size: int, macs: int) -> None:
    scale, seen = Scale(image_size=size), [0]
    arch = ResNet4().read(named("resnet18").text)
    assert count(arch, scale) == (11_173_962, macs)
    with torch.device("meta"):
        network = build(arch, scale, auxiliary=True).train()
        for layer in network.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                layer.register_forward_hook(lambda m, _, out: seen.__setitem__(0, seen[0] + m.weight[0].numel() * out[0].numel()))
        network.eval()(torch.zeros(1, 3, size, size))
        assert seen == [macs]
        assert own_params(network) == 11_173_962
        features = network.features(torch.zeros(1, 3, 32, 32))
    assert {stride: made.shape[1] for stride, made in features.items()} == {1: 64, 2: 128, 4: 256, 8: 512}
    assert sum("shortcut" in name for name, _ in network.named_parameters()) == 3 * 3


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("size", [4, 7, 8, 16, 28, 32, 33, 65, 96, 127, 128, 225])
def test_any_image_size_works_and_costs_what_the_closed_form_says(space: Any, size: int) -> None:
    rng = np.random.default_rng(size)
    scale = Scale(4, max(int(rng.integers(1, 6)), family(space.name).least_depth), size, int(rng.choice([1, 3])), 7)
    arch = sample(space, rng)
    network = build(arch, scale, auxiliary=True, generator=torch.Generator().manual_seed(0))
    images = torch.rand(2, scale.in_channels, size, size)
    logits, extra = network.train()(images)
    assert logits.shape == extra.shape == (2, 7)
    assert network.eval()(images).shape == (2, 7)
    assert (own_params(network), run_macs(network, scale)) == count(arch, scale)


def test_too_small_images_and_widths_are_refused() -> None:
    for space in (NASBench201(), DARTS()):
        arch = sample(space, np.random.default_rng(0))
        for make in (build, count):
            with pytest.raises(SettingError, match="at least 4 px"):
                make(arch, Scale(image_size=3))
    with pytest.raises(SettingError, match="at least 2"):
        count(sample(DARTS(), np.random.default_rng(0)), Scale(channels=1))
    with pytest.raises(UnknownNameError, match="darts"):
        count(Arch("dart", ()), Scale())


def test_stems_keep_maps_between_25_and_64() -> None:
    for size in range(4, 385):
        strides = stem_strides(Scale(image_size=size))
        left = halved(size, strides.count(2))
        assert left == size if size <= 64 else 25 <= left <= 48
    assert [darts_stem(Scale(image_size=size)) for size in (64, 65, 127, 128)] == [
        "cifar",
        "strided",
        "strided",
        "imagenet",
    ]


def test_the_generator_alone_decides_the_weights() -> None:
    arch, before = Arch("nasbench201", (3, 2, 1, 0, 4, 3)), torch.get_rng_state()
    networks = [build(arch, Scale(4, 1), generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())
    first, second, third = (torch.nn.utils.parameters_to_vector(network.parameters()) for network in networks)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    conv = networks[0].stem[0].weight
    assert 0.8 * 27**-0.5 < conv.abs().max() <= 27**-0.5  # uniform in +-1 / sqrt(fan in), PyTorch's default
    with torch.random.fork_rng():
        default = build(arch, Scale(4, 1))
    assert default.state_dict().keys() == networks[0].state_dict().keys()


def test_drop_path_spares_identities_keeps_the_mean_and_ends_with_training() -> None:
    arch = DARTS().read(named("darts_v2").text)
    network = build(arch, Scale(4, 3, 8), generator=torch.Generator().manual_seed(0))
    # one normal cell with 2 identities among 8 edges, two reduction cells with 3 skips of nodes, which are identities too
    assert set_drop_path(network, 0.5, torch.Generator().manual_seed(1)) == 6 + 5 + 5
    images = torch.rand(2, 3, 8, 8)
    network.train()
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))
    drop = DropPath(0.25).train()
    drop.generator = torch.Generator().manual_seed(0)
    out = drop(torch.ones(4000, 2, 1, 1))
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (out[:, 0] == out[:, 1]).all()  # whole samples
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)


def test_factorized_reduce_reads_every_pixel_of_even_and_odd_maps() -> None:
    for size in (6, 7):
        layer = FactorizedReduce(1, 2).eval()
        nn.init.ones_(layer.first.weight)
        nn.init.ones_(layer.second.weight)
        image = torch.rand(1, 1, size, size, requires_grad=True)
        out = layer(image)
        assert out.shape == (1, 2, (size + 1) // 2, (size + 1) // 2)
        out.sum().backward()
        read = image.grad > 0  # type: ignore[operator]
        assert read[0, 0, (size % 2) :: 2, (size % 2) :: 2].all()
        assert read[0, 0, 1 - (size % 2) :: 2, 1 - (size % 2) :: 2].all()


def test_pools_do_not_count_padding_and_skip_bn_unless_asked() -> None:
    genotype = Genotype(((("avg_pool_3x3", 0),),), ((("avg_pool_3x3", 0),),), (2,), (2,))
    plain, normed = (build_genotype(genotype, Scale(2, 3, 8), pool_norm=norm) for norm in (False, True))
    pool = plain.cells[0].edges[0][0]
    assert torch.equal(pool(torch.ones(1, 2, 4, 4)), torch.ones(1, 2, 4, 4))
    assert own_params(normed) - own_params(plain) == sum(
        2 * c for c in (2 * 2, 2 * 2 * 2, 2)
    )  # cells of width 2, 4, 8 have one pool each


def test_supercells_have_pool_norm_and_darts_cells_only_when_asked() -> None:
    pools = Arch("darts_supercell", (OPS.index("max_pool_3x3"),) * 28)
    scale = Scale(8, 6, 16)
    assert count(pools, scale) == count(pools, scale, pool_norm=True)
    assert count(pools, scale).params - count(pools, scale, pool_norm=False).params == 14 * 2 * (
        8 + 8 + 16 + 16 + 32 + 32
    )
    arch = DARTS().read(named("ea_bpe1").text)
    assert count(arch, scale, pool_norm=True).params == 58_050 != count(arch, scale).params


def test_standard_networks_grow_and_respect_limits() -> None:
    scale = Scale(image_size=16, in_channels=1)
    rungs = ladder(scale)
    assert all(a[1] < b[1] and a[1].macs < b[1].macs for a, b in pairwise(rungs))
    arch, same = standard_network(scale)
    assert (ResNet().write(arch), same) == ("resnet20-16", scale)
    for limit in (20_000, 100_000, 1_000_000):
        arch, _ = standard_network(scale, max_params=limit)
        assert 0.4 * limit < count_resnet(arch, scale).params <= limit
    arch, _ = standard_network(scale, max_params=1e6, max_macs=1e6)
    assert count_resnet(arch, scale).macs <= 1e6
    with pytest.raises(InfeasibleError, match=r"4,934 parameters"):
        standard_network(scale, max_params=1000)


def test_counting_loads_no_torch() -> None:
    code = (
        "import sys; from archduel.core import Arch, Scale; from archduel.spaces.family import count;"
        "import archduel.spaces.resnet.space, archduel.networks.zoo;"
        "count(Arch('nasbench201', (3,) * 6), Scale()); count(Arch('resnet', (0, 0)), Scale()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
