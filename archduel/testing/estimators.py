"""What every estimator must do. Inherit :class:`EstimatorContract`, say how yours is made, run pytest."""

from __future__ import annotations

from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archduel.core import Arch, Estimate, Estimator, Query, SharedEstimator, sample
from archduel.errors import InvalidArchError, SettingError, StateError
from archduel.testing.suites import assert_same_state, global_randomness_untouched, through_disk

__all__ = ["EstimatorContract", "SharedEstimatorContract"]


class EstimatorContract:
    """Inherit and override :meth:`make` and :meth:`archs`.

    Attributes:
        space: whose architectures are judged.
        n: how many queries the tests ask.
    """

    space: Any
    n = 4

    def make(self, seed: int) -> Estimator:
        """Returns a fresh estimator."""
        raise AttributeError(f"{type(self).__name__} must define make(seed)")

    def archs(self) -> list[Arch]:
        """Returns ``n`` architectures that can be judged."""
        rng = np.random.default_rng(0)
        return [sample(self.space, rng) for _ in range(self.n)]

    def _asked(self, seed: int = 0) -> list[Estimate]:
        return self.make(seed).estimate([Query(arch) for arch in self.archs()])

    def test_one_estimate_a_query_in_order(self) -> None:
        """As many answers as queries, each with a score or a reason, and a cost that is not negative."""
        estimates = self._asked()
        assert len(estimates) == self.n
        for estimate in estimates:
            assert estimate.failed == bool(estimate.reason), "a failed estimate, and only that, has a reason"
            assert estimate.cost.seconds >= 0
            assert estimate.cost.images >= 0
        assert any(not estimate.failed for estimate in estimates)

    def test_no_queries_no_estimates(self) -> None:
        """An empty list is answered by an empty list."""
        assert self.make(0).estimate([]) == []

    def test_the_metric_has_a_name(self) -> None:
        """The score has a name."""
        assert self.make(0).metric

    def test_the_same_seed_judges_the_same(self) -> None:
        """Scores repeat exactly; global generators are untouched."""
        with global_randomness_untouched():
            first, second = self._asked(3), self._asked(3)
        assert [e.score for e in first if not e.failed] == [e.score for e in second if not e.failed]

    def test_queries_are_not_modified(self) -> None:
        """The list that was given stays as it was."""
        queries = [Query(arch) for arch in self.archs()]
        copies = deepcopy(queries)
        self.make(0).estimate(queries)
        assert queries == copies

    def test_a_state_goes_through_a_file(self, tmp_path: Path) -> None:
        """Another estimator with the loaded state has the same state and judges the same."""
        one, two = self.make(0), self.make(0)
        one.estimate([Query(arch) for arch in self.archs()])
        two.load_state_dict(through_disk(one.state_dict(), tmp_path))
        assert_same_state(one.state_dict(), two.state_dict())
        again = [Query(arch) for arch in self.archs()]
        scores = [[e.score for e in estimator.estimate(again) if not e.failed] for estimator in (one, two)]
        assert scores[0] == scores[1]

    def test_an_architecture_of_another_space_is_no_dead_search(self) -> None:
        """It is a deliberate error, or an estimate with a reason; never anything else."""
        stranger = Query(Arch("elsewhere", (0, 0)))
        try:
            (estimate,) = self.make(0).estimate([stranger])
        except InvalidArchError:
            return
        assert estimate.failed
        assert estimate.reason


# -- What every shared estimator must do. Inherit :class:`SharedEstimatorContract`, say how yours is made, run pytest ---


