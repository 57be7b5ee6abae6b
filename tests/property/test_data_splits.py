"""Splits for any labels: disjoint, complete, stratified, repeatable, given ones untouched."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from archduel.data.dataset import make_splits, subset

COUNTS = st.lists(st.integers(3, 60), min_size=2, max_size=8)


def labels_of(counts: list[int], seed: int) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels).astype(np.int64)


@settings(max_examples=80, deadline=None)
@given(COUNTS, st.integers(0, 10_000), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_every_class_stands_in_every_split_in_its_share(
    counts: list[int], seed: int, validation: float, test: float
) -> None:
    labels = labels_of(counts, seed)
    none = np.zeros(len(labels), np.int8)
    names = [str(i) for i in range(len(counts))]
    split = make_splits(labels, none, names, seed=seed, validation=validation, test=test)
    again = make_splits(labels, none, names, seed=seed, validation=validation, test=test)
    np.testing.assert_array_equal(split, again)
    for label, n in enumerate(counts):
        found = np.bincount(split[labels == label], minlength=3)
        assert found.sum() == n
        assert found.min() >= 1
        for code, share in ((1, validation), (2, test)):
            assert abs(found[code] - share * n) <= 1 or found[0] == 1


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(0, 10_000), st.integers(1, 2))
def test_given_splits_are_never_touched(counts: list[int], seed: int, kept: int) -> None:
    labels = labels_of(counts, seed)
    rng = np.random.default_rng(seed)
    first = np.array([np.flatnonzero(labels == label)[:2] for label in range(len(counts))]).ravel()
    before = np.where(rng.random(len(labels)) < 0.2, kept, 0).astype(np.int8)
    before[first] = 0
    before[np.flatnonzero(labels == 0)[2]] = kept  # at least one is given
    split = make_splits(labels, before, [str(i) for i in range(len(counts))], seed=seed)
    np.testing.assert_array_equal(split == kept, before == kept)
    assert set(np.unique(split)) == {0, 1, 2}


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(0, 10_000), st.floats(0, 1))
def test_a_subset_has_the_size_asked_for_and_loses_no_class_of_any_split(
    counts: list[int], seed: int, share: float
) -> None:
    labels = labels_of(counts, seed)
    split = make_splits(
        labels, np.zeros(len(labels), np.int8), [str(i) for i in range(len(counts))], seed=seed
    )
    n = int(3 * len(counts) + share * (len(labels) - 3 * len(counts)))
    chosen = subset(labels, split, n, seed=seed)
    assert len(chosen) == n
    assert len(np.unique(chosen)) == n
    assert len({(int(labels[i]), int(split[i])) for i in chosen}) == 3 * len(counts)
