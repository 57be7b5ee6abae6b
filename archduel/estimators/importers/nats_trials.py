"""One training in NAS-Bench-201 and NATS-Bench: the numbers that a table keeps of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Trial", "condense"]

SHORT = 8
"""Dicts of more entries are curves; shorter ones are left as they are."""
DROPPED = {"dropped": True}
"""What is left of a curve, so that a second training with the very same object would be noticed."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one training of one cell ended with; accuracies are fractions, nan = not recorded.

    Attributes:
        dataset: ``cifar10-valid``, ``cifar10``, ``cifar100`` or ``ImageNet16-120``.
        epochs: how long it was trained.
        train: training accuracy of the last epoch.
        evaluations: set -> accuracy after the last epoch.
        train_seconds: of all epochs together.
        evaluation_seconds: set -> mean of one evaluation.
        params: recorded count of parameters.
        macs: recorded multiply-adds, the classifier's bias included.
        latency_ms: recorded time of a batch of 256.
    """

    dataset: str
    epochs: int
    train: float
    evaluations: Mapping[str, float]
    train_seconds: float
    evaluation_seconds: Mapping[str, float]
    params: float
    macs: float
    latency_ms: float


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _mean(values: Any) -> float:
    numbers = [float(value) for value in values] if isinstance(values, list) else []
    return sum(numbers) / len(numbers) if numbers else math.nan


def _last(values: Any, last: int) -> dict[str, float]:
    """Returns set -> accuracy of the last epoch, from keys such as ``x-valid@199``."""
    tail = f"@{last}"
    return {key.removesuffix(tail): float(value) / 100 for key, value in values.items() if key.endswith(tail)}


def _mean_times(times: Any) -> dict[str, float]:
    """Returns set -> mean seconds of its evaluations."""
    by_set: dict[str, list[float]] = {}
    for key, value in times.items() if isinstance(times, dict) else ():
        by_set.setdefault(key.partition("@")[0], []).append(float(value))
    return {name: sum(values) / len(values) for name, values in by_set.items()}


def condense(record: dict[Any, Any]) -> int:
    """Replaces the 16 entries of a training, curves and all, by one :class:`Trial`; returns how many values it dropped.

    Any other dict is left as it is.
    """
    if not {"train_acc1es", "eval_acc1es", "epochs", "name"} <= record.keys():
        return 0
    curves = [
        value
        for value in record.values()
        if (isinstance(value, dict) and len(value) > SHORT) or value == DROPPED
    ]
    if DROPPED in curves:
        raise ValueError("two trainings share one learning curve")
    last = int(record["epochs"]) - 1
    times = record.get("train_times")
    trial = Trial(
        dataset=str(record["name"]),
        epochs=last + 1,
        train=_number(record["train_acc1es"].get(last)) / 100,
        evaluations=_last(record["eval_acc1es"], last),
        train_seconds=sum(map(float, times.values())) if isinstance(times, dict) and times else math.nan,
        evaluation_seconds=_mean_times(record.get("eval_times")),
        params=round(_number(record.get("params")) * 1e6) if "params" in record else math.nan,
        macs=round(_number(record.get("flop")) * 1e6) if "flop" in record else math.nan,
        latency_ms=1000 * _mean(record.get("latency")),
    )
    dropped = 2 * (len(record) + sum(map(len, curves)))
    for curve in curves:
        curve.clear()
        curve.update(DROPPED)
    record.clear()
    record["trial"] = trial
    return dropped
