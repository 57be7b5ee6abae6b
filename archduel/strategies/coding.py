"""Architectures as points: one continuous gene for each decision of a space (RelativeNAS's coding, for any space)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Space, decisions, sample

__all__ = ["Coding"]

Vector = NDArray[np.float64]
PROBES = 256


class Coding:
    """The box of all vectors of a space, and what they mean.

    Decision number i has gene i in [0, K] where K is its largest number of options; a gene says which option by its floor.
    A gene that is a whole number g > 0 means option g - 1, so that the upper bound means the last option (as in the released
    code). Where earlier answers leave fewer than K options, the gene is stretched; genes beyond the last decision mean nothing.

    Attributes:
        upper: (D,) upper bounds; the lower bounds are 0.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        rng = np.random.default_rng(0)
        most: list[int] = []
        for _ in range(PROBES):
            for i, decision in enumerate(decisions(space, sample(space, rng).choices)):
                most += [0] * (i == len(most))
                most[i] = max(most[i], len(decision.options))
        self.upper: Vector = np.array(most, np.float64)

    def draw(self, rng: np.random.Generator) -> Vector:
        """Returns a (D,) vector, uniform in the box."""
        return rng.uniform(0.0, self.upper)

    def decode(self, x: Vector) -> Arch:
        """Returns the architecture that the (D,) vector ``x`` in the box means."""
        choices: tuple[int, ...] = ()
        while (decision := self.space.decision(choices)) is not None:
            options, i = decision.options, len(choices)
            gene = float(x[i]) * len(options) / float(self.upper[i]) if i < len(x) else 0.0
            choices += (options[max(0, min(math.ceil(gene), len(options)) - 1)],)
        return Arch(self.space.name, choices)

    def encode(self, arch: Arch) -> Vector:
        """Returns the (D,) vector in the middle of the cell that means ``arch``; unused genes are in the middle of the box."""
        x = self.upper / 2
        for i, (decision, choice) in enumerate(zip(decisions(self.space, arch.choices), arch.choices)):
            if i < len(x):
                x[i] = (decision.options.index(choice) + 0.5) * self.upper[i] / len(decision.options)
        return x
