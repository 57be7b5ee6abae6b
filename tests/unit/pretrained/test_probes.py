"""Linear probes of frozen features, and the cache that features come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from archduel.core import Scale
from archduel.pretrained import features as features_module
from archduel.pretrained import known as known_module
from archduel.pretrained.features import FEATURES, cached_features, frozen_features, own_features
from archduel.pretrained.prefixes import full, prefix
from archduel.pretrained.probes import logistic_head, ridge_probe
from archduel.spaces.pretrained.backbones import backbone
from archduel.spaces.pretrained.member import Member, build
from archduel.spaces.pretrained.space import Pretrained, arch_of
from archduel.training.images import Pixels


def clusters(n: int, spread: float, seed: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Returns images of three classes whose features lie around three points."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return (5 * np.eye(3, 6)[labels] + spread * rng.normal(size=(n, 6))).astype(np.float16), labels


def test_separate_classes_are_found_and_equal_ones_are_not() -> None:
    for spread, least, most in ((0.5, 1.0, 1.0), (1000.0, 0.2, 0.5)):
        probe = ridge_probe(*clusters(200, spread, 0), *clusters(200, spread, 1), 3)
        assert least <= probe.accuracy <= most
        assert (probe.score > -0.3) == (probe.evidence > -0.3) == (spread == 0.5)
        assert probe.score > -1.4  # nats; certainty that is not there costs more than knowing nothing, log 3


@pytest.mark.parametrize("width", [6, 400])
def test_more_features_than_images_are_not_certain_of_what_they_do_not_know(width: int) -> None:
    """Two classes of three are told apart by nothing: a probe that says so comes to 1/3 log 1 + 2/3 log 1/2, whatever the number of features."""
    rng = np.random.default_rng(0)

    def some(n: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        labels = rng.integers(0, 3, n)
        x = rng.normal(size=(n, width))
        x[:, :4] += 4.0 * (labels == 0)[:, None]
        return x.astype(np.float16), labels

    judged = some(3_000)
    probe = ridge_probe(*some(120), *judged, 3)
    again = ridge_probe(*some(120), judged[0][:30], judged[1][:30], 3)
    assert abs(again.evidence - probe.score) < 0.2  # 30 images judge by themselves, and 120 that were left out
    assert -0.9 < probe.score < -0.45  # -0.46 is all that can be known
    assert 0.55 < probe.accuracy < 0.75


def test_a_head_of_few_images_is_less_certain() -> None:
    x, y = clusters(5_000, 2.5, 0)
    other, answers = clusters(2_000, 2.5, 1)
    for n in (60, 5_000):
        weight, bias = logistic_head(x[:n], y[:n], 3)
        logits = torch.from_numpy(other).float() @ weight.T + bias
        loss = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(answers)))
        assert loss < (0.52 if n == 60 else 0.4)


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


def kept(blocks: int, width: float = 1.0, *, seed: int = 3) -> Member:
    """Returns the beginning of a backbone with drawn weights, looking at images of 32 px at 64 px."""
    plan = prefix("efficientnet_lite0", 64, blocks) if width == 1.0 else full(backbone("efficientnet_lite0"), 64, width)
    assert plan is not None
    network = build(arch_of(plan), Scale(1, 1, 32, 3, 4))
    network.initialise(torch.Generator().manual_seed(seed))
    return network.eval()


def shown(n: int = 12) -> Pixels:
    """Returns images of noise."""
    rng = np.random.default_rng(0)
    return Pixels(rng.integers(0, 256, (n, 3, 32, 32), np.uint8), np.arange(n) % 4, (0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_networks_own_features_are_those_of_the_backbone_that_it_is_a_part_of(precision: str) -> None:
    part, whole = kept(5), kept(9)
    whole.load_state_dict({name: value for name, value in part.state_dict().items() if not name.startswith("head.")}, strict=False)
    theirs = frozen_features(whole, whole.shown, shown(), precision=precision)
    ours = own_features(part, shown(), precision=precision)
    assert sorted(theirs) == list(range(1, 10))
    assert ours.dtype == np.float16
    np.testing.assert_array_equal(ours, theirs[5])
    assert next(part.stem.parameters()).is_contiguous()


def test_features_agree_within_the_error_of_bf16() -> None:
    network = kept(5)
    exact, quick = (own_features(network, shown(), precision=precision).astype(np.float64) for precision in ("fp32", "bf16"))
    error = np.abs(quick - exact)
    assert 0 < error.max() < 16 * 2**-8 * np.abs(exact).max()  # 5 blocks of three layers, each rounded to 8 bits
    assert np.corrcoef(exact.ravel(), quick.ravel())[0, 1] > 0.999


def test_heads_begin_with_features_of_the_precision_in_which_frozen_ones_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(model: Member, images: Pixels, *, precision: str) -> NDArray[np.float16]:
        asked.append(precision)
        return own_features(model, images, precision=precision)

    monkeypatch.setattr(known_module, "own_features", noted)
    network, scale = kept(0, 0.5), Scale(1, 1, 32, 3, 4)
    known = known_module.Known(Pretrained(backbones=["efficientnet_lite0"]), scale, (0.5,) * 3, (0.25,) * 3, lambda *of: True, precision="bf16")
    before = network.head.classifier.weight.clone()
    known._begin(network, full(backbone("efficientnet_lite0"), 64, 0.5), shown())
    assert asked == ["bf16"]
    assert not torch.equal(before, network.head.classifier.weight)
