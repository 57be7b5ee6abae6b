"""Linear probes of frozen features, and the cache that features come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from archduel.pretrained import features as features_module
from archduel.pretrained.features import FEATURES, cached_features
from archduel.pretrained.probes import logistic_head, ridge_probe


def clusters(n: int, spread: float, seed: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Returns images of three classes whose features lie around three points."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return (5 * np.eye(3, 6)[labels] + spread * rng.normal(size=(n, 6))).astype(np.float16), labels


def test_separate_classes_are_found_and_equal_ones_are_not() -> None:
    for spread, least, most in ((0.5, 1.0, 1.0), (1000.0, 0.2, 0.5)):
        probe = ridge_probe(*clusters(200, spread, 0), *clusters(200, spread, 1), 3)
        assert least <= probe.accuracy <= most
        assert (probe.score > -0.3) == (spread == 0.5)
        assert probe.score > -1.4  # nats; certainty that is not there costs more than knowing nothing, log 3


def test_a_head_is_right_on_raw_features() -> None:
    x, y = clusters(200, 0.5, 0)
    weight, bias = logistic_head(x, y, 3)
    logits = torch.from_numpy(x).float() @ weight.T + bias
    assert (logits.argmax(1).numpy() == y).mean() == 1.0
    assert weight.shape == (3, 6)


def test_constant_features_and_absent_classes_break_nothing() -> None:
    x, y = clusters(60, 0.5, 0)
    x[:, 4] = 7.0
    probe = ridge_probe(x, y, x, y, 5)
    weight, bias = logistic_head(x, y, 5)
    assert probe.accuracy == 1.0
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()


def made(calls: list[int]) -> Mapping[int, NDArray[np.float16]]:
    calls.append(1)
    return {1: np.ones((4, 2), np.float16), 2: np.zeros((4, 3), np.float16)}


def test_features_are_made_once(tmp_path: Path) -> None:
    calls: list[int] = []
    for _ in range(2):
        got = cached_features(("images", "weights", 64, "fp32"), lambda: made(calls), cache=tmp_path)
        assert got is not None
        assert {number: part.shape for number, part in got.items()} == {1: (4, 2), 2: (4, 3)}
    cached_features(("images", "weights", 96, "fp32"), lambda: made(calls), cache=tmp_path)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nonsense", b"x" * 100])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: bytes) -> None:
    calls: list[int] = []
    key = ("images", "weights", 64, "fp32")
    cached_features(key, lambda: made(calls), cache=tmp_path)
    (path,) = (tmp_path / FEATURES).glob("*.npz")
    path.write_bytes(damage)
    cached_features(key, lambda: made(calls), cache=tmp_path)
    assert len(calls) == 2


def test_the_cache_is_bounded_and_does_without_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_module, "MOST_BYTES", 1000)
    for side in (32, 48, 64, 96):
        cached_features(("images", "weights", side, "fp32"), lambda: made([]), cache=tmp_path)
    assert sum(path.stat().st_size for path in (tmp_path / FEATURES).glob("*.npz")) <= 1000
    (tmp_path / "file").write_text("no folder")
    assert cached_features(("a", "b", 1, "c"), lambda: made([]), cache=tmp_path / "file") is not None
    assert cached_features(("a", "b", 2, "c"), lambda: None, cache=tmp_path) is None
