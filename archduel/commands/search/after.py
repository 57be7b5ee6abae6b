"""What comes after a training, forecast from what was measured on this machine: test, export and report."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import count

import torch
from torch import nn

from archduel.core.job import Job
from archduel.data import Dataset
from archduel.export import rehearse_onnx
from archduel.race.plan import LEAST_TRAINING, too_short
from archduel.race.race import MOST_SLOWER
from archduel.training.images import Pixels
from archduel.training.metrics import final_scores

__all__ = ["After", "check_time", "kept_for", "rehearsed", "reserve", "slower"]

LONG = 30.0
"""Seconds from which a run rehearses its export; in less it cannot spare the second or two."""
BASE, A_LAYER = 0.4, 0.03
"""What an export takes as a share of a rehearsal from nothing, and for each convolution or linear layer of the network more.

Measured: a rehearsal of 2.1 s of processor time, then 1.0 to 1.2 s for 6 to 15 layers, 1.5 to 2.1 s for 11 to 35 in cells, 1.9 s for a
ResNet of 32 and 3.5 s for a MobileNetV3 of 48."""
LOADING = 0.8
"""Share of a rehearsal that loads the exporter."""
USUAL_LAYERS = 15
REST = 0.8
"""Processor seconds for the report, a latency, reading and writing weights, and the end of the program."""
A_MEMBER = 0.4
"""Likewise, for each further member of a front: weights that are written, a latency."""
TIMED_IMAGES = 128


@dataclass(frozen=True)
class After:
    """A forecast in processor seconds.

    Attributes:
        rehearsal: what a first, tiny export took.
        loaded: whether this process has the exporter; else that is still to come.
        images: how many test images are read afterwards.
        some: other images of the same size, to measure with.
    """

    rehearsal: float
    images: int
    some: Pixels
    loaded: bool = True

    @property
    def usual(self) -> float:
        """Before it is known which network is handed over, and how fast it is."""
        return self._export(USUAL_LAYERS) + 2e-4 * self.images

    def __call__(self, model: nn.Module, members: int = 1) -> float:
        """Returns what handing ``model`` over takes; of a front of so many ``members`` each is tested and kept, as if all were like it."""
        layers = sum(isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) for module in model.modules())
        each = self.images * self._an_image(model)
        return self._export(layers) + each + (members - 1) * (each + A_MEMBER)

    def _export(self, layers: int) -> float:
        return REST + self.rehearsal * (BASE + A_LAYER * layers + (0.0 if self.loaded else LOADING))

    def _an_image(self, model: nn.Module) -> float:
        some = self.some.subset(torch.arange(min(TIMED_IMAGES, len(self.some))))
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        began = time.process_time()
        final_scores(model, some, device)
        return (time.process_time() - began) / len(some)


def slower(clock: float) -> float:
    """Returns how many times longer than the processor's seconds those of the clock are since the run began, 1 to :data:`MOST_SLOWER`."""
    return min(MOST_SLOWER, max(1.0, clock / max(time.process_time(), 1e-3)))


def reserve(seconds: float | None) -> float:
    """Returns the seconds of a budget that are kept for what comes after a training where nothing was measured."""
    return 0.0 if seconds is None else min(0.1 * seconds, 4 + 0.02 * seconds)


def check_time(seconds: float | None, gone: float) -> None:
    """Refuses a time that is too short whatever the images are, before they are read, which may take minutes.

    Args:
        seconds: of a race, None without a limit of time.
        gone: what is used up already.

    Raises:
        BudgetError: if less than a race needs to train is left.
    """

    def left(whole: float) -> float:
        """Returns what a race of ``whole`` seconds could train, at most."""
        return whole - gone - (reserve(whole) if whole < LONG else REST)

    if seconds is not None and left(seconds) < LEAST_TRAINING - 1e-6:
        needed = next(whole for whole in count(math.ceil(gone + LEAST_TRAINING)) if left(whole) >= LEAST_TRAINING)
        raise too_short(seconds, needed - LEAST_TRAINING, needed)  # what is kept for the end grows with the time


def kept_for(after: After | None, folder: Job, seconds: float | None) -> float:
    """Returns the seconds that a race keeps for what comes after it.

    A continued run keeps what it began with: its clock counts all attempts and the processor only this one, so how slow the machine is
    could not be said anew, and its plan would be another one.
    """
    if after is None:
        return reserve(seconds)
    return float(folder.once("reserve", lambda: {"seconds": round(after.usual * slower(folder.clock), 3)})["seconds"])


def rehearsed(folder: Job, seconds: float | None, dataset: Dataset) -> After | None:
    """Returns the forecast of a run of ``seconds``, None for one that is short or has no limit of time; loads the exporter.

    A continued run keeps the forecast with which it began, because its plan follows from it, and loads the exporter when it exports.
    """
    if seconds is None or seconds < LONG:
        return None
    noted = folder.noted("rehearsal")
    took = folder.note("rehearsal", seconds=round(rehearse_onnx(), 3)) if noted is None else noted
    part, look = dataset.validation, dataset.preprocessing
    some = Pixels(part.images, part.labels, look.mean, look.std)
    return After(float(took["seconds"]), len(dataset.test), some, loaded=noted is None)
