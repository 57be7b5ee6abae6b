"""The supernets of nasbench201 and darts: only what is chosen runs, extraction, mixing, counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archduel.core import Arch, MixingSupernet, Scale, Space, parse, sample
from archduel.errors import InvalidArchError, SettingError, UnknownNameError
from archduel.spaces import family as nets
from archduel.spaces.darts.space import DARTS
from archduel.spaces.darts.supernet import DARTSSupernet
from archduel.spaces.family import supernet
from archduel.spaces.nasbench201.space import NASBench201

SMALL = {"nasbench201": Scale(4, 1, 8, 3, 5), "darts": Scale(4, 3, 8, 3, 5)}
SPACES: dict[str, Any] = {"nasbench201": NASBench201(), "darts": DARTS("any")}
VARIANTS = [
    ("nasbench201", {}),
    ("nasbench201", {"affine": True}),
    ("nasbench201", {"residual": True}),
    ("darts", {}),
    ("darts", {"affine": True, "pool_norm": False}),
]


def made(space: str, seed: int = 0, **options: Any) -> Any:
    return supernet(space, SMALL[space], generator=torch.Generator().manual_seed(seed), **options)


def stirred(network: nn.Module) -> None:
    """Gives batch norms statistics and weights that are not the initial ones."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 1.5, generator=generator)


def images(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def drawn(space: Space, n: int) -> list[Arch]:
    rng = np.random.default_rng(4)
    return [sample(space, rng) for _ in range(n)]


@pytest.mark.parametrize(("space", "options"), VARIANTS)
def test_an_extracted_network_says_the_same(space: str, options: dict[str, bool]) -> None:
    network = made(space, **options)
    stirred(network)
    network.eval()
    odd = {"nasbench201": "nasbench201:0.0.0.0.0.0", "darts": "darts:" + "0.0." * 15 + "0.0"}
    doubled = Arch("darts", (1, 4, 1, 4) * 8)
    for arch in [*drawn(SPACES[space], 6), parse(odd[space])] + [doubled] * (space == "darts"):
        alone = network.extract(arch).eval()
        assert torch.allclose(alone(images()), network(images(), arch), atol=1e-5), arch
        of_net = {k: v for k, v in options.items() if k == "pool_norm"}
        built = nets.build(arch, SMALL[space], generator=torch.Generator(), **of_net)
        if (space == "nasbench201" and options.get("residual")) or not options.get("pool_norm", True):
            assert sum(p.numel() for p in alone.parameters()) == sum(p.numel() for p in built.parameters())


def test_without_residual_blocks_only_cells_are_nonlinear() -> None:
    network = made("nasbench201")
    blocks = [block for block in network.blocks if "SuperCell" not in type(block).__name__]
    assert len(blocks) == 2
    one, two = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(3)).unbind()
    assert torch.allclose(blocks[0](one + 2 * two), blocks[0](one) + 2 * blocks[0](two), atol=1e-5)
    assert blocks[0](one).shape == (1, 8, 4, 4)
    residual = made("nasbench201", residual=True)
    assert not torch.allclose(residual.blocks[1](one + 2 * two), residual.blocks[1](one) + 2 * residual.blocks[1](two), atol=1e-2)
    assert {n.rpartition(".")[0] for n, _ in network.named_parameters() if n.startswith("blocks.1.")} == {"blocks.1.shortcut"}


@pytest.mark.parametrize(("space", "options"), VARIANTS)
def test_an_extracted_network_has_weights_of_its_own(space: str, options: dict[str, bool]) -> None:
    network, arch = made(space, **options), drawn(SPACES[space], 1)[0]
    before = [p.detach().clone() for p in network.parameters()]
    for p in network.extract(arch).parameters():
        p.data.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters()))


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
def test_only_chosen_operations_run(space: str) -> None:
    network = made(space)
    ran: set[str] = set()
    for name, module in network.named_modules():
        if name in network.operations:
            module.register_forward_hook(lambda *_, name=name: ran.add(name))
    for arch in drawn(SPACES[space], 10):
        ran.clear()
        network(images(), arch).sum().backward()
        assert ran <= network.modules_of(arch)
        with_gradient = {name for name, p in network.named_parameters() if p.grad is not None}
        owners = {name for name in network.operations if any(p.startswith(name + ".") for p in with_gradient)}
        assert owners <= network.modules_of(arch) <= network.operations
        network.zero_grad()


