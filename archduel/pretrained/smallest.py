"""Where hardly a part of a backbone is within the limits: the largest random one that is, or an error that says what the smallest needs.

Whether one is within may mean to build and time it, a fifth of a second: few are asked about, those that need least of something first.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

import numpy as np

from archduel.core import Arch, Scale, sample
from archduel.errors import InfeasibleError
from archduel.spaces.pretrained.space import Pretrained, count

__all__ = ["refuse_impossible", "smallest"]

DRAWN, LOOKED_AT = 2_000, 400
LEAST = 20
"""Networks of fewest parameters, and as many of fewest multiply-adds, that are asked about."""


def _rising(drawn: Sequence[Arch], scale: Scale) -> list[list[Arch]]:
    """Returns networks by parameters and by multiply-adds, ascending."""
    costs = {arch: count(arch, scale) for arch in drawn}
    return [sorted(costs, key=lambda arch: tuple(costs[arch])), sorted(costs, key=lambda arch: tuple(reversed(costs[arch])))]


def _least(rising: Sequence[Sequence[Arch]]) -> list[Arch]:
    """Returns the networks that need least of something, the least of all first."""
    return list(dict.fromkeys(arch for pair in zip(*(order[:LEAST] for order in rising)) for arch in pair))


def smallest(space: Pretrained, scale: Scale, fits: Callable[[Arch], bool], seed: int, *, alone: bool) -> list[Arch]:
    """Returns one network within the limits, a large one of those drawn; none where none is found and others take part.

    Networks of more parameters or multiply-adds are taken to need more of what else is limited, so that the largest is found by bisection.

    Args:
        space: of which networks are drawn.
        scale: input and classes.
        fits: whether one is within the limits.
        seed: of what is drawn.
        alone: whether nothing else takes part.

    Raises:
        InfeasibleError: if there is none and nothing else takes part; says what the smallest needs.
    """
    rng = np.random.default_rng([seed, 17])
    rising = _rising([sample(space, rng) for _ in range(DRAWN)], scale)
    last = (order[max(0, bisect.bisect_left(range(len(order)), True, key=lambda i: not fits(order[i])) - 1)] for order in rising)
    fitting = [arch for arch in last if fits(arch)] or [arch for arch in _least(rising) if fits(arch)]
    if fitting:
        return [max(fitting, key=lambda arch: count(arch, scale).params)]
    if not alone:
        return []
    raise InfeasibleError(f"{_refusal(space, rising, scale)}; raise the limit, or use --start scratch")


def refuse_impossible(space: Pretrained, scale: Scale, fits: Callable[[Arch], bool], seed: int) -> None:
    """Raises InfeasibleError where none of the random networks that need least is within the limits; arguments as in :func:`smallest`."""
    rng = np.random.default_rng([seed, 18])
    rising = _rising([sample(space, rng) for _ in range(LOOKED_AT)], scale)
    if not any(fits(arch) for arch in _least(rising)):
        raise InfeasibleError(_refusal(space, rising, scale))


def _refusal(space: Pretrained, rising: Sequence[Sequence[Arch]], scale: Scale) -> str:
    """Returns why nothing takes part: what those need that need least of something, whichever limit they are above."""
    params, macs = (count(order[0], scale)[place] for place, order in enumerate(rising))
    return (
        f"no part of {', '.join(space.backbones)} is within the limits, not even those of {len(rising[0]):,} with fewest parameters ({params:,}) "
        f"and fewest multiply-adds ({macs:,})"
    )
