"""Architectures as columns of numbers on one scale, and labels as normal scores of their ranks.

Columns are what the space says of an architecture (``features`` or another view) and the logarithms of its closed-form costs.
One standardiser serves all rankers; they differ only in which architectures it is measured on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Costs, Space, sample
from archduel.errors import SettingError
from archduel.rankers.labels import check_archs

__all__ = ["FeatureCache", "Standardiser", "WithColumns", "check_view", "describe", "describe_random", "describe_seen", "graph_view", "measure"]

Matrix = NDArray[np.float64]
Single = NDArray[np.float32]
Columns = TypeVar("Columns", Matrix, Single)

# A column that varies by less than this share of its size varies by rounding alone: features are written in single
# precision, whose steps are 1e-7 of the size, but constant columns repeat to the last bit and only their mean is rounded.
VARIES = 1e-9
# A search asks for the same few thousand architectures again and again; 50,000 rows of 100 float64 features are 40 MB.
CACHED = 50_000
# What may be seen of an architecture: what it computes, or how it is written down.
SEEN = ("effect", "graph")
# A search of a small space judges the whole space after every label, always with the same tuple, and a comparison makes a
# ranker a trial: the features of that tuple are worked out once, a view, for all rankers of the space. Weak keys let a space go.
_of_tuple: WeakKeyDictionary[Space, dict[str, tuple[tuple[Arch, ...], Matrix]]] = WeakKeyDictionary()


def describe(space: Space, archs: Sequence[Arch], *, costs: Costs | None = None, view: str = "features") -> Matrix:
    """(N, F): what the space says about the architectures, then the logarithms of their costs.

    Args:
        space: describes its own architectures.
        archs: those to describe.
        costs: gives closed-form costs; None = none are used.
        view: the space's method that describes architectures; some spaces have another one beside ``features``.

    Raises:
        SettingError: if the space has no such view.
    """
    method = getattr(space, view, None)
    if method is None:
        raise SettingError(f"space {space.name!r} has no view {view!r}; every space has 'features'")
    columns = np.asarray(method(archs), np.float64)
    if costs is None:
        return columns
    # Costs span decades and act by factors (twice the multiply-adds), so that logarithms are what a distance or a linear
    # model can use. A cost of 0 (a cell that computes nothing) counts as 1.
    return np.concatenate([columns, np.log(np.maximum(np.asarray(costs(archs), np.float64), 1.0))], 1)


def graph_view(space: Space) -> str:
    """The name of the space's method that describes graphs: ``graph_features`` where there is one, else ``features``."""
    return "graph_features" if hasattr(space, "graph_features") else "features"


def check_view(view: str) -> None:
    """Raises SettingError for a view of architectures that there is not."""
    if view not in SEEN:
        raise SettingError(f"view is {view!r}, expected {' or '.join(map(repr, SEEN))}")


def describe_seen(space: Space, archs: Sequence[Arch], view: str, *, costs: Costs | None = None) -> Matrix:
    """(N, F): what the space says of the effect and the costs; for the view ``graph`` with what it says of that beside it.

    Args:
        space: describes its own architectures.
        archs: those to describe.
        view: ``effect``, what an architecture computes, which accuracies depend on; ``graph``, also how it is written down, as latencies do.
        costs: gives closed-form costs; None = none are used.
    """
    columns = describe(space, archs, costs=costs)
    if view == "effect" or graph_view(space) == "features":
        return columns
    return np.concatenate([columns, describe(space, archs, view=graph_view(space))], 1)


def describe_random(
    space: Space, n: int, rng: np.random.Generator, *, costs: Costs | None = None, view: str = "features"
) -> Matrix:
    """(n, F) columns of random architectures, for a scale that does not depend on which ones were labelled."""
    return describe(space, [sample(space, rng) for _ in range(n)], costs=costs, view=view)


