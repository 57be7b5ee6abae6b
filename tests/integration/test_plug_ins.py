"""A space and a strategy from outside, one file each, do what those on the menus do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import archduel
from archduel import registry
from archduel.commands import app
from archduel.core import Scale, sample
from archduel.errors import UnknownNameError
from archduel.spaces.family import build, count, family
from archduel.testing import SpaceContract

SPACE = '''
"""Chains of four layers, each a convolution, a pool or nothing."""

import numpy as np
from torch import nn

from archduel.core import Arch, Counts, Decision, Family, Scale, check_decisions


class Chains:
    """Chains of four layers of three kinds; 81 architectures."""

    name, kinds, size = "chains", {"layer": 3}, 81

    def decision(self, prefix):
        return Decision(f"layer{len(prefix)}", "layer", (0, 1, 2)) if len(prefix) < 4 else None

    def validate(self, arch):
        check_decisions(self, arch)

    def features(self, archs):
        return np.array([arch.choices for arch in archs], np.float32).reshape(len(archs), 4)

    def fingerprint(self, arch):
        return "".join(str(choice) for choice in arch.choices if choice)


class Network(nn.Module):
    def __init__(self, choices, scale):
        super().__init__()
        width = scale.channels
        layers = [nn.Conv2d(scale.in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        for choice in choices:
            if choice == 1:
                layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            elif choice == 2:
                layers += [nn.AvgPool2d(3, 1, 1)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(width, scale.n_classes)

    def forward(self, x):
        return self.classifier(self.layers(x))


def build(arch, scale, *, auxiliary=False):
    Chains().validate(arch)
    return Network(arch.choices, scale)


def count(arch, scale):
    Chains().validate(arch)
    width, pixels = scale.channels, scale.image_size**2
    weights = 9 * scale.in_channels * width + 9 * width * width * arch.choices.count(1)
    norms = 2 * width * (1 + arch.choices.count(1))
    head = width * scale.n_classes
    return Counts(weights + norms + head + scale.n_classes, weights * pixels + head)


FAMILY = Family("chains", Chains, build=build, count=count, scale=Scale(8, 1), ladder=((4, 1), (8, 1)))
'''

SMALL: dict[str, Any] = {
    "label.epochs": 1, "reevaluate.epochs": 1, "final.epochs": 1, "plan.iterations": 3, "plan.shortlist": 1, "plan.confirm": 1,
    "ranker.epochs": 10,
}  # fmt: skip


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, f"{result.output}\n{result.exception}"
    return result.output


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Returns a folder on the path for modules; what they add to the menus is taken off again."""
    monkeypatch.syspath_prepend(str(tmp_path))
    menus, modules = {role: dict(menu) for role, menu in registry.MENUS.items()}, set(sys.modules)
    yield tmp_path
    for role, menu in menus.items():
        registry.MENUS[role].clear()
        registry.MENUS[role].update(menu)
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def chains(outside: Path) -> Any:
    (outside / "chain_space.py").write_text(SPACE)
    return family("chain_space:FAMILY")


def test_a_space_is_sampled_described_and_drawn(chains: Any) -> None:
    archs = run("sample", "chain_space:FAMILY", "-n", "5", "--distinct").split()
    assert len({chains().fingerprint(archduel.parse(arch)) for arch in archs}) == 5
    facts = json.loads(run("describe", "--space", "chain_space:FAMILY", "--json"))
    assert (facts["space"], facts["size"]) == ("chains", 81)
    row = json.loads(run("describe", archs[0], "--space", "chain_space:FAMILY", "--json"))
    assert row["params"] == count(archduel.parse(archs[0]), Scale(8, 1)).params
    assert "<svg" in run("draw", archs[0], "--space", "chain_space:FAMILY")


def test_a_space_keeps_the_contract_and_its_networks_cost_what_is_counted(chains: Any) -> None:
    class Contract(SpaceContract):
        def make(self) -> Any:
            return chains()

    for name in dir(Contract):
        if name.startswith("test_"):
            getattr(Contract(), name)()
    rng, scale = np.random.default_rng(0), Scale(6, 1, 8, 3, 5)
    for _ in range(5):
        arch = sample(chains(), rng)
        network = build(arch, scale, generator=torch.Generator().manual_seed(0))
        assert sum(p.numel() for p in network.parameters()) == count(arch, scale).params
        assert network.eval()(torch.rand(2, 3, 8, 8)).shape == (2, 5)


def test_a_space_is_searched_with_workers_and_reported(chains: Any, outside: Path) -> None:
    out = outside / "run"
    found = archduel.search(
        "digits", out=out, space="chain_space:FAMILY", strategy="ctnas", evaluations=4, max_images=120, final_seeds=1, workers=2,
        quiet=True, set={**SMALL, "strategy.samples": 8},
    )  # fmt: skip
    assert found.result["networks"]["search"]["arch"].startswith("chains:")
    assert found.result["networks"]["search"]["params"] > 0
    assert (out / "report.html").is_file()
    assert (out / "export" / "model.py").is_file()


def test_a_class_alone_is_a_space_without_networks(outside: Path) -> None:
    (outside / "bare_space.py").write_text(SPACE.replace("chains", "bare"))
    assert run("sample", "bare_space:Chains", "-n", "2").count("bare:") == 2
    with pytest.raises(UnknownNameError, match="network of space 'bare' is unknown"):
        build(sample(family("bare")(), np.random.default_rng(0)), Scale(), generator=None)


def test_a_space_cannot_take_the_name_of_another(outside: Path) -> None:
    (outside / "false_space.py").write_text(SPACE.replace('"chains"', '"darts"'))
    with pytest.raises(UnknownNameError, match="calls itself 'darts', which is 'archduel.spaces.darts:FAMILY' already"):
        family("false_space:FAMILY")
