"""Every space on the menu keeps the contract, and becomes networks that cost what is counted."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from archduel import registry
from archduel.core import Scale, sample
from archduel.core.family import target
from archduel.spaces.family import build, count, family, with_text
from archduel.testing.suites import SpaceContract

MENU = [name for name in registry.names("space") if registry.MENUS["space"][name] not in registry.plug_ins("space")]
"""The spaces of the package; other tests of the same process put theirs on the menu too."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in MENU}
VARIANTS |= {
    f"darts-{preset}": ("darts", {"preset": preset}) for preset in ("ctnas", "cnas", "relativenas", "bpe")
}
VARIANTS["darts_supercell-none"] = ("darts_supercell", {"none": True})


@pytest.mark.parametrize("variant", VARIANTS, scope="class")
class TestEverySpace(SpaceContract):
    @pytest.fixture(autouse=True)
    def _variant(self, variant: str) -> None:
        self.name, self.settings = VARIANTS[variant]

    def make(self) -> Any:
        return registry.make("space", self.name, **self.settings)

    def test_networks_have_the_counted_parameters(self) -> None:
        rng, scale = np.random.default_rng(0), Scale(8, max(2, family(self.name).least_depth), 32, 1, 5)
        for _ in range(3):
            arch = sample(self.make(), rng)
            network = build(arch, scale, generator=torch.Generator().manual_seed(0))
            assert (
                sum(p.numel() for p in network.parameters() if p.requires_grad) == count(arch, scale).params
            )
            assert network.eval()(torch.rand(2, 1, 32, 32)).shape == (2, 5)

    def test_auxiliary_heads_answer_in_training_only_and_are_not_counted(self) -> None:
        arch, scale = sample(self.make(), np.random.default_rng(1)), Scale(8, 3, 32, 3, 5)
        network = build(arch, scale, auxiliary=True, generator=torch.Generator().manual_seed(0))
        logits, extra = network.train()(torch.rand(2, 3, 32, 32))
        assert logits.shape == extra.shape == (2, 5)
        assert network.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 5)
        main = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("aux"))
        assert main == count(arch, scale).params

    def test_the_generator_alone_decides_the_weights(self) -> None:
        arch, before = sample(self.make(), np.random.default_rng(2)), torch.get_rng_state()
        networks = [
            build(arch, Scale(8, family(self.name).least_depth, 32), generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
        ]
        assert torch.equal(before, torch.get_rng_state())
        first, second, third = (
            torch.nn.utils.parameters_to_vector(network.parameters()) for network in networks
        )
        assert torch.isfinite(first).all()
        assert torch.equal(first, second)
        assert not torch.equal(first, third)
        for network in networks[:1]:
            assert all(torch.isfinite(buffer).all() for buffer in network.buffers())


@pytest.mark.parametrize("name", MENU)
def test_all_that_a_family_names_is_there(name: str) -> None:
    around = family(name)
    assert around.name == name == around().name == around(**around.widest).name == around(**around.usual).name
    for what in (around.space, around.build, around.count, around.supernet, around.diagrams, *around.generators.values()):
        assert what is None or callable(target(what))
    assert not around.free_text or {"build", "count", "diagrams", "canonical"} <= set(import_module(around.free_text).__all__)
    assert list(around.ladder) == sorted(around.ladder)
    assert set(around.optional_columns) < set(around.columns)
    archs = [sample(around(), np.random.default_rng(seed)) for seed in range(5)]
    if around.text_pattern:
        assert all(around in with_text(around().write(arch)) for arch in archs)  # type: ignore[attr-defined]
        assert around not in with_text("nothing of the kind")
