"""Where hardly a part of a backbone is within the limits: the largest random one that is, or an error that says what the smallest needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from archduel.core import Arch, Scale, sample
from archduel.errors import InfeasibleError
from archduel.spaces.pretrained.space import Pretrained, count

__all__ = ["refuse_impossible", "smallest"]

DRAWN, LOOKED_AT = 2_000, 400


def smallest(space: Pretrained, scale: Scale, fits: Callable[[Arch], bool], seed: int, *, alone: bool) -> list[Arch]:
    """Returns one network within the limits, however small; none where there is none and others take part.

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
    drawn = [sample(space, rng) for _ in range(DRAWN)]
    fitting = [arch for arch in drawn if fits(arch)]
    if fitting:
        return [max(fitting, key=lambda arch: count(arch, scale).params)]
    if not alone:
        return []
    least = min((count(arch, scale) for arch in drawn), key=lambda counts: counts.params)
    raise InfeasibleError(
        f"no part of {', '.join(space.backbones)} is within the limits: the smallest of {len(drawn):,} needs {least.params:,} parameters "
        f"and {least.macs:,} multiply-adds; raise the limit, or use --start scratch"
    )


def refuse_impossible(space: Pretrained, scale: Scale, fits: Callable[[Arch], bool], seed: int) -> None:
    """Raises InfeasibleError where none of the smallest tenth of random networks is within the limits; arguments as in :func:`smallest`."""
    rng = np.random.default_rng([seed, 18])
    drawn = sorted((sample(space, rng) for _ in range(LOOKED_AT)), key=lambda arch: count(arch, scale))
    if not any(fits(arch) for arch in drawn[: LOOKED_AT // 10]):
        least = count(drawn[0], scale)
        raise InfeasibleError(
            f"no part of {', '.join(space.backbones)} is within the limits: the smallest of {LOOKED_AT} has {least.params:,} parameters"
        )
