"""The worked example of a found network as a backbone, with a tiny budget."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from archduel.core import Scale, parse
from archduel.spaces.family import build

PATH = Path(__file__).parents[2] / "examples" / "backbone.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("backbone_example", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network() -> torch.nn.Module:
    return build(parse("nasbench201:3.1.2.3.3.3"), Scale(channels=4, depth=1, image_size=16), generator=torch.Generator().manual_seed(0))


def test_the_images_hold_every_class(example: Any) -> None:
    images, labels = example.make_images(8, 16, 0)
    assert images.shape == (8, 3, 16, 16)
    assert set(labels.unique().tolist()) == {0, 1, 2, 3}
    assert example.mean_overlap(labels, labels) == 1.0


def test_backbone_and_head_learn_together(example: Any) -> None:
    model = network()
    stem = model.stem[0].weight.clone()
    before = example.run(network(), steps=0, size=16)
    after = example.run(model, steps=40, size=16)
    assert after > before + 0.1
    assert not torch.equal(stem, model.stem[0].weight)
