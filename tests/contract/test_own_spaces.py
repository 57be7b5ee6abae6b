"""Three spaces of one's own keep the contracts of spaces; rankers and strategies keep theirs on one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archduel
from archduel.assemble import assemble
from archduel.core import Arch, Constraint, Ranker, Scale, Strategy, sample
from archduel.rankers import Jury
from archduel.spaces.family import build, count
from archduel.testing import RankerContract, SpaceContract, StrategyContract, ToyRanker

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "own"))
from own_networks import Forty, Signals, Small

SPACES = {
    "small": lambda: archduel.space_of(Small, check=False),
    "signals": lambda: archduel.space_of(Signals, example=(1, 16), check=False),
    "table": lambda: archduel.space({"a": [1, 2, 3], "b": {"x": {"c": [1, 2]}, "y": {"d": ["u", "v"], "e": [1.0, 2.0]}}}),
    "forty": lambda: archduel.space_of(Forty, check=False),
}
_made: dict[str, Any] = {}


def made(name: str) -> Any:
    """Returns a space, explored once for all tests."""
    return _made.setdefault(name, SPACES[name]()) if name not in _made else _made[name]


@pytest.mark.parametrize("own", SPACES, scope="class")
class TestOwnSpaces(SpaceContract):
    @pytest.fixture(autouse=True)
    def _own(self, own: str) -> None:
        self.own = own
        self.samples = 12 if own == "table" else 30

    def make(self) -> Any:
        return made(self.own)


@pytest.mark.parametrize("own", ["small", "forty"])
def test_networks_cost_what_is_counted_and_the_generator_alone_decides_their_weights(own: str) -> None:
    space, scale = made(own), Scale(16, 3, 8, 1, 5)
    here = space.at_scale(scale)
    arch = sample(here, np.random.default_rng(0))
    before = torch.get_rng_state()
    first, second, third = (build(arch, scale, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert sum(p.numel() for p in first.parameters()) == count(arch, scale).params
    assert first.eval()(torch.rand(2, 1, 8, 8)).shape == (2, 5)
    vectors = [torch.nn.utils.parameters_to_vector(network.parameters()) for network in (first, second, third)]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


def score(arch: Arch) -> float:
    """Returns a made-up quality of a table's architecture: every answer counts a little, and two of them together more."""
    return sum((i + 1) * answer for i, answer in enumerate(arch.choices)) / 10 + arch.choices[0] * arch.choices[1] / 5




WIDE = archduel.space({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [1, 2], "d": {"on": {"e": [1, 2, 4], "f": ["u", "v"]}, "off": {}}, "g": [0, 1]})


class TestJuryOnOwnSpace(RankerContract):
    space: Any = WIDE
    labels = 40
    right = 0.6

    def make(self, seed: int) -> Ranker:
        return Jury(WIDE, seed=seed, trees=20, folds=0, reference=50)

    def score(self, arch: Arch) -> float:
        return score(arch)


@pytest.mark.parametrize("name", ["evolution", "best"], scope="class")
class TestStrategiesOnOwnSpace(StrategyContract):
    space: Any = WIDE

    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.name = name
        self.repeats = name != "best"
        self.evaluations = 20

    def make(self, seed: int, constraint: Constraint | None = None) -> Strategy:
        settings = {"evolution": {"population": 10, "tournament": 3, "patience": 200}, "best": {"bred": 20, "generations": 2}}[self.name]
        return assemble(self.name, WIDE, seed=seed, constraint=constraint, settings=settings, given={"ranker": ToyRanker(WIDE)})

    def score(self, arch: Arch) -> float:
        return score(arch)
