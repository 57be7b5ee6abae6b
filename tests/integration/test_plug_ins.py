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
from PIL import Image
from typer.testing import CliRunner

import archduel
from archduel import registry
from archduel.commands import app
from archduel.core import Scale, sample, sample_distinct
from archduel.errors import UnknownNameError
from archduel.spaces.family import build, count, family
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables.build import make_table
from archduel.testing import SpaceContract

pytestmark = pytest.mark.usefixtures("no_onnx")
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

STRATEGY = '''
"""Random search whose settings are called like much that other strategies have, and one that labels first."""

from archduel.core import Query, sample
from archduel.errors import StateError

WORDS = {
    "labels": "a,b", "iterations": "many", "population": "all", "shared": "yes", "policy": "strict", "ranker": "none", "initial": "x",
    "steps": "few", "verify": "no", "top": "z", "batches": "b", "epochs": "e", "candidates": "c", "sampling": "fair", "order": "o",
}


class Tagged:
    """Asks for random architectures and keeps its tags."""

    def __init__(
        self, space, *, rng, constraint=None, labels="a,b", iterations="many", population="all", shared="yes", policy="strict",
        ranker="none", initial="x", steps="few", verify="no", top="z", batches="b", epochs="e", candidates="c", sampling="fair",
        order="o",
    ):
        self.space, self.rng, self.constraint, self.scores = space, rng, constraint, {}
        given = dict(locals())
        for name, value in WORDS.items():
            assert given[name] == value, f"{name} is {given[name]!r}"
            setattr(self, name, given[name])

    def ask(self, n):
        assert all(getattr(self, name) == value for name, value in WORDS.items())
        return [Query(sample(self.space, self.rng, self.constraint)) for _ in range(n)]

    def tell(self, queries, estimates):
        self.scores.update({query.arch: estimate.score for query, estimate in zip(queries, estimates) if not estimate.failed})

    def step(self):
        return None

    def best(self):
        if not self.scores:
            raise StateError("nothing was told yet")
        return max(self.scores, key=self.scores.get)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class First(Tagged):
    """Labels random architectures, then asks for its best one once more."""

    kind = "labels-first"
    seen = []

    def __init__(self, space, *, rng, constraint=None, labels=100):
        self.space, self.rng, self.constraint, self.scores, self.labels = space, rng, constraint, {}, labels
        self.asked = 0
        self.seen.append(labels)

    def ask(self, n):
        n = min(n, self.labels - self.asked)
        self.asked += n
        return [Query(sample(self.space, self.rng, self.constraint)) for _ in range(n)]
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
    assert "Chains of four layers of three kinds; 81 architectures (from outside: chain_space:FAMILY)" in run("list", "spaces")
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


def test_a_space_is_searched_with_workers_and_reported(chains: Any, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = outside / "run"
    found = archduel.search(
        "digits", out=out, space="chain_space:FAMILY", strategy="ctnas", evaluations=4, max_images=120, final_seeds=1, workers=2,
        quiet=True, set={**SMALL, "strategy.samples": 8},
    )  # fmt: skip
    assert found.result["networks"]["search"]["arch"].startswith("chains:")
    assert found.result["networks"]["search"]["params"] > 0
    assert (out / "report.html").is_file()
    assert (out / "export" / "model.py").is_file()
    check_another_process(out, outside, monkeypatch)


def test_a_training_in_a_space_is_used_by_another_process(chains: Any, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = outside / "training"
    small = ("--set", "epochs=1", "--set", "batch_size=16", "--set", "channels=4", "--max-images", "120")
    run("train", "chains:0.1.2.0", "--space", "chain_space:FAMILY", "--data", "digits", "--out", str(out), *small)
    check_another_process(out, outside, monkeypatch)


def check_another_process(folder: Path, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses the network of ``folder`` as a process that knows nothing of its space."""
    Image.new("L", (8, 8)).save(outside / "image.png")
    registry.MENUS["space"].pop("chains", None)
    for command in (("export", str(folder), "--to", str(outside / "shipped")), ("predict", str(folder), str(outside / "image.png")), ("eval", str(folder))):
        refused = CliRunner().invoke(app, list(command))
        assert isinstance(refused.exception, UnknownNameError)
        assert "reading a folder runs no code" in str(refused.exception)
        assert "chains" not in registry.MENUS["space"]
    monkeypatch.setenv(registry.TRUSTED, "chain_space:FAMILY")
    for words in (("report",), ("predict", str(outside / "image.png")), ("eval",), ("export", "--to", str(outside / "shipped"))):
        registry.MENUS["space"].pop("chains", None)
        run(words[0], str(folder), *words[1:])
    assert (outside / "shipped" / "model.py").is_file()


def test_a_class_alone_is_a_space_without_networks(outside: Path) -> None:
    (outside / "bare_space.py").write_text(SPACE.replace("chains", "bare"))
    assert run("sample", "bare_space:Chains", "-n", "2").count("bare:") == 2
    with pytest.raises(UnknownNameError, match="network of space 'bare' is unknown"):
        build(sample(family("bare")(), np.random.default_rng(0)), Scale(), generator=None)


def test_a_space_cannot_take_the_name_of_another(outside: Path) -> None:
    (outside / "false_space.py").write_text(SPACE.replace('"chains"', '"darts"'))
    with pytest.raises(UnknownNameError, match="calls itself 'darts', which is 'archduel.spaces.darts:FAMILY' already"):
        family("false_space:FAMILY")


# -- strategies ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_table(outside: Path) -> Path:
    """Returns the folder with a table of 60 cells and the file of the strategies."""
    (outside / "my_strategies.py").write_text(STRATEGY)
    space = NASBench201()
    archs = sample_distinct(space, 60, np.random.default_rng(0))
    values = np.random.default_rng(1).uniform(0.5, 0.9, 60)
    make_table(archs, {"validation": values, "test": values + 0.01}, name="small", space=space).write(outside / "small.table")
    return outside


def test_a_keyword_is_a_setting_whatever_it_is_called_in_bench_search(small_table: Path) -> None:
    words = ["--queries", "12", "--runs", "2", "--workers", "0", "--json", str(small_table / "out.json")]
    run("bench", "search", "--table", str(small_table / "small.table"), "--strategies", "random,my_strategies:Tagged", *words)
    records = json.loads((small_table / "out.json").read_text())
    assert {record["strategy"] for record in records} == {"random", "my_strategies:Tagged"}


def test_a_keyword_is_a_setting_whatever_it_is_called_in_search(small_table: Path) -> None:
    found = archduel.search(
        "digits", out=small_table / "run", strategy="my_strategies:Tagged", evaluations=4, max_images=120, final_seeds=1, workers=1,
        quiet=True, set={**{key: value for key, value in SMALL.items() if not key.startswith("ranker")}, "final.channels": 4,
                         "plan.channels": 4, "plan.depth": 1},
    )  # fmt: skip
    assert len(found.result["search"]) == 3  # two labels and a proposal
    assert found.result["networks"]["random"]["arch"]


def test_a_strategy_that_labels_first_is_told_how_many(small_table: Path) -> None:
    words = ["--queries", "8,12", "--runs", "1", "--workers", "0"]
    run("bench", "search", "--table", str(small_table / "small.table"), "--strategies", "random,my_strategies:First", *words)
    seen = sys.modules["my_strategies"].First.seen
    assert sorted(seen) == [6, 9]  # a quarter is kept for what it proposes
