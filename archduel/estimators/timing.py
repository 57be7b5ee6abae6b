"""How long a network takes for a batch on a device, measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from archduel.core import Arch, Scale, Space
from archduel.errors import SettingError
from archduel.spaces.limits import Limits, median_arch, sizes
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe
from archduel.training.runtime import mode_kept

__all__ = ["Latency", "Stopwatch", "check_device", "latency_ms", "latency_of"]

FINE = 1e-6
"""Seconds that a clock must tell apart to time a pass; that of threads tells 16 ms apart on some systems."""

# -- What this machine's device does: measured latencies as a limit -----------------------------------------------------


def check_device(device: str) -> None:
    """Raises SettingError unless torch can compute on ``device`` here."""
    import torch

    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:  # what torch raises for a missing device
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise SettingError(f"--device {device}: torch cannot use it; here it has {', '.join(there)}") from error


def latency_of(scale: Scale, *, batch_size: int, device: str) -> Callable[[Arch], float]:
    """Returns a function that builds an architecture and measures the median milliseconds of a batch, one thread."""

    def measure(arch: Arch) -> float:
        """Returns the median milliseconds of a batch, on one thread."""
        import torch

        from archduel.spaces.family import build

        before = torch.get_num_threads()
        torch.set_num_threads(1)  # as a deployed small network usually runs, and repeatable
        try:
            return latency_ms(build(arch, scale), scale, batch_size=batch_size, device=device, seconds=0.2).median
        finally:
            torch.set_num_threads(before)

    return measure


# -- How long training takes here: a few steps, measured ----------------------------------------------------------------


class Stopwatch:
    """Measures training steps of a typical architecture.

    Args:
        space: of the architectures.
        pixels: training images, (N, C, H, W).
        n_classes: outputs of the networks.
        device: where they are trained.
        threads: of torch on a CPU.
    """

    def __init__(self, space: Space, pixels: Pixels, n_classes: int, *, device: str = "cpu", threads: int = 1) -> None:
        self.space, self.pixels, self.n_classes, self.device, self.threads = space, pixels, n_classes, device, threads

    def seconds_per_image(self, recipe: Recipe, arch: Arch | None = None) -> float:
        """Returns the seconds an image of training costs, other workers' load included (measured alone, times 1.15).

        Args:
            recipe: how it is trained.
            arch: which network; None = one of median multiply-adds.
        """
        from archduel.spaces.family import build
        from archduel.training.loop import train
        from archduel.training.runtime import seeded_build

        scale = Scale(recipe.channels, recipe.depth, recipe.image_size, self.pixels.in_channels, self.n_classes)
        arch = arch or median_arch(sizes(self.space, Limits(scale), np.random.default_rng(5), 60))
        n = min(len(self.pixels), 4 * recipe.batch_size if recipe.image_size <= 16 else 2 * recipe.batch_size)
        few = self.pixels.subset(np.arange(n))
        before = torch.get_num_threads()
        if self.device == "cpu":
            torch.set_num_threads(self.threads)
        try:
            model = seeded_build(lambda: build(arch, scale), 0)
            short = recipe.with_(epochs=1, data_fraction=1.0)
            costs = [train(model, few, short, seed=i, device=self.device) for i in range(2)]
        finally:
            torch.set_num_threads(before)
        return 1.15 * costs[-1].seconds / costs[-1].images


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

    One thread of a CPU is timed by its own processor time, so that what else the machine does counts as little as it can: with eight other
    programs on two cores passes of 5.6 ms took 19.5 on the wall's clock, and networks were refused for it.

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
    clock = _clock(device)
    with mode_kept(model):
        model.to(device).eval()
        for _ in range(warmup):
            model(x)
        times = [_timed(model, x, clock)]
        while len(times) < repetitions and (len(times) < 5 or sum(times) < 1000 * seconds):
            times.append(_timed(model, x, clock))
    low, median, high = np.percentile(times, (25, 50, 75))
    return Latency(float(median), float(high - low), len(times))


def _timed(model: nn.Module, x: torch.Tensor, clock: Callable[[], float]) -> float:
    """Returns the milliseconds of one pass, waited for."""
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    began = clock()
    model(x)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return 1000 * (clock() - began)


def _clock(device: torch.device) -> Callable[[], float]:
    """Returns what times a pass: the thread's own time where one thread of the CPU does all of it and its clock is fine enough."""
    fine = hasattr(time, "thread_time") and time.get_clock_info("thread_time").resolution <= FINE
    return time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 and fine else time.perf_counter
