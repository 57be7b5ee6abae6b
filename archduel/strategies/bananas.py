"""Predictor-guided search in the manner of BANANAS.

White, Neiswanger, Savani: "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture Search",
AAAI 2021, Algorithm 1.

Deviations from the paper:
1. Any ranker that knows its uncertainty is the predictor (paper: five feed-forward networks on the path encoding).
2. Candidates are mutants of the best labelled architectures (as in the paper's experiments) and a tenth random ones, so that
   a search cannot starve.
3. Architectures are distinct by fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from archduel.core import Arch, Constraint, Ranker, Space, StepReport, sample
from archduel.errors import check_at_least
from archduel.strategies.candidates import beliefs, mutants
from archduel.strategies.rounds import Guided

__all__ = ["Bananas"]


class Bananas(Guided):
    """Evaluates, round by round, the mutants that independent Thompson sampling likes best.

    Args:
        ranker: the predictor.
        constraint: which architectures are allowed.
        initial: random architectures first.
        batch: architectures a round.
        candidates: mutants a round.
        parents: labelled architectures that are mutated.
    """

    partners: ClassVar[Mapping[str, str | Mapping[str, Any]]] = {"ranker": "gp"}

    def __init__(
        self,
        space: Space,
        ranker: Ranker,
        *,
        rng: np.random.Generator,
        constraint: Constraint | None = None,
        initial: int = 10,
        batch: int = 10,
        candidates: int = 100,
        parents: int = 10,
    ) -> None:
        check_at_least(1, batch=batch, candidates=candidates, parents=parents)
        super().__init__(space, ranker, rng, constraint, initial)
        self.batch, self.candidates, self.parents = batch, candidates, parents

    def step(self) -> StepReport | None:
        """Fits the predictor and chooses the next batch (lines 3 to 7)."""
        if not self.rounds.ready():
            return None
        archs, scores = self.rounds.ledger.labelled()
        self.ranker.fit(archs, scores)
        candidates = self._mutants()
        mean, deviation = beliefs(self.ranker, candidates)
        sampled = mean + deviation * self.rng.standard_normal(len(candidates))
        queued = self.rounds.propose((candidates[i] for i in np.argsort(-sampled, kind="stable")), self.batch)
        return StepReport({"labels": len(archs), "candidates": len(candidates), "queued": queued})

    def _mutants(self) -> list[Arch]:
        """Returns unlabelled candidates: mutants of the best, and random ones."""
        best = self.rounds.ledger.ranked()[: self.parents]
        found = {sample(self.space, self.rng, self.constraint): None for _ in range(max(1, self.candidates // 10))}
        parents = (best[i % len(best)] for i in range(self.candidates))
        return list(found | dict.fromkeys(mutants(self.space, parents, self.rng, self.constraint)))
