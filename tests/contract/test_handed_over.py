"""What is handed to users behaves like any object of the ecosystem: the network of a run, and of an exported folder, in every space."""

from __future__ import annotations

import copy
import importlib.util
import io
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from archduel import registry
from archduel.core import Scale, sample
from archduel.export import export_folder, folder
from archduel.networks.trained import open_network, save_trained
from archduel.spaces.family import build, count, family
from archduel.spaces.lookup import open_space

SIDE = 32
LOOK = {"size": SIDE, "mode": "RGB", "rule": "crop", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
SPACES = [name for name in registry.names("space") if family(name).build]


@pytest.fixture(scope="module", params=SPACES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network of the space, as a search or a training leaves it."""
    space, scale = open_space(request.param), Scale(4, family(request.param).least_depth, SIDE, 3, 3)
    rng = np.random.default_rng(1)
    arch = min((sample(space, rng) for _ in range(40)), key=lambda arch: count(arch, scale).macs)  # the layers are the same, there are fewer
    model = build(arch, scale, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # weights that are no fixed points: statistics of real batches
        model.train()(torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)))
    to = tmp_path_factory.mktemp("trained") / request.param
    save_trained(to, model.eval(), {"arch": str(arch), "text": str(arch), "scale": scale, "classes": ["a", "b", "c"], "preprocessing": LOOK})
    return to


@pytest.fixture(scope="module")
def handed(trained: Path) -> nn.Module:
    return open_network(trained).with_normalisation


X = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def saved_whole(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded: nn.Module = torch.load(buffer, weights_only=False)
    return loaded


def exported(model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(model, (X,), dynamic_shapes=({0: batch},)).module()
    assert program(X.repeat(3, 1, 1, 1)).shape == (6, 3)
    return program


WAYS: dict[str, Callable[[nn.Module], Callable[[torch.Tensor], torch.Tensor]]] = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved_whole,
    "deepcopy": copy.deepcopy,
    "script": torch.jit.script,
    "trace": lambda model: torch.jit.trace(model, X),
    "fx": torch.fx.symbolic_trace,
    "export": exported,
    "compile": lambda model: torch.compile(model, backend="eager", fullgraph=True),
    "double": lambda model: (lambda x: copy.deepcopy(model).double()(x.double()).float()),
    "channels last": lambda model: (lambda x: copy.deepcopy(model).to(memory_format=torch.channels_last)(x)),
    "vmap": lambda model: torch.vmap(lambda image: model(image[None])[0]),
    "functional": lambda model: (lambda x: torch.func.functional_call(model, dict(model.state_dict()), (x,))),
}


SLOW = ("compile", "trace")
"""Ways that take seconds for a network of many layers."""


@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.slow) if way in SLOW else way for way in WAYS])
def test_the_network_of_a_run_is_an_object_like_any_other(way: str, handed: nn.Module) -> None:
    torch._dynamo.reset()
    before = handed(X)
    assert torch.allclose(WAYS[way](handed)(X), before, atol=1e-4)
    assert torch.equal(handed(X), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, handed: nn.Module) -> None:
    got = copy.deepcopy(handed).to(dtype)(X.to(dtype))
    assert got.dtype == dtype
    assert torch.allclose(got.float(), handed(X), atol=0.1, rtol=0.1)


def test_it_can_be_trained_on_and_has_a_state(handed: nn.Module) -> None:
    mine = copy.deepcopy(handed).train()
    mine.load_state_dict(handed.state_dict())
    mine(X).sum().backward()
    assert sum(p.grad is not None for p in mine.parameters()) > 0
    assert all(p.grad is None for p in handed.parameters())
    scripted = torch.jit.script(handed)
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    assert torch.allclose(torch.jit.load(buffer)(X), handed(X), atol=1e-5)


def test_the_exported_source_too(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "missing_packages", lambda: ["onnx"])
    network = open_network(trained)
    export_folder(
        network.model, network.facts["arch"], Scale(**network.facts["scale"]), tmp_path / "out", classes=network.facts["classes"],
        preprocessing=LOOK, facts={},
    )  # fmt: skip
    spec = importlib.util.spec_from_file_location("exported_model", tmp_path / "out" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "exported_model", module)
    spec.loader.exec_module(module)
    model, pixels = module.load(), (X * 255).to(torch.uint8)
    wanted = network.with_normalisation(pixels.float() / 255)
    for name in ("pickle", "deepcopy", "script", "fx"):
        assert torch.allclose(WAYS[name](model)(pixels), wanted, atol=1e-4), name
    program = torch.export.export(model, (pixels,)).module()
    assert torch.allclose(program(pixels), wanted, atol=1e-4)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        got = copy.deepcopy(model).to(dtype)(pixels)
        assert got.dtype == dtype
        assert torch.allclose(got.float(), wanted, atol=0.1, rtol=0.1)
