"""How long a network takes for a batch on a device, measured."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from archduel.core import Scale
from archduel.training.modes import mode_kept

__all__ = ["Latency", "latency_ms"]


class Latency(NamedTuple):
    """Milliseconds a batch.

    Attributes:
        median: of the repetitions.
        iqr: distance between their quartiles.
        n: repetitions.
    """

    median: float
    iqr: float
    n: int


@torch.inference_mode()
def latency_ms(
    model: nn.Module,
    scale: Scale,
    *,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    repetitions: int = 100,
    warmup: int = 10,
    seconds: float = 2.0,
) -> Latency:
    """Returns the time of a forward pass in evaluation mode; with torch's present number of threads on a CPU.

    Args:
        model: the network; moved to ``device``.
        scale: says what it takes.
        batch_size: images a pass.
        device: where to measure.
        repetitions: passes that are timed.
        warmup: passes before that.
        seconds: ends the measurement early, but not before 5 repetitions.
    """
    device = torch.device(device)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, scale.in_channels, scale.image_size, scale.image_size, generator=generator).to(device)
    with mode_kept(model):
        model.to(device).eval()
        for _ in range(warmup):
            model(x)
        times = [_timed(model, x)]
        while len(times) < repetitions and (len(times) < 5 or sum(times) < 1000 * seconds):
            times.append(_timed(model, x))
    low, median, high = np.percentile(times, (25, 50, 75))
    return Latency(float(median), float(high - low), len(times))


def _timed(model: nn.Module, x: torch.Tensor) -> float:
    """Returns the milliseconds of one pass, waited for."""
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    began = time.perf_counter()
    model(x)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return 1000 * (time.perf_counter() - began)
