"""What every ranker checks and sorts out before it learns: architectures, labels and pseudo-labelled pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Space
from archduel.errors import InvalidArchError, SettingError

__all__ = ["Pairs", "check_archs", "check_labels", "check_pairs", "check_sides", "distinct", "sigmoid"]

Pairs = tuple[Sequence[Arch], Sequence[Arch], NDArray[np.float64]]
"""Pseudo-labelled comparisons: first, second, probability that the first is at least as good."""


def distinct(archs: Sequence[Arch]) -> tuple[list[Arch], NDArray[np.int64]]:
    """Returns the different architectures in order of appearance, and for each of ``archs`` its place among them."""
    places: dict[Arch, int] = {}
    index = np.fromiter((places.setdefault(arch, len(places)) for arch in archs), np.int64, len(archs))
    return list(places), index


def check_archs(space: Space, archs: Sequence[Arch]) -> None:
    """Raises InvalidArchError unless every architecture names ``space`` (a quick check of names only)."""
    for arch in archs:
        if arch.space != space.name:
            raise InvalidArchError(
                f"{arch} belongs to space {arch.space!r}, but the ranker was made for {space.name!r}"
            )


def check_labels(
    space: Space, archs: Sequence[Arch], scores: Sequence[float] | NDArray[np.float64]
) -> tuple[list[Arch], NDArray[np.float64]]:
    """Returns the different architectures and their labels; one that is given several times gets the mean label.

    Raises:
        InvalidArchError: if an architecture does not belong to ``space``.
        SettingError: for labels that are not finite, not one an architecture, or fewer than two distinct ones.
    """
    labels = np.asarray(scores, np.float64)
    if labels.shape != (len(archs),):
        raise SettingError(
            f"expected one label an architecture ({len(archs)}), got an array of shape {labels.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(labels))
    if bad.size:
        raise SettingError(
            f"label {bad[0]} ({archs[bad[0]]}) is {labels[bad[0]]}; leave out the {bad.size} failed evaluations"
        )
    check_archs(space, archs)
    for arch in archs:
        space.validate(arch)
    unique, index = distinct(archs)
    mean = np.bincount(index, labels, len(unique)) / np.bincount(index, minlength=len(unique))
    if len(set(mean.tolist())) < 2:
        raise SettingError(
            f"{len(unique)} architectures with fewer than two distinct labels have no order to learn; label more of them"
        )
    return unique, mean


def check_pairs(space: Space, pairs: Pairs) -> tuple[list[Arch], list[Arch], NDArray[np.float64]]:
    """Returns pseudo-labelled comparisons after a check.

    Raises:
        InvalidArchError: if an architecture does not belong to ``space``.
        SettingError: for sides of different lengths or labels outside 0..1.
    """
    first, second, labels = list(pairs[0]), list(pairs[1]), np.asarray(pairs[2], np.float64)
    if not len(first) == len(second) == labels.size:
        raise SettingError(
            f"pairs have {len(first)} first, {len(second)} second and {labels.size} labels; make them equal"
        )
    if not ((labels >= 0) & (labels <= 1)).all():
        raise SettingError(
            "labels of pairs are probabilities that the first is at least as good, expected 0..1"
        )
    check_archs(space, [*first, *second])
    return first, second, labels


def check_sides(first: Sequence[Arch], second: Sequence[Arch]) -> None:
    """Raises SettingError unless both sides of the comparisons are equally long."""
    if len(first) != len(second):
        raise SettingError(
            f"prob compares pairs, got {len(first)} first and {len(second)} second architectures"
        )


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns 1 / (1 + exp(-x)) without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))))
