"""Latency: what is called how often, and that the network stays as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
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


class Waiting(nn.Module):
    """Takes 20 ms on the wall's clock and next to no processor time, as a pass does that waits for its turn on a busy machine."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.02)
        return x


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_one_thread_is_timed_by_its_own_time(threads: None) -> None:
    torch.set_num_threads(1)
    assert latency_ms(Waiting(), Scale(image_size=8), warmup=0, seconds=0).median < 10
    torch.set_num_threads(2)
    assert latency_ms(Waiting(), Scale(image_size=8), warmup=0, seconds=0).median >= 20


def test_a_coarse_clock_of_threads_is_not_used(threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    coarse = type("Info", (), {"resolution": 0.0156})
    monkeypatch.setattr(time, "get_clock_info", lambda name: coarse)
    assert latency_ms(Waiting(), Scale(image_size=8), warmup=0, seconds=0).median >= 20
