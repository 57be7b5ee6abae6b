"""Cheap first looks: what evaluations at a low fidelity say about the one that counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archduel.core import Arch, Estimate, Query, Ranker, State
from archduel.strategies.ledger import Ledger

__all__ = ["FirstLooks"]

PAIRS = 4
"""Architectures known at both fidelities from which on a line through them translates cheap scores."""


class FirstLooks:
    """Remembers cheap scores, translates them, and says which architectures deserve the full evaluation."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def record(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers cheap scores."""
        self.ledger.record(queries, estimates)

    def labelled(self, full: Ledger) -> tuple[list[Arch], list[float]]:
        """Returns what a ranker can learn from: true scores, and for the others what their cheap scores mean, if known."""
        archs, scores = full.labelled()
        line, waiting = self._line(full), self.waiting(full)
        if line is None:
            return archs, scores
        slope, intercept = line
        return [*archs, *waiting], [*scores, *(intercept + slope * self.ledger.score(arch) for arch in waiting)]

    def waiting(self, full: Ledger) -> list[Arch]:
        """Returns the architectures with a cheap score only, failed ones left out."""
        return [arch for arch in self.ledger.labelled()[0] if arch not in full]

    def promoted(self, full: Ledger, ranker: Ranker, n: int) -> list[Arch]:
        """Returns the ``n`` best of those waiting: by the ranker, or by cheap score as long as that cannot be translated."""
        waiting = self.waiting(full)
        if not waiting:
            return []
        known = self._line(full) is not None
        worth = ranker.predict(waiting) if known else np.array([self.ledger.score(arch) for arch in waiting])
        return [waiting[i] for i in np.argsort(-worth, kind="stable")[:n]]

    def _line(self, full: Ledger) -> tuple[float, float] | None:
        """Returns slope and intercept of true over cheap scores (medians, which outliers do not bend), or None.

        Source: Theil 1950 and Sen 1968: the slope is the median of the slopes of all pairs.
        """
        archs, scores = full.labelled()
        both = [(self.ledger.score(arch), score) for arch, score in zip(archs, scores) if arch in self.ledger]
        known = np.array([pair for pair in both if np.isfinite(pair[0])]).reshape(-1, 2)
        cheap, true = known.T
        first, second = np.triu_indices(len(known), 1)
        run = cheap[second] - cheap[first]
        if len(known) < PAIRS or not run.any():
            return None
        rise = true[second] - true[first]
        slope = max(0.0, float(np.median(rise[run != 0] / run[run != 0])))
        return slope, float(np.median(true - slope * cheap))

    def state_dict(self) -> State:
        """Returns all cheap scores."""
        return self.ledger.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Takes what another was told."""
        self.ledger.load_state_dict(state)
