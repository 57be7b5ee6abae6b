"""Every named architecture, built small: forward, backward, counts without the auxiliary head."""

from __future__ import annotations

import pytest
import torch

from archduel.apps.architecture import find_architecture
from archduel.apps.trained import network_of
from archduel.core import Scale
from archduel.spaces.named import NAMED
from archduel.training.seeding import seeded_build

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
