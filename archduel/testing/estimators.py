"""What every estimator must do. Inherit :class:`EstimatorContract`, say how yours is made, run pytest."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from archduel.core import Arch, Estimate, Estimator, Query, sample
from archduel.errors import InvalidArchError
from archduel.testing.states import assert_same_state, global_randomness_untouched, through_disk

__all__ = ["EstimatorContract"]


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
