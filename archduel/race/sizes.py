"""How large a network is built from an architecture: the widths and depths whose cost is near what the time supports."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np

from archduel.core import Arch, Counts, Scale, Space
from archduel.errors import InfeasibleError
from archduel.spaces.family import family, seen_scale

__all__ = ["CHANNELS", "Bounds", "Option", "Sizes", "depths", "fitting_scale", "nearest_allowed", "sides_of", "standard_ladder", "widths"]

CHANNELS = (4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128)
"""Widths at which networks are built."""


def depths(space: Space) -> tuple[int, ...]:
    """Returns the three smallest depths at which networks of ``space`` are usually built."""
    return tuple(sorted({depth for _, depth in (family(space.name).ladder or ((16, 1), (16, 2), (16, 3)))})[:3])


def sides_of(space: str, own: int, smaller: Sequence[int]) -> tuple[int, ...]:
    """Returns the sides in pixels at which the networks of a space may see the images, their own first.

    There is one where the architecture says it, and where the networks are a person's own, whose layers may be made for that side.

    Args:
        space: its name.
        own: side of the images, or what the architecture says.
        smaller: further sides that RAM asks for.
    """
    around = family(space)
    return (own,) if around.side is not None or around.own_weights else (own, *smaller)


def widths(space: Space) -> tuple[int, ...]:
    """Returns the widths at which networks of ``space`` are built; one that means nothing for a person's own, which say theirs."""
    around = family(space.name)
    return (around.scale.channels,) if around.own_weights and around.own_size else CHANNELS


@dataclass(frozen=True)
class Bounds:
    """What a network may cost at most; None = no limit."""

    max_params: int | None = None
    max_macs: int | None = None

    def allow(self, counts: Counts) -> bool:
        """Whether a network is within the limits."""
        return (self.max_params is None or counts.params <= self.max_params) and (
            self.max_macs is None or counts.macs <= self.max_macs
        )


    def and_also(self, further: Callable[[Arch, Scale], bool] | None) -> Allowed:
        """Returns these limits and a further one, such as of latency, which is asked only within them; None = no further one."""
        return lambda arch, scale, counts: self.allow(counts) and (further is None or further(arch, scale))


Allowed = Callable[[Arch, Scale, Counts], bool]
"""Whether a network is within all limits, measured ones such as latency included."""


@dataclass(frozen=True)
class Sizes:
    """The inputs and outputs that all networks of a race share, and the limits of all.

    Attributes:
        image_size: in pixels.
        in_channels: 1 or 3.
        n_classes: outputs.
        count: closed-form costs of an architecture at a scale.
        allowed: the limits.
        depths: the depths at which the space's networks are built; at equal cost wide and shallow ones learn faster on a CPU.
        smaller: further sides in pixels at which networks may see the images, where RAM is limited.
        channels: the widths, ascending; a single width and depth where architectures have a size of their own.
    """

    image_size: int
    in_channels: int
    n_classes: int
    count: Callable[[Arch, Scale], Counts]
    allowed: Allowed
    depths: tuple[int, ...] = (1, 2, 3)
    channels: tuple[int, ...] = CHANNELS
    smaller: tuple[int, ...] = ()

    def of(self, space: Space) -> Sizes:
        """Returns the sizes at which the networks of another space are built: one that means nothing where they say their own."""
        around = family(space.name)
        if around.own_size and not around.own_weights:
            return replace(self, depths=(1,), channels=(16,))
        return replace(self, depths=depths(space), channels=widths(space))

    def scale(self, channels: int, depth: int, side: int | None = None) -> Scale:
        """Returns a scale of this width and depth, at a smaller side where one is given."""
        return Scale(channels, depth, side or self.image_size, self.in_channels, self.n_classes)

    def sides(self, arch: Arch) -> tuple[int, ...]:
        """Returns the sides in pixels at which a network may see the images, its own first."""
        return sides_of(arch.space, seen_scale(arch, self.scale(1, 1)).image_size, self.smaller)


class Option(NamedTuple):
    """A network at a size.

    Attributes:
        distance: from the multiply-adds that are wanted, in logarithms.
        arch: the architecture.
        scale: the size.
        counts: what it costs.
    """

    distance: float
    arch: Arch
    scale: Scale
    counts: Counts


def nearest_allowed(options: Sequence[Option], allowed: Allowed) -> Option | None:
    """Returns the nearest option within the limits, of networks that differ in width alone; None if none is.

    Few are asked for, for one may be built and timed to answer: with a limit of latency a race of a minute began with 20 s of that. Wider ones need
    more of everything, so where the nearest is too large the widest of the narrower ones that are not is next, and found by bisection.
    """
    if not options:
        return None
    rising = sorted(options, key=lambda option: option.counts.macs)
    place = min(range(len(rising)), key=lambda i: (rising[i].distance, i))

    def within(i: int) -> bool:
        return allowed(rising[i].arch, rising[i].scale, rising[i].counts)

    if not within(place):
        place = bisect.bisect_left(range(place), True, key=lambda i: not within(i)) - 1
    return rising[place] if place >= 0 else None


def fitting_scale(arch: Arch, macs: float, sizes: Sizes, rng: np.random.Generator) -> tuple[Scale, Counts] | None:
    """Returns the scale at which ``arch`` makes about ``macs`` multiply-adds, the largest allowed one below where that is too large.

    Of the sides and depths that come equally near (within a factor of 1.6 in cost) the largest side is taken, for what is not seen cannot be
    learned (the same network came to 45 % at 16 px and to 65 % at 32 px in equal time), and ``rng`` chooses the depth. None if no scale is allowed.
    """
    nearest: list[Option] = []
    for side, depth in product(sizes.sides(arch), sizes.depths):
        options: list[Option] = []
        for channels in sizes.channels:
            scale = sizes.scale(channels, depth, side)
            counts = sizes.count(arch, scale)
            if options and counts.macs > 4 * macs:
                break  # costs rise with the width: all that follow are further away
            options.append(Option(abs(math.log(max(counts.macs, 1) / macs)), arch, scale, counts))
        if (option := nearest_allowed(options, sizes.allowed)) is not None:
            nearest.append(option)
    if not nearest:
        return None
    best = min(option.distance for option in nearest)
    near = [option for option in nearest if option.distance <= best + math.log(1.6)]
    side = max(option.scale.image_size for option in near)
    near = [option for option in near if option.scale.image_size == side]
    chosen = near[int(rng.integers(len(near)))]
    return chosen.scale, chosen.counts


def standard_ladder(
    named: Sequence[Arch], macs: float, sizes: Sizes, blocks: Callable[[Arch], int]
) -> list[tuple[Arch, Scale, Counts]]:
    """Returns for each number of blocks the standard network that is nearest to ``macs`` within the limits, shallow ones first.

    Args:
        named: the networks of every depth and width.
        macs: multiply-adds that the time supports.
        sizes: input, output and limits.
        blocks: the depth of one of them.

    Raises:
        InfeasibleError: if none is within the limits.
    """
    scale = sizes.scale(16, 1)  # width and depth are the architecture's own
    options: dict[int, list[Option]] = {}
    for arch in named:
        counts = sizes.count(arch, scale)
        options.setdefault(blocks(arch), []).append(Option(abs(math.log(counts.macs / macs)), arch, scale, counts))
    found = [nearest_allowed(options[depth], sizes.allowed) for depth in sorted(options)]
    ladder = [(option.arch, option.scale, option.counts) for option in found if option is not None]
    if not ladder:
        raise InfeasibleError("no standard network is within the limits; raise them")
    return ladder
