"""What every ranker must do. Inherit :class:`RankerContract`, say how yours is made, run pytest."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archduel.core import Arch, Ranker, Uncertain, Updatable, keep_learning, sample, win_matrix
from archduel.errors import InvalidArchError, StateError
from archduel.testing.states import global_randomness_untouched, through_disk
from archduel.testing.toy import ToySpace, toy_score

__all__ = ["RankerContract"]


class RankerContract:
    """Inherit and override :meth:`make` (and the attributes where they do not fit).

    Attributes:
        space: what is ranked.
        labels: architectures that are learned from.
        right: least share of held-out pairs that must be in the right order.
    """

    space: Any = ToySpace()
    labels = 60
    right = 0.65

    def make(self, seed: int) -> Ranker:
        """Returns a fresh ranker for ``self.space``."""
        raise AttributeError(f"{type(self).__name__} must define make(seed)")

    def score(self, arch: Arch) -> float:
        """Returns the true score of ``arch``."""
        return toy_score(arch)

    def _data(self) -> tuple[list[Arch], list[float], list[Arch], list[float]]:
        """Returns labelled and held-out architectures with their scores."""
        rng = np.random.default_rng(0)
        archs = list(dict.fromkeys(sample(self.space, rng) for _ in range(3 * self.labels)))
        known, rest = archs[: self.labels], archs[self.labels : 2 * self.labels]
        return known, [self.score(a) for a in known], rest, [self.score(a) for a in rest]

    def _fitted(self, seed: int = 0) -> Ranker:
        ranker = self.make(seed)
        known, scores, _, _ = self._data()
        ranker.fit(known, scores)
        return ranker

    def test_learns_the_order(self) -> None:
        """Most held-out pairs are in the right order, by scores and by win probabilities."""
        ranker = self._fitted()
        _, _, rest, truth = self._data()
        pairs = [(i, j) for i in range(len(rest)) for j in range(i) if truth[i] != truth[j]]
        first, second = [rest[i] for i, _ in pairs], [rest[j] for _, j in pairs]
        better = np.array([truth[i] > truth[j] for i, j in pairs])
        predicted = ranker.predict(rest)
        assert predicted.shape == (len(rest),)
        assert np.isfinite(predicted).all()
        by_score = np.array([predicted[i] > predicted[j] for i, j in pairs])
        assert (by_score == better).mean() > self.right
        p = ranker.prob(first, second)
        assert p.shape == (len(pairs),)
        assert ((p >= 0) & (p <= 1)).all()
        assert ((p > 0.5) == better).mean() > self.right

    def test_the_same_seed_learns_the_same(self) -> None:
        """Two rankers of one seed agree exactly, and learning again starts from scratch."""
        _, _, rest, _ = self._data()
        with global_randomness_untouched():
            one, two = self._fitted(5), self._fitted(5)
        first = one.predict(rest)
        assert np.array_equal(first, two.predict(rest))
        known, scores, _, _ = self._data()
        two.fit(known[::2], scores[::2])
        two.fit(known, scores)
        assert np.array_equal(first, two.predict(rest))

    def test_a_state_goes_through_a_file(self, tmp_path: Path) -> None:
        """Another ranker with the loaded state says the same, exactly."""
        one = self._fitted(1)
        two = self.make(1)
        two.load_state_dict(through_disk(one.state_dict(), tmp_path))
        _, _, rest, _ = self._data()
        assert np.array_equal(one.predict(rest), two.predict(rest))
        assert np.array_equal(one.prob(rest[1:], rest[:-1]), two.prob(rest[1:], rest[:-1]))

    def test_an_unfitted_ranker_says_so(self, tmp_path: Path) -> None:
        """Predicting before fitting raises; the empty state can be saved and loaded."""
        ranker = self.make(0)
        _, _, rest, _ = self._data()
        with pytest.raises(StateError):
            ranker.predict(rest)
        with pytest.raises(StateError):
            ranker.prob(rest, rest)
        self.make(1).load_state_dict(through_disk(ranker.state_dict(), tmp_path))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_labels_that_are_no_numbers_are_refused(self, bad: float) -> None:
        """A failed evaluation must not be learned from."""
        known, scores, _, _ = self._data()
        with pytest.raises(ValueError, match=r"\w"):
            self.make(0).fit(known, [bad, *scores[1:]])

    def test_labels_without_an_order_are_refused(self) -> None:
        """Fewer than two distinct labels teach nothing."""
        known, _, _, _ = self._data()
        with pytest.raises(ValueError, match=r"\w"):
            self.make(0).fit(known, [0.5] * len(known))

    def test_architectures_of_another_space_are_refused(self) -> None:
        """Fitting and predicting check the space."""
        known, scores, _, _ = self._data()
        stranger = Arch("elsewhere", known[0].choices)
        with pytest.raises(InvalidArchError):
            self.make(0).fit([stranger, *known[1:]], scores)
        with pytest.raises(InvalidArchError):
            self._fitted().predict([stranger])

    def test_arguments_are_not_modified(self) -> None:
        """Lists and arrays stay as they were."""
        known, scores, _, _ = self._data()
        given = list(known), np.array(scores)
        copies = deepcopy(given)
        self.make(0).fit(*given)
        assert given[0] == copies[0]
        assert np.array_equal(given[1], copies[1])

    def test_all_pairs_at_once_say_what_single_pairs_say(self) -> None:
        """A ranker's own matrix agrees with ``prob`` up to rounding; without one it is made of ``prob``."""
        ranker = self._fitted()
        _, _, rest, _ = self._data()
        few = rest[:7]
        single = np.array([ranker.prob([first] * len(few), few) for first in few])
        np.testing.assert_allclose(win_matrix(ranker, few), single, atol=1e-5)

    def test_going_on_learning_is_exact(self) -> None:
        """A ranker that can go on learns from a state exactly as without a break; any other starts from scratch."""
        known, scores, rest, _ = self._data()
        one, two = self._fitted(2), self.make(2)
        extra = known[:2], known[2:4], np.array([1.0, 0.0])
        if isinstance(one, Updatable):
            two.load_state_dict(deepcopy(one.state_dict()))
            keep_learning(two, known, scores, pairs=extra, epochs=2)
        else:
            two.fit(known, scores, pairs=extra)
        keep_learning(one, known, scores, pairs=extra, epochs=2)
        assert np.array_equal(one.predict(rest), two.predict(rest))

    def test_uncertainty_is_a_deviation(self) -> None:
        """Where a ranker knows its uncertainty, it is finite and not negative, one number an architecture."""
        ranker = self._fitted()
        if isinstance(ranker, Uncertain):
            _, _, rest, _ = self._data()
            deviation = ranker.uncertainty(rest)
            assert deviation.shape == (len(rest),)
            assert np.isfinite(deviation).all()
            assert (deviation >= 0).all()
