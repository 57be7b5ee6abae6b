"""Readings of a training: by hand, ordered as the losses, nan where there is nothing to read."""

from __future__ import annotations

import math

import pytest

from archduel.core import Cost, Estimate
from archduel.errors import UnknownNameError
from archduel.proxies.agreement import READINGS, reading, readings, sizes

LOSSES = (2.0, 1.5, 1.0, 0.9, 0.8, 0.7, 0.6, 0.4)
TRAINED = Estimate(0.8, Cost(), {"val_loss": 0.5, "history": [{"train_loss": loss} for loss in LOSSES]})


def test_readings_by_hand() -> None:
    assert reading(TRAINED, "score") == 0.8
    assert reading(TRAINED, "val_loss") == pytest.approx(math.exp(-0.5))
    assert reading(TRAINED, "train_loss") == pytest.approx(math.exp(-0.4))
    assert reading(TRAINED, "late_losses") == pytest.approx(math.exp(-0.5))
    assert reading(TRAINED, "all_losses") == pytest.approx(math.exp(-sum(LOSSES) / 8))


def test_failed_trainings_and_missing_losses_are_nan() -> None:
    for name in READINGS:
        assert math.isnan(reading(Estimate(math.nan, reason="out of memory"), name))
    assert [math.isnan(reading(Estimate(0.5), name)) for name in READINGS] == [False, True, True, True, True]
    assert readings([TRAINED, Estimate(0.5)], "score") == [0.8, 0.5]
    with pytest.raises(UnknownNameError, match="train_loss"):
        reading(TRAINED, "training_loss")


def test_sizes_are_known_without_training() -> None:
    known = Estimate(math.nan, Cost(), {"params": 10, "macs": 20}, "failed")
    assert sizes([known, known], "macs") == [20, 20]
    assert math.isnan(sizes([Estimate(0.5)], "params")[0])
