"""A search with `--device-latency`: the limit is on the upper bound, settings name the measurements, what came out is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archduel.commands.search.latency import latency_at, latency_facts, latency_limit
from archduel.commands.search.settings import make_settings
from archduel.commands.search.words import latency_words
from archduel.core import Arch, Scale, sample
from archduel.core.disk import write_atomic
from archduel.devices import open_device
from archduel.devices.measurements import Kit, KitNetwork, Measured
from archduel.devices.store import Device
from archduel.errors import SettingError, UnknownNameError
from archduel.spaces.family import count, family

SCALE = Scale(16, 1, 32, 3, 10)


@pytest.fixture(autouse=True)
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """Returns a device on which a million multiply-adds take about a millisecond."""
    monkeypatch.setenv("ARCHDUEL_DEVICES", str(tmp_path))
    rng, space = np.random.default_rng(0), family("stages")()
    archs = [sample(space, rng) for _ in range(12)]
    entries = tuple(
        KitNetwork(f"n{i}", "0", str(arch), {"channels": int(rng.choice([8, 16, 32])), "depth": 1, "image_size": 32, "in_channels": 3, "n_classes": 10})
        for i, arch in enumerate(archs)
    )
    rows = {entry.network: (1 + count(*entry.built).macs / 1e6) * float(np.exp(0.05 * rng.normal())) for entry in entries}
    made = Device("pi4", Kit("0" * 12, entries), Measured(rows, {}, {}, ()))
    write_atomic(tmp_path / "pi4.device.json", json.dumps(made.record()).encode())
    return made


def test_settings_name_device_and_measurements(device: Device) -> None:
    settings = make_settings(data="digits", device_latency="pi4", max_latency_ms=5.0)
    assert settings.device_latency == device.key == open_device(str(settings.device_latency)).key
    assert make_settings(data="digits", device_latency=device.key).device_latency == device.key
    with pytest.raises(UnknownNameError, match="archduel device list"):
        make_settings(data="digits", device_latency="pi5")
    with pytest.raises(SettingError, match="no name for a device"):
        make_settings(data="digits", device_latency="../x")


def test_a_run_without_a_device_is_named_as_before() -> None:
    assert "device_latency" not in make_settings(data="digits").identity()


def test_the_limit_is_on_the_upper_bound(device: Device) -> None:
    arch = sample(family("stages")(), np.random.default_rng(5))
    found = device.latency(arch, SCALE)
    assert latency_at(make_settings(data="digits", device_latency="pi4"), SCALE)(arch) == pytest.approx(found.high)
    for most, allowed in ((found.high * 1.001, True), (found.high * 0.999, False), (found.ms, False)):
        limit = latency_limit(make_settings(data="digits", device_latency="pi4", max_latency_ms=most))
        assert limit is not None
        assert limit(arch, SCALE) is allowed
    assert latency_limit(make_settings(data="digits", device_latency="pi4")) is None


def test_what_is_said_of_the_network() -> None:
    here = {"latency_ms": 0.51}
    assert latency_words({}) == ""
    assert latency_words(here) == ", 0.51 ms an image"
    assert latency_words({**here, "latency_limit_ms": 0.5}) == ", 0.51 ms an image (within 0.5 ms when it entered, slower when measured again)"
    there = {**here, "device_latency": {"device": "pi4", "ms": 4.2, "low": 3.1, "high": 5.9}}
    assert latency_words(there) == ", 0.51 ms an image here, about 4.2 ms on pi4 (3.1 to 5.9)"


@pytest.mark.parametrize(
    ("measured", "told"),
    [([0.6, 0.55, 0.4], {"latency_ms": 0.4}), ([0.6, 0.55, 0.7], {"latency_ms": 0.55, "latency_limit_ms": 0.5}), ([0.3], {"latency_ms": 0.3})],
)
def test_a_latency_above_its_limit_is_measured_again_before_it_is_told(measured: list[float], told: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(measured)
    monkeypatch.setattr("archduel.commands.search.latency.latency_of", lambda *of, **how: lambda arch: next(times))
    settings = make_settings(data="digits", seconds=60.0, max_latency_ms=0.5)
    assert latency_facts(settings, Arch("stages", (0,)), Scale(4, 1, 8, 1, 10)) == told
    assert next(times, None) is None
