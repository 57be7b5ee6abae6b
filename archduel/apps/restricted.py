"""A space narrowed to the architectures of a table, so that a search over an incomplete benchmark meets nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Decision, Space, check_decisions, sample
from archduel.estimators.table import Table

__all__ = ["Restricted", "covered", "searchable"]


class Restricted:
    """The same decisions, with only the answers that lead to one of the listed architectures.

    A draw is uniform over the list. Graphs, features and fingerprints are those of the space.
    """

    def __init__(self, space: Space, archs: Iterable[Arch]) -> None:
        self.space = space
        self.archs = list(archs)
        self._listed = frozenset(self.archs)
        self.name = space.name
        self._answers: dict[tuple[int, ...], dict[int, None]] = {}
        for arch in self.archs:
            for i, choice in enumerate(arch.choices):
                self._answers.setdefault(arch.choices[:i], {})[choice] = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "space":
            raise AttributeError(name)
        return getattr(self.space, name)

    @property
    def kinds(self) -> Mapping[str, int]:
        """Vocabulary size of each kind of decision."""
        return self.space.kinds

    @property
    def size(self) -> int:
        """The number of architectures."""
        return len(self.archs)

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the next question with the answers that the list has."""
        decision = self.space.decision(prefix)
        if decision is None:
            return None
        known = self._answers.get(tuple(prefix), {})
        return Decision(decision.name, decision.kind, tuple(sorted(known)))

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` is one of the list."""
        if arch not in self._listed:
            check_decisions(self, arch)

    def draw(self, rng: np.random.Generator) -> Arch:
        """Returns an architecture, uniform over the list."""
        return self.archs[int(rng.integers(len(self.archs)))]

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, F) structural features."""
        return self.space.features(archs)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the space's fingerprint."""
        return self.space.fingerprint(arch)


def covered(table: Table, space: Space, *, probes: int = 300) -> bool:
    """Returns whether ``probes`` random architectures of ``space`` are all in ``table``."""
    rng = np.random.default_rng(20210305)  # fixed, and unlikely to be how the table was drawn
    return all(sample(space, rng) in table for _ in range(probes))


def searchable(table: Table) -> Space:
    """Returns the table's space, narrowed to the table's architectures unless it covers the whole space."""
    assert table.space is not None, "tables are opened together with their space"
    return table.space if covered(table, table.space) else Restricted(table.space, table.archs)
