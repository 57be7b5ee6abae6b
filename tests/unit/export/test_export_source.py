"""The exported source computes what the network computes, for every family and every operation."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archduel.core import Arch, Scale, parse, sample
from archduel.errors import ExportError
from archduel.export.source import network_source, read_network
from archduel.registry import make
from archduel.spaces.darts.cost import KERNELS
from archduel.spaces.darts.network import operation
from archduel.spaces.family import build
from archduel.spaces.layers import DropPath, Zero, set_drop_path
from archduel.spaces.nasbench201.function import OPS


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Returns the model with batch norms as after training, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
    return model.eval()


def rebuilt(model: nn.Module, size: int, channels: int) -> tuple[nn.Module, str]:
    """Returns the network made from the exported source with the model's weights, and the source."""
    read = read_network(model, torch.rand(2, channels, size, size))
    source = network_source(read)
    names: dict[str, Any] = {"torch": torch, "nn": nn, "functional": nn.functional, "MEAN": [0.0] * channels, "STD": [1.0] * channels}
    exec("from __future__ import annotations\n" + source, names)
    network = names["Network"]()
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(tuple(read.left_out))}
    network.load_state_dict(state, strict=True)
    return network.eval(), source


def difference(model: nn.Module, size: int = 32, channels: int = 3, batch: int = 3) -> float:
    """Returns the largest difference relative to the largest output, on a batch size that tracing has not seen."""
    network, _ = rebuilt(model, size, channels)
    x = torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected, got = model(x), network(x * 255)
    assert expected.std() > 1e-3  # else equality would mean nothing
    return float((expected - got).abs().max() / expected.abs().max())


FAMILIES = ("nasbench101", "nasbench201", "natsbench_sss", "darts", "darts_supercell", "mobilenetv3", "resnet")


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_source_of_every_family_computes_the_same(family: str, size: int) -> None:
    arch = sample(make("space", family), np.random.default_rng(1))
    scale = Scale(channels=8, depth=5 if "darts" in family else 1, image_size=size, n_classes=4)
    model = trained(build(arch, scale, generator=torch.Generator().manual_seed(0)))
    assert difference(model, size) < 1e-5


@pytest.mark.parametrize("name", OPS)
def test_every_operation_of_nasbench201(name: str) -> None:
    others = [(OPS.index(name) + i) % len(OPS) for i in range(5)]
    arch = Arch("nasbench201", (OPS.index(name), *others))
    model = trained(build(arch, Scale(channels=4, depth=1, image_size=16, n_classes=3), generator=torch.Generator().manual_seed(0)))
    assert difference(model, 16) < 1e-5


class Alone(nn.Module):
    """One operation as a network."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(layers, DropPath(0.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)).repeat(1, 2) + self.layers(x).mean((2, 3)).repeat(1, 2)


DARTS_OPS = (*KERNELS, "none", "skip_connect", "conv_7x1_1x7", "avg_pool_3x3", "max_pool_3x3")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("op", DARTS_OPS)
def test_every_operation_of_darts(op: str, size: int, stride: int) -> None:
    torch.manual_seed(0)
    for pool_norm in (False, True):
        assert difference(trained(Alone(operation(op, 4, stride, pool_norm=pool_norm))), size, 4) < 1e-5


def test_a_network_that_resizes_its_input() -> None:
    space = make("space", "mobilenetv3")
    rng = np.random.default_rng(0)
    resized = next(m for m in (build(sample(space, rng), Scale(channels=4, image_size=40, n_classes=3)) for _ in range(50)))
    resized.resolution = 32
    assert difference(trained(resized), 40) < 1e-5


def test_auxiliary_heads_and_drop_path_stay_behind() -> None:
    arch = sample(make("space", "darts"), np.random.default_rng(0))
    model = build(arch, Scale(channels=4, depth=5, n_classes=3), auxiliary=True, generator=torch.Generator().manual_seed(0))
    set_drop_path(model, 0.2, torch.Generator())
    network, source = rebuilt(trained(model), 32, 3)
    assert "uxiliary" not in source
    assert "DropPath" not in source
    head = sum(p.numel() for p in model.auxiliary.parameters())
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in model.parameters()) - head
    assert set(network.state_dict()) == {k for k in model.state_dict() if not k.startswith("auxiliary.")}


def test_the_source_is_short_typed_and_uses_nothing_but_torch() -> None:
    arch = parse("nasbench201:3.1.2.4.3.0")
    source = rebuilt(build(arch, Scale(channels=8, depth=5)), 32, 3)[1]
    tree = ast.parse(source)
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert max(map(len, source.splitlines())) <= 120
    assert len(source.splitlines()) < 120  # 15 cells of three widths are one class
    assert "archduel" not in source
    defined = [node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    assert len(defined) == len(set(defined))
    assert defined[-1] == "Network"


def test_training_the_exported_network_moves_its_batch_norms() -> None:
    arch = parse("nasbench201:3.1.2.4.3.1")
    network, _ = rebuilt(build(arch, Scale(channels=4, depth=1, image_size=16)), 16, 3)
    before = network.stem[1].running_mean.clone()
    network.train()(torch.rand(4, 3, 16, 16) * 255).sum().backward()
    assert not torch.equal(before, network.stem[1].running_mean)
    assert network.stem[0].weight.grad.abs().sum() > 0


class Twice(nn.Module):
    """A forward method with a name collision, a batch size, a parameter of its own and a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1) for _ in range(4)])
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.extra = Zero()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x - 2 * (x + 1)
        for block in self.blocks:
            x = block(x)
        x = x * self.scale - (y - x) / 3 + y
        if x.shape[2] > 4 and x.ndim == 4:
            x = x[:, :, 1:, ..., :-1]
        return x.reshape(x.shape[0], -1)


def test_precedence_shapes_and_own_parameters() -> None:
    model = Twice().eval()
    _, source = rebuilt(model, 6, 4)
    assert difference(model, 6, 4, batch=5) < 1e-6
    assert "for module in self.blocks:" in source
    assert "nn.Parameter(torch.empty([4, 1, 1]))" in source
    assert "extra" not in source


class Undecided(nn.Module):
    """A forward method that depends on the numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Strange(nn.Module):
    """A network with a layer that the export does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Bilinear(3, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1), x.flatten(1))


@pytest.mark.parametrize(("model", "message"), [(Undecided(), "Undecided"), (Strange(), "Bilinear"), (nn.ReLU(), "ReLU")])
def test_networks_that_cannot_be_written_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        read_network(model.eval(), torch.rand(2, 3, 1, 1))
