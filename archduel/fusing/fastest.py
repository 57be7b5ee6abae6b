"""Which way of computing a convolution is fastest here: measured once a shape, forward and backward each by itself.

What wins depends on the shape, the number of networks, the batch and the machine (docs/fused.md says what won where), so that it is
tried rather than guessed; a measurement serves all groups of a process.
"""

from __future__ import annotations

import time

import torch

from archduel.fusing.convolutions import ConvSpec, Way
from archduel.fusing.memory import Buffers
from archduel.fusing.small_convolutions import WAYS, suitable

__all__ = ["choices", "fastest", "now"]

# The shortest of a few times is the one that others disturbed least; one more goes first and is thrown away, as it finds memory to
# allocate and caches cold.
REPEATS = 3

# The clock of processor time ticks 64 times a second on some systems, which is too coarse for a pass.
FINE = time.get_clock_info("process_time").resolution <= 1e-6

_measured: dict[tuple[object, ...], tuple[str, str]] = {}


def choices() -> dict[tuple[object, ...], tuple[str, str]]:
    """Returns what was measured so far in this process.

    Returns:
        (shape, networks, batch, threads, device, type, whether maps need a gradient) -> the ways forward and backward.
    """
    return dict(_measured)


def fastest(spec: ConvSpec, n: int, batch: int, buffers: Buffers, *, needs_input: bool) -> tuple[Way, Way]:
    """Returns the fastest way to compute ``n`` convolutions like ``spec``, and the fastest to compute their gradients.

    Numbers of networks and batch sizes are taken in powers of two, so that few are measured.

    Args:
        n: networks at once.
        batch: images.
        buffers: gives device and type.
        needs_input: whether the gradient of the maps is needed (not for the image).
    """
    names = suitable(spec)
    if len(names) == 1:
        return WAYS[names[0]], WAYS[names[0]]
    n, batch = 1 << (n - 1).bit_length(), 1 << (batch - 1).bit_length()
    device, dtype = buffers.device, buffers.dtype
    key = (spec, n, batch, torch.get_num_threads(), str(device), dtype, needs_input)
    if key not in _measured:
        # memory of its own, so that what is tried here does not stay with the networks
        scratch = Buffers(device, dtype)
        seconds = {name: _seconds(WAYS[name], spec, n, batch, scratch, needs_input) for name in names}
        forward, backward = (min(names, key=lambda name: seconds[name][part]) for part in (0, 1))
        _measured[key] = forward, backward
    forward, backward = _measured[key]
    return WAYS[forward], WAYS[backward]


def _seconds(
    way: Way, spec: ConvSpec, n: int, batch: int, buffers: Buffers, needs_input: bool
) -> tuple[float, float]:
    """Returns the shortest of a few times of a pass forward and of one backward."""
    # numbers of a usual size, not whatever the memory holds: denormal numbers are multiplied far more slowly on CPUs
    x = buffers.take("x", (n, spec.c_in, *spec.size, batch)).normal_(generator=_generator(buffers))
    y = buffers.take("y", (n, spec.c_out, *spec.out, batch))
    w = buffers.take("w", (n, spec.c_out, 1 if spec.depthwise else spec.c_in, *spec.kernel)).normal_(
        generator=_generator(buffers)
    )
    gw, gx = torch.empty_like(w), torch.empty_like(x) if needs_input else None
    times = []
    for _ in range(1 + REPEATS):
        marks = [now(buffers.device)]
        way.forward(x, w, spec, buffers, y)
        marks.append(now(buffers.device))
        way.backward(y, x, w, spec, buffers, gw, gx)
        marks.append(now(buffers.device))
        times.append((marks[1] - marks[0], marks[2] - marks[1]))
    return min(forward for forward, _ in times), min(backward for _, backward in times)


def _generator(buffers: Buffers) -> torch.Generator:
    return torch.Generator(buffers.device).manual_seed(0)


def now(device: torch.device) -> float:
    """Returns the seconds of a clock, once all that was asked of ``device`` is done.

    One thread of a CPU is measured by the processor time of this process, which others on a busy machine do not change.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (
        time.process_time()
        if FINE and device.type == "cpu" and torch.get_num_threads() == 1
        else time.perf_counter()
    )
