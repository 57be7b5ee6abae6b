"""Drawing architectures that were not seen yet, by what they compute and not by how they are written."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from archduel.core import Arch, Constraint, Space, enumerate_space, sample

__all__ = ["Distinct", "first_distinct"]


class Distinct:
    """Draws random architectures, each fingerprint once, until the space is exhausted.

    After ``tries`` repeats in a row the rest of the space is taken to be small: it is enumerated and drawn from without
    repeats. Only a space in which nearly everything was drawn already gets there.
    """

    def __init__(self, space: Space, rng: np.random.Generator, constraint: Constraint | None, *, tries: int = 300) -> None:
        self.space = space
        self.rng = rng
        self.constraint = constraint
        self.tries = tries
        self.seen: set[str] = set()

    def add(self, arch: Arch) -> bool:
        """Marks ``arch`` as seen and returns whether it is new."""
        known = len(self.seen)
        self.seen.add(self.space.fingerprint(arch))
        return len(self.seen) > known

    def draw(self) -> Arch | None:
        """Returns an architecture with a new fingerprint, or None when there is none left.

        Raises:
            InfeasibleError: if no architecture satisfies the constraint.
        """
        for _ in range(self.tries):
            arch = sample(self.space, self.rng, self.constraint)
            if self.add(arch):
                return arch
        return self._last()

    def _last(self) -> Arch | None:
        """Returns a random one of the few architectures that are left."""
        left = [
            arch
            for arch in enumerate_space(self.space)
            if (self.constraint is None or self.constraint(arch)) and self.space.fingerprint(arch) not in self.seen
        ]
        if not left:
            return None
        arch = left[int(self.rng.integers(len(left)))]
        self.add(arch)
        return arch

    def state_dict(self) -> list[str]:
        """Returns the fingerprints seen, sorted."""
        return sorted(self.seen)

    def load_state_dict(self, state: Iterable[str]) -> None:
        """Takes the fingerprints another has seen."""
        self.seen = set(state)


def first_distinct(space: Space, archs: Iterable[Arch], n: int) -> list[Arch]:
    """Returns the first ``n`` architectures that differ in fingerprint, in order."""
    found: dict[str, Arch] = {}
    for arch in archs:
        if len(found) == n:
            break
        found.setdefault(space.fingerprint(arch), arch)
    return list(found.values())
