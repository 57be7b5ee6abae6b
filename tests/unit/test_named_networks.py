"""Every named architecture, built small: forward, backward, counts without the auxiliary head."""

from __future__ import annotations

import pytest
import torch

from archduel.core import Scale
from archduel.networks.find import find_architecture
from archduel.networks.trained import network_of
from archduel.spaces.layers import DropPath, feed_drop_path
from archduel.spaces.named import NAMED
from archduel.training.runtime import isolated, seeded_build

SIZES = {"mobilenetv3": Scale(4, 1, 32, 3, 7), "nasbench101": Scale(8, 1, 16, 3, 7)}


@pytest.mark.parametrize("name", NAMED)
def test_it_learns_and_counts(name: str) -> None:
    chosen = find_architecture(name)
    scale = SIZES.get(chosen.space, Scale(4, 3, 16, 3, 7))
    model = seeded_build(lambda: network_of({**chosen.facts, "scale": scale}, auxiliary=True), 0)
    x = torch.randn(3, 3, scale.image_size, scale.image_size, generator=torch.Generator().manual_seed(0))
    logits, extra = model.train()(x)
    assert logits.shape == extra.shape == (3, 7)
    loss = torch.nn.functional.cross_entropy(logits + extra, torch.tensor([0, 3, 6]))
    loss.backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert all(bool(torch.isfinite(grad).all()) for grad in grads.values())
    assert any(float(grad.abs().max()) > 0 for n, grad in grads.items() if n.startswith(("stem", "blocks", "cells")))
    assert model.eval()(x).shape == (3, 7)
    own = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("auxiliary"))
    assert own == chosen.counts(scale).params


def test_a_compiled_network_is_not_compiled_anew_for_every_drop_path() -> None:
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        compiled.append(1)
        return graph

    class Branch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = DropPath()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.drop(x * self.weight)

    model = Branch().train()
    feed_drop_path(model, 0.0)
    model.compile(backend=backend)
    x = torch.ones(4000, 1, 1, 1)
    with isolated() as reseed:
        reseed(0)
        for p in (0.0, 0.1, 0.2, 0.3, 0.5):
            feed_drop_path(model, p)
            out = model(x).detach()
            assert float((out == 0).float().mean()) == pytest.approx(p, abs=0.03)
            assert float(out.max()) == pytest.approx(1 / (1 - p))
    assert len(compiled) == 1
    assert torch.equal(model.eval()(x), x)
