"""What this machine's device does: measured latencies as a limit."""

from __future__ import annotations

from collections.abc import Callable

from archduel.core import Arch, Scale

__all__ = ["latency_of"]


def latency_of(scale: Scale, *, batch_size: int, device: str) -> Callable[[Arch], float]:
    """Returns a function that builds an architecture and measures the median milliseconds of a batch, one thread."""

    def measure(arch: Arch) -> float:
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