class WithColumns:
    """A space whose features also hold further columns, such as what shared weights say; everything else is the space's own.

    Args:
        space: the space.
        columns: returns (B, K) further numbers of architectures.
    """

    def __init__(self, space: Space, columns: Callable[[Sequence[Arch]], Matrix]) -> None:
        self._space, self._columns = space, columns

    def __getattr__(self, name: str) -> Any:
        """Returns what the space has."""
        return getattr(self._space, name)

    def features(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (B, F + K): the space's features, then the further columns."""
        return np.concatenate([np.asarray(self._space.features(archs), np.float64), np.asarray(self._columns(archs), np.float64)], 1)


class Standardiser(NamedTuple):
    """Brings columns to mean 0 and spread 1.

    Attributes:
        used: (F,) which columns are not dropped.
        mean: (U,) of those.
        spread: (U,) what their differences are divided by.
    """

    used: NDArray[np.bool_]
    mean: Matrix
    spread: Matrix

    def __call__(self, columns: Columns) -> Columns:
        """(N, U) of (N, F) columns, in their precision."""
        mean, spread = self.mean.astype(columns.dtype), self.spread.astype(columns.dtype)
        return (columns[:, self.used] - mean) / spread  # type: ignore[return-value]

    def with_unit_distances(self) -> Standardiser:
        """The same, divided by the square root of the number of columns: squared distances then average 2.

        A length scale of 1 so means the same in spaces of 6 and of 300 columns.
        """
        return self._replace(spread=self.spread * np.sqrt(max(1, len(self.spread))))


def measure(columns: Matrix, *, drop_constant: bool = True) -> Standardiser:
    """The standardiser of (N, F) columns, measured on all of them.

    Measure on random architectures too where there is a space to draw from: among a few dozen labelled ones, a rare column
    has a tiny spread, so that it would look large wherever it happened to be labelled.

    Args:
        columns: of the architectures that set the scale.
        drop_constant: whether columns that never vary are dropped; otherwise they are moved to 0 and not stretched.
    """
    spread = columns.std(0)
    used = spread > VARIES * (1 + np.abs(columns).max(0))
    if not drop_constant:
        spread, used = np.where(used, spread, 1.0), np.ones_like(used)
    return Standardiser(used, columns.mean(0)[used], spread[used])


class FeatureCache:
    """Standardised features of a space, each architecture described once; squared distances average 2.

    The scale is that of random architectures, so that the numbers of one fit do not depend on which ones were labelled.

    Args:
        space: gives features.
        reference: how many random architectures set the scale.
        seed: of those architectures.
        view: ``effect`` or ``graph``, see :func:`describe_seen`.
    """

    def __init__(self, space: Space, *, reference: int, seed: int, view: str = "effect") -> None:
        self.space, self.reference, self.seed, self.view = space, reference, seed, view
        rng = np.random.default_rng(seed)
        columns = describe_seen(space, [sample(space, rng) for _ in range(reference)], view)
        self._standardise = measure(columns).with_unit_distances()
        self._places: dict[Arch, int] = {}
        self._rows: Matrix = np.empty((0, len(self)))
        self._last: tuple[tuple[Arch, ...], Single] | None = None  # the tuple asked for last

    def __len__(self) -> int:
        return len(self._standardise.spread)

    def seeing(self, view: str) -> FeatureCache:
        """A fresh cache of the same space and scale for another view."""
        return FeatureCache(self.space, reference=self.reference, seed=self.seed, view=view)

    def double(self, archs: Sequence[Arch]) -> Matrix:
        """(N, U) standardised features.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        places = [self._places.get(arch, -1) for arch in archs]
        if -1 in places:
            self._add(archs)
            places = [self._places[arch] for arch in archs]
        return self._rows[places]

    def single(self, archs: Sequence[Arch]) -> Single:
        """(N, U) the same in single precision; those of a tuple are cached as long as it is the last one asked for.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        # Only a tuple can be recognised by identity alone: a list of the same identity may have changed since.
        if not isinstance(archs, tuple):
            return self.double(archs).astype(np.float32)
        if self._last is None or self._last[0] is not archs:
            check_archs(self.space, archs)
            self._last = archs, self._standardise(self._of_tuple(archs)).astype(np.float32)
        return self._last[1]

    def _add(self, archs: Sequence[Arch]) -> None:
        """Adds rows for those of ``archs`` that have none."""
        check_archs(self.space, archs)
        # Starting over is simpler than forgetting the oldest, and costs one round of describing.
        if len(self._places) > CACHED:
            self._places, self._rows = {}, self._rows[:0]
        new = list(dict.fromkeys(arch for arch in archs if arch not in self._places))
        self._places.update((arch, len(self._rows) + i) for i, arch in enumerate(new))
        self._rows = np.concatenate([self._rows, self._standardise(describe_seen(self.space, new, self.view))])

    def _of_tuple(self, archs: tuple[Arch, ...]) -> Matrix:
        views = _of_tuple.setdefault(self.space, {})
        if self.view not in views or views[self.view][0] is not archs:
            views[self.view] = archs, describe_seen(self.space, archs, self.view)
        return views[self.view][1]
