"""What a network consists of: the multiply-adds are those that are counted in closed form, and nothing is computed for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archduel.core import Scale, sample
from archduel.devices import operator_columns
from archduel.devices.operators import COLUMNS, KINDS, WHAT
from archduel.spaces.family import build, count, family

PRODUCTS = ("spatial", "pointwise", "depthwise", "grouped", "linear")


def part(columns: np.ndarray, kind: str, what: str) -> float:
    """Returns one of the columns."""
    return float(columns[COLUMNS.index(f"{kind}/{what}")])


@pytest.mark.parametrize("name", ["stages", "nasbench201", "darts", "resnet", "pretrained"])
def test_multiply_adds_are_those_of_the_closed_form(name: str) -> None:
    space = family(name)()
    arch = sample(space, np.random.default_rng(3))
    scale = Scale(8, 3, 32, 3, 7)
    columns = operator_columns(arch, scale)
    assert columns.shape == (len(KINDS) * len(WHAT),)
    assert sum(part(columns, kind, "macs") for kind in PRODUCTS) == count(arch, scale).macs


def test_numbers_by_hand() -> None:
    network = lambda arch, scale: torch.nn.Sequential(  # noqa: E731
        torch.nn.Conv2d(3, 4, 3, padding=1, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, groups=4, bias=False),
        torch.nn.Conv2d(4, 20, 1, bias=False), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(20, 5),
    )  # fmt: skip
    arch = sample(family("stages")(), np.random.default_rng(0))
    columns = operator_columns(arch, Scale(8, 1, 6, 3, 5), make=network)
    assert part(columns, "spatial", "number") == 1
    assert part(columns, "spatial", "macs") == 4 * 36 * 27
    assert part(columns, "spatial", "padded") == 16 * 36 * 9 * 16  # 4 filters and 3 channels are a vector of 16 each
    assert part(columns, "spatial", "moved") == 3 * 36 + 3 * 4 * 9 + 4 * 36
    assert part(columns, "depthwise", "macs") == 4 * 16 * 9
    assert part(columns, "pointwise", "macs") == 20 * 16 * 4
    assert part(columns, "pool", "number") == 1
    assert part(columns, "linear", "macs") == 100
    assert part(columns, "elementwise", "number") == 0  # norm and ReLU belong to the convolution


def test_nothing_is_computed_and_no_random_number_drawn() -> None:
    arch = sample(family("stages")(), np.random.default_rng(1))
    before = torch.get_rng_state()
    first = operator_columns(arch, Scale(128, 1, 224, 3, 1000))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(first, operator_columns(arch, Scale(128, 1, 224, 3, 1000)))
    assert all(not p.is_meta for p in build(arch, Scale(8, 1)).parameters())  # building goes on as before
