"""How long networks take, as a limit of a search: measured here, or foretold for another device."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from archduel.commands.search.settings import Settings
from archduel.core import Arch, Scale
from archduel.devices.store import Device, open_device
from archduel.estimators.timing import latency_of

__all__ = ["latency_at", "latency_facts", "latency_limit"]

AGAIN = 2
"""Times that a latency above the limit is measured once more before it is told."""


@lru_cache(8)
def _device(key: str) -> Device:
    """Returns a device; its digest is part of the key, so that this process need not look again."""
    return open_device(key)


def latency_at(settings: Settings, scale: Scale) -> Callable[[Arch], float]:
    """Returns what is held against ``--max-latency-ms``: milliseconds measured here, or the upper bound of what is foretold for ``--device-latency``."""
    if settings.device_latency is None:
        return latency_of(scale, batch_size=settings.latency_batch, device=settings.device)
    device = _device(settings.device_latency)
    return lambda arch: device.latency(arch, scale).high


def latency_limit(settings: Settings) -> Callable[[Arch, Scale], bool] | None:
    """Returns the limit of latency as a function of architecture and scale; None without one."""
    most = settings.max_latency_ms
    if most is None:
        return None
    asked = lru_cache(1_000)(lambda scale: latency_at(settings, scale))

    @lru_cache(10_000)
    def allowed(arch: Arch, scale: Scale) -> bool:
        """Whether a network is fast enough."""
        return asked(scale)(arch) <= most

    return allowed


def latency_facts(settings: Settings, arch: Arch, scale: Scale) -> dict[str, Any]:
    """Returns what is told of the latency of the network that is handed over, one image: measured here, and foretold for another device."""
    measure, most = latency_of(scale, batch_size=1, device=settings.device), settings.max_latency_ms
    measured = measure(arch)
    if most is not None and settings.device_latency is None and settings.latency_batch == 1:
        for _ in range(AGAIN):  # it was within the limit when it entered, and what else the machine does makes times longer, never shorter
            measured = min(measured, measure(arch)) if measured > most else measured
    facts: dict[str, Any] = {"latency_ms": round(measured, 4), **({"latency_limit_ms": most} if most is not None and measured > most else {})}
    if settings.device_latency is not None:
        device = _device(settings.device_latency)
        expected = device.latency(arch, scale)
        facts["device_latency"] = {"device": device.name, **{name: round(value, 4) for name, value in expected._asdict().items()}}
    return facts