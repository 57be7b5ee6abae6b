"""Fronts: what nothing else is better than in every loss, how much that is worth, and where the knee is (``moocore`` does the geometry).

All losses are (N, M), lower is better. What is not finite is of no front.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archduel.errors import SettingError

__all__ = ["MARGIN", "attainment", "corner", "crowding", "front", "hypervolume", "knee", "layers", "merits", "normalised", "spread"]

Matrix = NDArray[np.float64]
MARGIN = 0.1
"""How far the reference point lies beyond the worst of a front, in its ranges: its ends are worth something too."""


def _library() -> Any:
    try:
        import moocore
    except ImportError as error:
        raise SettingError("several objectives need moocore; install it with `pip install 'archduel[pareto]'`") from error
    return moocore


def _points(losses: ArrayLike) -> Matrix:
    points = np.asarray(losses, np.float64)
    if points.ndim != 2 or not points.shape[1]:
        raise SettingError(f"losses have shape {points.shape}, expected (N, M) with at least one objective")
    return points


def front(losses: ArrayLike) -> NDArray[np.int64]:
    """Returns the rows that no other row is better than, by the first loss ascending; of equal rows the first.

    Raises:
        SettingError: for losses of another shape, or without moocore.
    """
    points = _points(losses)
    rows = np.flatnonzero(np.isfinite(points).all(1))
    if not len(rows):
        return rows
    if points.shape[1] == 1:  # the library knows two and more
        return rows[[int(np.argmin(points[rows, 0]))]]
    rows = rows[np.asarray(_library().is_nondominated(points[rows]), bool)]
    return np.asarray(rows[np.lexsort(points[rows].T[::-1])])


def layers(losses: ArrayLike) -> NDArray[np.int64]:
    """Returns (N,) 0 for the front, 1 for the front of all others, and so on; what is not finite comes last.

    Source: non-dominated sorting, Deb et al., "NSGA-II", 2002; Jensen 2003 for the algorithm.
    """
    points = _points(losses)
    finite = np.isfinite(points).all(1)
    ranks = np.full(len(points), 0, np.int64)
    if points.shape[1] == 1:
        ranks[finite] = np.unique(points[finite, 0], return_inverse=True)[1]
    elif finite.any():
        ranks[finite] = np.asarray(_library().pareto_rank(points[finite]))
    ranks[~finite] = ranks[finite].max(initial=-1) + 1
    return ranks


def hypervolume(losses: ArrayLike, reference: ArrayLike) -> float:
    """Returns the volume between points and ``reference`` (M,) that at least one point is better than."""
    points, corner_ = _points(losses), np.asarray(reference, np.float64)
    points = points[np.isfinite(points).all(1) & (points < corner_).all(1)]
    if not len(points):
        return 0.0
    return float(corner_[0] - points.min()) if points.shape[1] == 1 else float(_library().hypervolume(points, ref=corner_))


def crowding(losses: ArrayLike) -> Matrix:
    """Returns (N,) how far apart the neighbours of each point are, in ranges, summed over objectives; the ends are infinitely far.

    Source: Deb et al., "NSGA-II", 2002, section III-B.
    """
    points = _points(losses)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        gaps = column[order[2:]] - column[order[:-2]] if len(order) > 2 else np.empty(0)
        distance[order[1:-1]] += gaps / (np.ptp(column) or 1.0)
        distance[order[[0, -1]]] = np.inf
    return distance


def corner(losses: ArrayLike) -> Matrix:
    """Returns (M,) the reference point of a front: its worst values, and :data:`MARGIN` of its ranges more."""
    points = _points(losses)
    return np.asarray(points.max(0) + MARGIN * np.ptp(points, axis=0))


def normalised(losses: ArrayLike, among: ArrayLike) -> Matrix:
    """Returns (N, M) losses in which 0 is the best of the front ``among`` (K, M), its ideal, and 1 its worst, the nadir."""
    known = _points(among)
    span = np.ptp(known, axis=0)
    return np.asarray((_points(losses) - known.min(0)) / np.where(span > 0, span, 1.0))


def knee(losses: ArrayLike) -> int:
    """Returns which row of a front is its knee: the one farthest below the plane through its ends.

    Source: Das, "On Characterizing the Knee of the Pareto Curve Based on Normal-Boundary Intersection", 1999; with losses in ranges the
    plane through the ends has equal weights.
    """
    points = _points(losses)
    if not len(points):
        raise SettingError("an empty front has no knee")
    return int(np.argmin(normalised(points, points).sum(1)))


def spread(losses: ArrayLike, n: int) -> list[int]:
    """Returns ``n`` rows of a front that stand for it, ascending: the knee, and whatever adds most hypervolume, one after another.

    Raises:
        SettingError: if ``n`` is below 1.
    """
    points = _points(losses)
    if n < 1:
        raise SettingError(f"{n} members of the front were asked for, expected at least 1")
    if n >= len(points):
        return list(range(len(points)))
    unit = normalised(points, points)
    chosen, reference = [knee(points)], np.full(points.shape[1], 1 + MARGIN)
    while len(chosen) < n:
        rest = [row for row in range(len(points)) if row not in chosen]
        chosen.append(max(rest, key=lambda row: hypervolume(unit[[*chosen, row]], reference)))
    return sorted(chosen)


def merits(losses: ArrayLike) -> Matrix:
    """Returns (N,) merits, higher is better: minus the number of the layer, plus the share of the layer's hypervolume that a point adds alone.

    Source: the selection of SMS-EMOA, Beume, Naujoks and Emmerich, EJOR 2007.
    """
    points = _points(losses)
    ranks = layers(points)
    found = -ranks.astype(np.float64)
    for rank in np.unique(ranks):
        rows = np.flatnonzero((ranks == rank) & np.isfinite(points).all(1))
        if len(rows) > 1 and points.shape[1] > 1:
            unit, reference = normalised(points[rows], points[rows]), np.full(points.shape[1], 1 + MARGIN)
            whole = hypervolume(unit, reference)
            found[rows] += [(whole - hypervolume(np.delete(unit, place, 0), reference)) / (2 * whole) for place in range(len(rows))]
    return found


def attainment(sets: list[Matrix], share: float = 0.5) -> Matrix:
    """Returns (K, M) the front that ``share`` of several searches reached or passed: their attainment surface.

    Args:
        sets: the losses of each search, M = 2 or 3.
        share: 0.5 = the median search.

    Source: Fonseca, Guerreiro, Lopez-Ibanez and Paquete, "On the Computation of the Empirical Attainment Function", EMO 2011.
    """
    if not sets or not 0 < share <= 1:
        raise SettingError(f"{len(sets)} searches and a share of {share} have no attainment surface; give at least one, and a share in (0, 1]")
    finite = [points[np.isfinite(points).all(1)] for points in map(_points, sets)]
    number = np.repeat(np.arange(1, len(finite) + 1), [len(points) for points in finite])
    surface = _library().eaf(np.concatenate(finite), sets=number, percentiles=[100 * share])
    return np.asarray(surface)[:, :-1]
