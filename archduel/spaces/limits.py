"""Limits: which architectures are small and fast enough, decided before anything is trained."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from archduel.core import Arch, Constraint, Counts, Scale, Space, sample
from archduel.errors import InfeasibleError
from archduel.spaces.memory import footprint

__all__ = ["DeviceLimit", "Limits", "constraint_for", "sizes"]


def median_arch(sizes: Sequence[tuple[Arch, Any]]) -> Arch:
    """Returns the architecture whose multiply-adds are nearest to the median."""
    middle = statistics.median(counts.macs for _, counts in sizes)
    return min(sizes, key=lambda pair: abs(pair[1].macs - middle))[0]


@dataclass(frozen=True)
class DeviceLimit:
    """What a device has for a network: called with an architecture and a scale it says whether that is enough.

    Attributes:
        max_ram: bytes for activations, None = no limit.
        max_flash: bytes for the network's file, None = no limit.
        int8: whether weights and activations have one byte a number there, else four.
    """

    max_ram: int | None = None
    max_flash: int | None = None
    int8: bool = False

    def __bool__(self) -> bool:
        return self.max_ram is not None or self.max_flash is not None

    def __call__(self, arch: Arch, scale: Scale) -> bool:
        """Whether a network fits."""
        from archduel.spaces.family import count

        if not self:
            return True
        # closed forms first: most networks that are too large are so by far, and a footprint takes some 30 ms
        if self.max_flash is not None and count(arch, scale).params * (1 if self.int8 else 4) > self.max_flash:
            return False
        need = footprint(arch, scale, int8=self.int8)
        return (self.max_ram is None or need.ram <= self.max_ram) and (self.max_flash is None or need.flash <= self.max_flash)


class Limits:
    """The limits of a run and what an architecture needs at the final scale.

    ``device`` says what RAM and flash there is, and is asked only for architectures that satisfy the closed-form limits; ``latency``
    measures the built network on the run's device in milliseconds, and is asked last. ``resized``: whether each architecture gets images
    at the size at which it sees them (:func:`archduel.spaces.family.seen_scale`).
    """

    def __init__(
        self,
        scale: Scale,
        *,
        max_params: int | None = None,
        max_macs: int | None = None,
        device: DeviceLimit = DeviceLimit(),
        max_latency_ms: float | None = None,
        latency: Callable[[Arch], float] | None = None,
        resized: bool = False,
    ) -> None:
        from archduel.spaces.family import count

        self.scale = scale
        self.max_params, self.max_macs, self.max_latency_ms = max_params, max_macs, max_latency_ms
        self.counts: Callable[[Arch], Counts] = lru_cache(maxsize=100_000)(lambda arch: count(arch, scale))
        self.device, self.resized = device, resized
        self.latency = lru_cache(maxsize=10_000)(latency) if latency is not None else None

    def __bool__(self) -> bool:
        return bool(self.device) or any(limit is not None for limit in (self.max_params, self.max_macs, self.max_latency_ms))

    def scale_for(self, arch: Arch) -> Scale:
        """Returns the scale at which an architecture is built."""
        from archduel.spaces.family import seen_scale

        return seen_scale(arch, self.scale) if self.resized else self.scale

    @property
    def slow(self) -> bool:
        """Whether a question takes more than a closed form."""
        return bool(self.device) or self.max_latency_ms is not None

    def __call__(self, arch: Arch) -> bool:
        """Whether ``arch`` is within all limits."""
        counts = self.counts(arch)
        if self.max_params is not None and counts.params > self.max_params:
            return False
        if self.max_macs is not None and counts.macs > self.max_macs:
            return False
        if not self.device(arch, self.scale_for(arch)):
            return False
        if self.max_latency_ms is not None and self.latency is not None:
            return self.latency(arch) <= self.max_latency_ms
        return True


def sizes(space: Space, limits: Limits, rng: np.random.Generator, n: int = 300) -> list[tuple[Arch, Counts]]:
    """Returns ``n`` random architectures with their counts, ascending by parameters."""
    archs = [sample(space, rng) for _ in range(n)]
    return sorted(((arch, limits.counts(arch)) for arch in archs), key=lambda pair: pair[1])


def constraint_for(
    space: Space, limits: Limits, rng: np.random.Generator, *, advice: str = ", or set plan.channels / plan.depth lower"
) -> Constraint | None:
    """Returns the limits as a constraint, or None where there are none.

    Args:
        space: of the architectures.
        limits: of the run.
        rng: of the architectures that are tried.
        advice: what an error says could be done besides raising the limit.

    Raises:
        InfeasibleError: if no architecture satisfies them; says what the smallest one needs.
    """
    if not limits:
        return None
    try:
        # Each try of a latency or RAM limit takes long: the smallest networks decide, not thousands of random ones.
        tries = 20 if limits.slow else 2_000
        sample(space, rng, limits, tries=tries)
    except InfeasibleError as error:
        drawn = sizes(space, limits, rng, 1_000)
        if limits.slow and any(limits(arch) for arch, _ in drawn[:10]):
            return limits
        raise InfeasibleError(_refusal(space, limits, drawn) + advice) from error
    return limits


def _refusal(space: Space, limits: Limits, drawn: Sequence[tuple[Arch, Counts]]) -> str:
    """Returns what is asked for, and what the smallest of ``drawn`` needs."""
    smallest, counts = drawn[0]
    some = "hardly any" if not limits.slow and any(limits(arch) for arch, _ in drawn) else "no"
    needs = f"{counts.params:,} parameters, {min(counts.macs for _, counts in drawn):,} multiply-adds"
    if limits.max_latency_ms is not None and limits.latency is not None:
        needs += f", {limits.latency(smallest):.2f} ms"
    if limits.device:
        need = min((footprint(arch, limits.scale_for(arch), int8=limits.device.int8) for arch, _ in drawn[:10]), key=lambda need: (need.ram, need.flash))
        needs += f", {need.ram:,} bytes of RAM and {need.flash:,} bytes of flash in {'int8' if limits.device.int8 else 'float32'}"
    values = {
        "--max-params": limits.max_params, "--max-macs": limits.max_macs, "--max-latency-ms": limits.max_latency_ms,
        "--max-ram": limits.device.max_ram, "--max-flash": limits.device.max_flash,
    }  # fmt: skip
    asked = ", ".join(f"{name} {value:,}" for name, value in values.items() if value is not None)
    bytes_ = replace(limits.device, int8=True)
    helps = limits.device and not limits.device.int8 and any(bytes_(arch, limits.scale_for(arch)) for arch, _ in drawn[:10])
    hint = ", or ask for one byte a number with --int8" if helps else ""
    return (
        f"{some} {space.name} network is within {asked}: the smallest of {len(drawn):,} random ones at {limits.scale.channels} "
        f"channels, depth {limits.scale.depth} and {limits.scale.image_size} px needs {needs}; raise the limit{hint}"
    )
