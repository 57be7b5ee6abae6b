"""The features of architectures, standardised over random architectures of the space; each architecture is described once.

So the numbers of one fit do not depend on which architectures happened to be labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Space, sample
from archduel.rankers.labels import check_archs

__all__ = ["Described", "Single"]

Matrix = NDArray[np.float64]
Single = NDArray[np.float32]
KEPT = 50_000
"""Architectures whose features are kept."""
_described: WeakKeyDictionary[Space, tuple[tuple[Arch, ...], Matrix]] = WeakKeyDictionary()
"""Space -> architectures and their features: searches in one space judge the same tuple again and again."""


class Described:
    """Standardised features of a space; those that never change are left out, squared distances average 2.

    Args:
        space: gives features.
        reference: random architectures that features are standardised over.
        seed: of those architectures.
    """

    def __init__(self, space: Space, *, reference: int, seed: int) -> None:
        self.space = space
        rng = np.random.default_rng(seed)
        x = np.asarray(space.features([sample(space, rng) for _ in range(reference)]), np.float64)
        deviation = x.std(0)
        self._mean, self._used = x.mean(0), deviation > 1e-6
        self._scale = 1.0 / (deviation[self._used] * np.sqrt(max(1, self._used.sum())))
        self._rows: dict[Arch, int] = {}
        self._x: Matrix = np.empty((0, len(self._scale)))
        self._judged: tuple[tuple[Arch, ...], Single] | None = None  # the tuple judged last

    def __len__(self) -> int:
        return len(self._scale)

    def features(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N, F) standardised features; each distinct architecture is encoded once.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        places = [self._rows.get(arch, -1) for arch in archs]
        if -1 in places:
            self._keep(archs)
            places = [self._rows[arch] for arch in archs]
        return self._x[places]

    def single(self, archs: Sequence[Arch]) -> Single:
        """Returns (N, F) the same in single precision; those of a tuple are kept as long as it is the last one asked for.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        if not isinstance(archs, tuple):
            return self.features(archs).astype(np.float32)
        if self._judged is None or self._judged[0] is not archs:
            check_archs(self.space, archs)
            self._judged = archs, self._encoded(archs).astype(np.float32)
        return self._judged[1]

    def _keep(self, archs: Sequence[Arch]) -> None:
        """Adds those of ``archs`` that are new to the rows of ``_x``."""
        check_archs(self.space, archs)
        if len(self._rows) > KEPT:  # a cache, not a leak
            self._rows, self._x = {}, self._x[:0]
        new = list(dict.fromkeys(arch for arch in archs if arch not in self._rows))
        self._rows.update((arch, len(self._x) + i) for i, arch in enumerate(new))
        self._x = np.concatenate([self._x, self._encoded(new)])

    def _encoded(self, archs: Sequence[Arch]) -> Matrix:
        if isinstance(archs, tuple):
            if self.space not in _described or _described[self.space][0] is not archs:
                _described[self.space] = archs, np.asarray(self.space.features(archs), np.float64)
            x = _described[self.space][1] - self._mean
        else:
            x = np.asarray(self.space.features(archs), np.float64) - self._mean
        return np.asarray(x[:, self._used] * self._scale)
