"""The same on a CUDA device."""

from __future__ import annotations

import pytest
import torch
from conftest import Small

from archduel.core import Scale
from archduel.estimators.timing import latency_ms
from archduel.training.images import Pixels
from archduel.training.loop import train
from archduel.training.metrics import evaluate
from archduel.training.runtime import seeded_build

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("resident_bytes", [0, 1 << 30])
def test_it_learns_and_leaves_randomness_alone(precision, resident_bytes, task, recipe) -> None:
    pixels = Pixels(task._images, task.labels, task.mean, task.std, "cuda", resident_bytes=resident_bytes)
    assert pixels._images.device.type == ("cuda" if resident_bytes else "cpu")
    state = torch.cuda.get_rng_state()
    recipe = recipe.with_(precision=precision, mixup=0.2, cutout=2, crop_pad=1, flip=True, ema=0.9, epochs=12)
    model = seeded_build(Small, 5)
    result = train(model, pixels, recipe, seed=1, device="cuda", validation=pixels.subset(range(100)))
    assert result.reason == ""
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert evaluate(model, pixels).accuracy > 0.5
    assert torch.equal(state, torch.cuda.get_rng_state())


def test_a_checkpoint_continues_on_the_device(task, recipe, tmp_path) -> None:
    path = tmp_path / "training.safetensors"
    first = train(seeded_build(Small, 5), task, recipe, seed=1, device="cuda", checkpoint=path)
    again = train(seeded_build(Small, 9), task, recipe, seed=1, device="cuda", checkpoint=path)
    assert again.history == first.history


def test_latency() -> None:
    assert latency_ms(seeded_build(Small, 5), Scale(image_size=8), device="cuda", repetitions=20).median > 0
