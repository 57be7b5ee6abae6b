"""What of a training says how good the architecture is: its validation score, or a loss.

Accuracy counts right answers, a loss weighs how right: it moves where accuracies tie, and the training loss of an epoch is a mean
over far more images than a validation split has. A mean loss is read as exp(-loss), the geometric mean of the probability that the
network gives to the true class: higher is better, 0..1 like an accuracy, and the order is that of the losses.

Source: Ru, Lyle, Schut, Fil, van der Wilk, Gal: "Speedy Performance Estimation for Neural Architecture Search", NeurIPS 2021
(sums of training losses).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from archduel.core import Estimate
from archduel.errors import unknown

__all__ = ["READINGS", "SIZES", "reading", "readings", "sizes"]


def _losses(estimate: Estimate) -> list[float]:
    """Returns the training loss of every epoch."""
    return [float(epoch["train_loss"]) for epoch in estimate.values.get("history", ())]


def _likelihood(losses: Sequence[float]) -> float:
    return math.exp(-math.fsum(losses) / len(losses)) if losses else math.nan


def _score(estimate: Estimate) -> float:
    return estimate.score


def _validation_loss(estimate: Estimate) -> float:
    loss = estimate.values.get("val_loss")
    return _likelihood([] if loss is None else [float(loss)])


def _train_loss(estimate: Estimate) -> float:
    return _likelihood(_losses(estimate)[-1:])


def _late_losses(estimate: Estimate) -> float:
    losses = _losses(estimate)
    return _likelihood(losses[-max(1, len(losses) // 4) :])


def _all_losses(estimate: Estimate) -> float:
    return _likelihood(_losses(estimate))


READINGS: dict[str, Callable[[Estimate], float]] = {
    "score": _score,
    "val_loss": _validation_loss,
    "train_loss": _train_loss,
    "late_losses": _late_losses,
    "all_losses": _all_losses,
}
"""``score``: the metric of the validation images. ``val_loss``: their loss. ``train_loss``: of the last epoch. ``late_losses``: mean
of the last quarter of the epochs. ``all_losses``: mean of all epochs, the order of Ru et al.'s sum."""


def reading(estimate: Estimate, name: str) -> float:
    """Returns one reading of a training, higher is better; nan for a failed one.

    Raises:
        UnknownNameError: for a reading that there is not.
    """
    if name not in READINGS:
        raise unknown("reading", name, READINGS)
    return math.nan if estimate.failed else READINGS[name](estimate)


def readings(estimates: Sequence[Estimate], name: str) -> list[float]:
    """Returns :func:`reading` of each."""
    return [reading(estimate, name) for estimate in estimates]


SIZES = ("params", "macs")
"""What is known without any training. Larger is often better: a proxy that ranks no better than size is not worth its time."""


def sizes(estimates: Sequence[Estimate], name: str) -> list[float]:
    """Returns parameters or multiply-adds of each; nan where they are unknown."""
    return [float(estimate.values.get(name, math.nan)) for estimate in estimates]
