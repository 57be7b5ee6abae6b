"""Latency: what is called how often, and that the network stays as it was."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archduel.core import Scale
from archduel.estimators.timing import latency_ms


class Counting(nn.Module):
    """Counts its calls and the shapes it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.shapes: list[tuple[int, ...]] = []
        self.modes: set[bool] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        self.modes.add(self.training)
        return self.norm(x)


def test_what_is_measured() -> None:
    model = Counting()
    state = torch.get_rng_state()
    result = latency_ms(model, Scale(image_size=8), batch_size=4, repetitions=20, warmup=3)
    assert model.shapes == [(4, 3, 8, 8)] * 23
    assert model.modes == {False}
    assert model.training
    assert model.norm.num_batches_tracked == 0
    assert result.n == 20
    assert result.median > 0
    assert result.iqr >= 0
    assert torch.equal(state, torch.get_rng_state())


def test_a_time_limit_still_gives_five_repetitions() -> None:
    assert latency_ms(Counting(), Scale(image_size=8), seconds=0).n == 5