class SharedEstimatorContract(EstimatorContract):
    """Inherit and override :meth:`make`, which must be fast: every test trains a few batches."""

    def make(self, seed: int) -> SharedEstimator:
        """Returns a fresh estimator; every randomness comes from ``seed``."""
        raise AttributeError(f"{type(self).__name__} must define make(seed)")

    def archs(self) -> list[Arch]:
        """Returns ``n`` distinct architectures that can be judged."""
        rng, found = np.random.default_rng(0), dict[Arch, None]()
        while len(found) < self.n:
            found[sample(self.space, rng)] = None
        return list(found)

    def _work(self, shared: SharedEstimator, archs: list[Arch]) -> list[Any]:
        """Does a bit of everything and returns what was seen."""
        shared.learn([archs[0], [archs[1], archs[2]]], 2)
        batch = next(shared.batches("train"))
        shared.update(shared.loss(archs[3], batch))
        pair = shared.compete(archs[0], archs[1], 2, lr=0.05)
        shared.inherit(archs[1], archs[0])
        scores = shared.estimate([Query(archs[2]), Query(archs[2], "batch"), Query(archs[3], "batch")])
        return [float(batch[0].double().sum()), *(e.values["val_loss"] for e in pair), *(e.score for e in scores), shared.lr]

    def test_learning_changes_the_weights_and_costs_images(self) -> None:
        """A batch a call, weights differ afterwards, the cost counts the images."""
        shared, arch = self.make(0), self.archs()[0]
        before = deepcopy(shared.state_dict())
        cost = shared.learn([arch, arch, arch], 3)
        assert cost.images > 0
        with pytest.raises(AssertionError):
            assert_same_state(before, shared.state_dict())
        with pytest.raises(SettingError):
            shared.learn([arch], 2)

    def test_scores_leave_the_weights_alone(self) -> None:
        """A full score changes nothing at all and repeats; a batch's score moves the validation cursor only."""
        shared, arch = self.make(0), self.archs()[0]
        shared.learn([arch], 1)
        before = deepcopy(shared.state_dict())
        one, two = (shared.estimate([Query(arch)])[0].score for _ in range(2))
        assert one == two
        assert_same_state(before, shared.state_dict(), "a score changed the")
        train = deepcopy(shared)
        shared.estimate([Query(arch, "batch")])
        a, b = (next(s.batches("train"))[0] for s in (shared, train))
        assert torch.equal(a, b)

    @pytest.mark.parametrize("rounds", [0, 1, 2])
    def test_resumed_equals_uninterrupted(self, rounds: int, tmp_path: Path) -> None:
        """A state that went through a file continues exactly, down to the state at the end."""
        archs, shared, resumed = self.archs(), self.make(1), self.make(1)
        for _ in range(rounds):
            self._work(shared, archs)
        saved = shared.state_dict()
        kept = deepcopy(saved)
        resumed.load_state_dict(through_disk(saved, tmp_path))
        assert self._work(shared, archs) == self._work(resumed, archs)
        assert_same_state(shared.state_dict(), resumed.state_dict())
        assert_same_state(kept, saved, "a saved state must not change with the estimator:")

    def test_a_state_between_compete_and_inherit_goes_through_a_file(self, tmp_path: Path) -> None:
        """The two learners wait in the state."""
        (first, second, *_), shared, resumed = self.archs(), self.make(1), self.make(1)
        shared.compete(first, second, 2)
        resumed.load_state_dict(through_disk(shared.state_dict(), tmp_path))
        for one in (shared, resumed):
            one.inherit(second, first)
        assert_same_state(shared.state_dict(), resumed.state_dict())

    def test_competitors_start_from_the_shared_weights(self) -> None:
        """The order of the two makes no difference, and the shared weights wait for inherit."""
        (first, second, *_), shared, other = self.archs(), self.make(2), self.make(2)
        weights = [p.detach().clone() for p in shared.supernet.parameters()]
        one, two = shared.compete(first, second, 2)
        assert all(torch.equal(a, b) for a, b in zip(weights, shared.supernet.parameters()))
        two_again, one_again = other.compete(second, first, 2)
        assert (one.score, two.score) == (one_again.score, two_again.score)
        assert one.values["val_loss"] == one_again.values["val_loss"]

    def test_only_those_who_competed_inherit(self) -> None:
        """Anything else is an error."""
        first, second, third, *_ = self.archs()
        shared = self.make(0)
        with pytest.raises(StateError):
            shared.inherit(first, second)
        shared.compete(first, second, 1)
        with pytest.raises(StateError):
            shared.inherit(first, third)

    def test_a_pass_sees_as_many_batches_as_it_says(self) -> None:
        """Batches go on after a pass, with other orders for other passes."""
        shared = self.make(0)
        per_pass = shared.n_batches("train")
        labels = [batch[1] for batch in islice(shared.batches("train"), 2 * per_pass)]
        first, second = torch.cat(labels[:per_pass]), torch.cat(labels[per_pass:])
        assert torch.equal(first.bincount(), second.bincount())
        assert not torch.equal(first, second)

    def test_global_randomness_is_untouched_by_learning(self) -> None:
        """Only the generators of its own are used."""
        with global_randomness_untouched():
            self._work(self.make(0), self.archs())

    def test_a_reset_forgets_what_was_learned(self) -> None:
        """New weights, the schedule at its beginning."""
        shared, arch = self.make(0), self.archs()[0]
        lr = shared.lr
        shared.learn([arch] * 3, 3)
        learned = [p.detach().clone() for p in shared.supernet.parameters()]
        shared.reset()
        assert shared.lr == lr
        assert not all(torch.equal(a, b) for a, b in zip(learned, shared.supernet.parameters()))
