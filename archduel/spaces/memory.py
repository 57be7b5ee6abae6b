"""RAM and flash of a network on a small device, before it is trained: peak of its activations, and bytes of what is stored.

A network is run once on the meta device, which computes shapes and no numbers, and every operation is written down. What runtimes
for small devices do to such a list is done to it: batch norms go into the convolution before them, so do ReLUs, views are free. Then each
tensor lives from the operation that makes it to the last one that reads it, the input included, and a planner places them in one block
as the runtimes' planner does: the largest first, each in the lowest gap.

Flash is what a LiteRT file of the network needs: weights, biases, scales of the output channels, and an overhead an operation and a file
that was measured (``benchmarks/records/footprint_litert.json``). The runtime's own code is not in it, nor are its buffers for single operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from archduel.core import Arch, Scale
from archduel.core.family import target
from archduel.spaces.family import build, family

if TYPE_CHECKING:
    from torch import nn

    from archduel.spaces.tracing import Trace

__all__ = ["Footprint", "footprint", "network_footprint", "planned_peak", "traced_footprint"]

ALIGNMENT = 16
"""Bytes to which each tensor's place is rounded up, as in TensorFlow Lite Micro."""
SCALE_BYTES = 24
"""Of an output channel in int8: scale (4 bytes) and zero point (8) of its weights, and of its bias."""
BIAS_BYTES = 4  # of 32 bits also where weights have 8
FILE_OVERHEAD, OPERATION_OVERHEAD = 1024, 256
"""Bytes of a network's file that are no numbers: shapes, options, quantisation of the maps; names were stripped, which are as much again and more."""


class Footprint(NamedTuple):
    """What a network needs on a device, in bytes, at batch 1.

    Attributes:
        ram: peak of its activations, input and output included.
        flash: its file: weights, biases, scales and the file's own overhead.
    """

    ram: int
    flash: int


def footprint(arch: Arch, scale: Scale, *, int8: bool = False) -> Footprint:
    """Returns RAM and flash of an architecture's network in bytes, at batch 1, without training it.

    Args:
        arch: of any space with a network.
        scale: width, depth, input and classes.
        int8: whether weights and activations have one byte a number, else four.

    Raises:
        UnknownNameError: for a space without a network.
        InvalidArchError: for an architecture that its space does not hold.
        SettingError: for images too small for the network, or a person's own one that cannot be run on its input.
    """
    # a person's own class may be written anew under its name, in a notebook
    both = _both(arch, scale) if family(arch.space).own_weights else _remembered(arch, scale)
    return both[int8]


def _both(arch: Arch, scale: Scale) -> tuple[Footprint, Footprint]:
    """Returns the footprints in float32 and in int8."""
    from archduel.spaces.tracing import trace

    says = family(arch.space).example
    example = target(says)(scale) if says is not None else None
    images = (scale.in_channels, scale.image_size, scale.image_size)
    found = trace(_untrained(arch, scale), images if example is None else example)
    return traced_footprint(found, int8=False), traced_footprint(found, int8=True)


_remembered = lru_cache(maxsize=50_000)(_both)


def _untrained(arch: Arch, scale: Scale) -> nn.Module:
    """Returns the network without numbers where that can be; one that draws its own weights is built, and nobody's randomness moves."""
    import torch

    if family(arch.space).own_weights:
        with torch.random.fork_rng(devices=[]):
            return build(arch, scale)
    with torch.device("meta"):
        return build(arch, scale)


def network_footprint(network: nn.Module, shape: Sequence[int], *, int8: bool = False) -> Footprint:
    """Returns RAM and flash of any network in bytes, at batch 1.

    Args:
        network: takes a batch of one such input, such as (1, C, H, W); it is run once, its weights are not looked at and its mode stays.
        shape: of an input without the batch, (C, H, W) of an image.
        int8: whether weights and activations have one byte a number, else four.

    Raises:
        SettingError: if the network cannot be run on such an input.
    """
    from archduel.spaces.tracing import trace

    return traced_footprint(trace(network, shape), int8=int8)


def traced_footprint(traced: Trace, *, int8: bool) -> Footprint:
    """Returns RAM and flash in bytes of what a network does, with one byte a number, or four."""
    width = 1 if int8 else 4
    matrices, vectors, channels = (sum(operation.stored[i] for operation in traced.operations) for i in range(3))
    overhead = FILE_OVERHEAD + OPERATION_OVERHEAD * len(traced.operations)
    flash = matrices * width + vectors * BIAS_BYTES + (channels * SCALE_BYTES if int8 else 0) + overhead
    return Footprint(planned_peak(traced, width), flash)


# -- Where each activation lies -----------------------------------------------------------------------------------------


def planned_peak(traced: Trace, width: int, *, litert: bool = True) -> int:
    """Returns the bytes of the block that holds all activations at the time when they are needed.

    Largest first, each in the lowest gap between those that live at the same time.

    Source: the greedy planner of TensorFlow Lite Micro (Pisarchyk and Lee, arXiv 2001.03288, "greedy by size").

    Args:
        traced: the operations.
        width: bytes of a number.
        litert: whether of maps of one size the one made last is placed first, as TensorFlow Lite Micro does; else the one made first.
    """
    lives = _lives(traced)
    sizes = {number: -(-traced.elements[number] * width // ALIGNMENT) * ALIGNMENT for number in lives}
    placed: list[tuple[int, int, int, int]] = []  # first and last operation, begin and end in bytes
    # TensorFlow Lite Micro fills its list of sizes from the tail, and sorts that stably
    for number in sorted(lives, key=lambda number: (-sizes[number], -number if litert else number)):
        first, last = lives[number]
        beside = sorted((begin, end) for begins, ends, begin, end in placed if begins <= last and ends >= first)
        place = _lowest_gap(beside, sizes[number])
        placed.append((first, last, place, place + sizes[number]))
    return max((end for *_, end in placed), default=0)


def _lives(traced: Trace) -> dict[int, tuple[int, int]]:
    """Returns for each activation the first and the last operation at which it is in memory."""
    found = {0: (0, 0)}
    for place, operation in enumerate(traced.operations):
        for number in (*operation.inputs, *operation.outputs):
            found[number] = (found.get(number, (place, place))[0], place)
    return found


def _lowest_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Returns the lowest place for ``size`` bytes beside those that are taken (ascending)."""
    place = 0
    for begin, end in taken:
        if begin - place >= size:
            return place
        place = max(place, end)
    return place
