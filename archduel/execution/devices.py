"""Which process of a machine computes on which of its devices: in turn, one device each."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ALL", "VISIBLE", "device_environments"]

ALL = "cuda"
"""The device that means all of them: each process takes one. ``cuda:1`` is one device for all processes."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""From this variable CUDA and ROCm learn, before they begin, which devices there are for a process; its ``cuda`` is the first of them."""


def device_environments(device: str, count: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """Returns what the processes of a run find in their environment, one entry a device; the process of place ``i`` takes entry ``i`` modulo their number.

    A process that is shown one device alone puts nothing on the others by accident, and needs no number for its own.

    Args:
        device: of the run.
        count: devices that torch sees here.
        environment: of this process, in which somebody (a batch system) may have chosen devices already.
    """
    if device != ALL or count < 2:
        return [{}]
    chosen = [name.strip() for name in environment.get(VISIBLE, "").split(",") if name.strip()]
    # fewer names than devices: whoever set them knows something else; then they are left alone
    if chosen and len(chosen) < count:
        return [{}]
    return [{VISIBLE: name} for name in (chosen or map(str, range(count)))][:count]
