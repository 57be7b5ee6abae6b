"""What this machine's device does: measured latencies as a limit."""

from __future__ import annotations

from collections.abc import Callable

from archduel.core import Arch, Scale
from archduel.errors import SettingError

__all__ = ["check_device", "latency_of"]


def check_device(device: str) -> None:
    """Raises SettingError unless torch can compute on ``device`` here."""
    import torch

    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # what torch raises for a missing device
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise SettingError(f"--device {device}: torch cannot use it; here it has {', '.join(there)}") from error


def latency_of(scale: Scale, *, batch_size: int, device: str) -> Callable[[Arch], float]:
    """Returns a function that builds an architecture and measures the median milliseconds of a batch, one thread."""

    def measure(arch: Arch) -> float:
        """Returns the median milliseconds of a batch, on one thread."""
        import torch

        from archduel.estimators.latency import latency_ms
        from archduel.nets import build

        before = torch.get_num_threads()
        torch.set_num_threads(1)  # as a deployed small network usually runs, and repeatable
        try:
            return latency_ms(build(arch, scale), scale, batch_size=batch_size, device=device, seconds=0.2).median
        finally:
            torch.set_num_threads(before)

    return measure
