"""Which way of computing a convolution is fastest here: measured once a shape, forward and backward together."""

from __future__ import annotations

import time

import torch

from archduel.nets.fusing.convs import ConvSpec, Way
from archduel.nets.fusing.convs_small import WAYS, suitable
from archduel.nets.fusing.memory import Buffers

__all__ = ["choices", "fastest"]

REPEATS = 3
_measured: dict[tuple[object, ...], str] = {}


def choices() -> dict[tuple[object, ...], str]:
    """Returns what was measured so far in this process: (shape, networks, batch, threads, device, type) -> way."""
    return dict(_measured)


def fastest(spec: ConvSpec, n: int, batch: int, buffers: Buffers, *, needs_input: bool) -> Way:
    """Returns the fastest way to compute ``n`` convolutions like ``spec`` and their gradients.

    Numbers of networks and batch sizes are taken in powers of two, so that few are measured.

    Args:
        spec: the shape.
        n: networks at once.
        batch: images.
        buffers: gives device and type.
        needs_input: whether the gradient of the maps is needed (not for the image).
    """
    names = suitable(spec)
    if len(names) == 1:
        return WAYS[names[0]]
    n, batch = 1 << (n - 1).bit_length(), 1 << (batch - 1).bit_length()
    device, dtype = buffers.device, buffers.dtype
    key = (spec, n, batch, torch.get_num_threads(), str(device), dtype, needs_input)
    if key not in _measured:
        scratch = Buffers(device, dtype)
        seconds = {name: _seconds(WAYS[name], spec, n, batch, scratch, needs_input) for name in names}
        _measured[key] = min(seconds, key=lambda name: seconds[name])
    return WAYS[_measured[key]]


def _seconds(way: Way, spec: ConvSpec, n: int, batch: int, buffers: Buffers, needs_input: bool) -> float:
    """Returns the shortest of a few times of one pass forward and backward."""
    x = buffers.take("x", (n, spec.c_in, *spec.size, batch)).normal_(generator=_generator(buffers))
    y = buffers.take("y", (n, spec.c_out, *spec.out, batch))
    w = buffers.take("w", (n, spec.c_out, 1 if spec.depthwise else spec.c_in, *spec.kernel)).normal_(
        generator=_generator(buffers)
    )
    gw, gx = torch.empty_like(w), torch.empty_like(x) if needs_input else None
    best = float("inf")
    for _ in range(1 + REPEATS):
        _wait(buffers)
        began = time.perf_counter()
        way.forward(x, w, spec, buffers, y)
        way.backward(y, x, w, spec, buffers, gw, gx)
        _wait(buffers)
        best = min(best, time.perf_counter() - began)
    return best


def _generator(buffers: Buffers) -> torch.Generator:
    return torch.Generator(buffers.device).manual_seed(0)


def _wait(buffers: Buffers) -> None:
    if buffers.device.type == "cuda":
        torch.cuda.synchronize(buffers.device)
