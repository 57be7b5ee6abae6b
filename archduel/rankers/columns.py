"""Architectures as columns of numbers: the space's description, closed-form costs, and a common scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Space, sample
from archduel.errors import SettingError

__all__ = ["Costs", "Ruler", "describe", "measure", "normal_scores"]

Costs = Callable[[Sequence[Arch]], NDArray[np.float64]]
"""Returns (N, K) positive closed-form costs, such as parameters and multiply-adds."""


def describe(
    space: Space, archs: Sequence[Arch], *, costs: Costs | None = None, view: str = "features"
) -> NDArray[np.float64]:
    """Returns (N, F): what the space says about the architectures, then the logarithms of their costs.

    Args:
        space: the space.
        archs: N architectures.
        costs: gives closed-form costs; None = none are used.
        view: the space's method that describes architectures; some spaces have another one beside ``features``.

    Raises:
        SettingError: if the space has no such view.
    """
    describing = getattr(space, view, None)
    if describing is None:
        raise SettingError(f"space {space.name!r} has no view {view!r}; every space has 'features'")
    columns = np.asarray(describing(archs), np.float64)
    if costs is None:
        return columns
    return np.concatenate([columns, np.log(np.maximum(np.asarray(costs(archs), np.float64), 1.0))], 1)


class Ruler(NamedTuple):
    """Where the columns of a space lie: ``standardise`` gives those that vary, with mean 0 and spread 1."""

    used: NDArray[np.bool_]  # (F,)
    mean: NDArray[np.float64]  # of those used
    spread: NDArray[np.float64]

    def standardise(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns (N, U) of (N, F) columns."""
        return (columns[:, self.used] - self.mean) / self.spread


def measure(
    space: Space, columns: NDArray[np.float64], *, reference: int, seed: int, costs: Costs | None, view: str
) -> Ruler:
    """Returns the ruler of labelled ``columns`` (N, F) and ``reference`` random architectures of the space.

    The random ones carry no labels; without them, a rare column would look large wherever it happened to be labelled.
    """
    if reference:
        rng = np.random.default_rng([seed, 1])
        drawn = [sample(space, rng) for _ in range(reference)]
        columns = np.concatenate([columns, describe(space, drawn, costs=costs, view=view)])
    spread = columns.std(0)
    used = spread > 1e-9 * (1 + np.abs(columns).max(0))
    return Ruler(used, columns.mean(0)[used], spread[used])


def normal_scores(labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (N,): the standard normal quantile of each label's rank; equal labels get equal scores.

    Ranks are all that a ranker needs, and networks that failed to train cannot stretch the scale.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return np.asarray(ndtri((rankdata(labels) - 0.5) / len(labels)))