def test_an_operation_on_the_way_to_nothing_does_not_run() -> None:
    network = made("nasbench201")
    dead = parse("nasbench201:3.3.3.3.0.0")  # nodes 1 and 2 reach nobody
    network(images(), dead).sum().backward()
    used = {name.split(".")[3] for name, p in network.named_parameters() if ".edges." in name and p.grad is not None}
    assert used == {"3"}


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
def test_a_mix_of_one_operation_an_edge_is_that_architecture(space: str) -> None:
    network: Any = made(space).eval()
    for arch in drawn(SPACES[space], 4):
        weights = {kind: torch.zeros(shape) for kind, shape in network.mix_shapes.items()}
        if space == "nasbench201":
            weights["cell"][torch.arange(6), list(arch.choices)] = 1
            assert network.derive(weights) == arch
        else:
            for at in range(0, 32, 2):
                node = at % 16 // 4
                edge = sum(range(2, node + 2)) + arch.choices[at]
                weights["normal" if at < 16 else "reduce"][edge, arch.choices[at + 1]] += 1
        assert torch.allclose(network.mix(images(), weights), network(images(), arch), atol=1e-5)


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
def test_the_gradient_of_a_mix_is_its_finite_difference(space: str) -> None:
    network: Any = made(space).double().eval()
    generator = torch.Generator().manual_seed(3)
    weights = {
        kind: torch.rand(shape, generator=generator, dtype=torch.float64).softmax(1).requires_grad_()
        for kind, shape in network.mix_shapes.items()
    }
    x = images().double()

    def value() -> torch.Tensor:
        return network.mix(x, weights).square().sum()  # type: ignore[no-any-return]

    value().backward()  # type: ignore[no-untyped-call]
    for weight in weights.values():
        assert weight.grad is not None
        for edge, op in ((0, 3), (2, 1), (5, 2), (4, 0)):
            with torch.no_grad():
                weight[edge, op] += 1e-5
                above = value()
                weight[edge, op] -= 2e-5
                below = value()
                weight[edge, op] += 1e-5
            assert float(weight.grad[edge, op]) == pytest.approx(float(above - below) / 2e-5, rel=1e-4, abs=1e-6)


def test_darts_derives_the_two_strongest_inputs_of_each_node() -> None:
    network = made("darts")
    weights = {kind: torch.full((14, 8), 0.1) for kind in ("normal", "reduce")}
    weights["normal"][11, 5] = 0.6  # node 5 from state 2
    weights["normal"][13, 2] = 0.5  # node 5 from state 4
    weights["normal"][9, 0] = 0.9  # none never counts
    arch = network.derive(weights)
    assert arch.choices[12:16] == (2, 5, 4, 2)
    assert arch.choices[:4] == (0, 1, 1, 1)
    DARTS("darts").validate(arch)


def test_the_published_sizes_of_search_networks() -> None:
    def trainable(**options: Any) -> int:
        with torch.device("meta"):
            network = DARTSSupernet(Scale(16, 8, 32, 3, 10), **options)
        return sum(p.numel() for p in network.parameters())

    assert trainable() == 1_930_618
    assert trainable(affine=True, pool_norm=False) == 1_987_194


def test_bad_input_is_named() -> None:
    with pytest.raises(UnknownNameError, match="supernet of space 'nasbench101' is unknown"):
        supernet("nasbench101", Scale(), generator=torch.Generator())
    with pytest.raises(SettingError, match="at least 4 px"):
        supernet("darts", Scale(image_size=3), generator=torch.Generator())
    with pytest.raises(InvalidArchError):
        made("nasbench201")(images(), Arch("darts", (0,) * 32))


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
def test_cell_supernets_can_be_mixed(space: str) -> None:
    assert isinstance(made(space), MixingSupernet)


def test_equal_seeds_make_equal_weights() -> None:
    one, two, three = made("darts", 1), made("darts", 1), made("darts", 2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), three.parameters()))
