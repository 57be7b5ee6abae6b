"""Evolution guided by a predictor, in the manner of NPENAS-NP.

Wei, Niu, Tang, Wang, Hu, Liang: "NPENAS: Neural Predictor Guided Evolution for Neural Architecture Search", TNNLS 2022,
Algorithm 1.

Deviations from the paper:
1. Any ranker is the predictor (paper: a graph network).
2. Architectures are distinct by fingerprint; where a population has no new mutants left, a random one takes the place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from archduel.core import Arch, Constraint, Ranker, Space, StepReport, sample
from archduel.errors import check_at_least
from archduel.strategies.candidates import mutants
from archduel.strategies.rounds import Guided

__all__ = ["NPENAS"]


class NPENAS(Guided):
    """Evaluates, generation by generation, the children that the predictor ranks highest.

    Args:
        ranker: the predictor.
        constraint: which architectures are allowed.
        initial: random architectures first.
        batch: children evaluated a generation.
        candidates: children bred a generation.
        tournament: architectures that compete to become a parent.
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
        tournament: int = 10,
    ) -> None:
        check_at_least(1, batch=batch, candidates=candidates, tournament=tournament)
        super().__init__(space, ranker, rng, constraint, initial)
        self.batch, self.candidates, self.tournament = batch, candidates, tournament

    def step(self) -> StepReport | None:
        """Fits the predictor, breeds children and keeps those it ranks highest (lines 4 to 10)."""
        if not self.rounds.ready():
            return None
        archs, scores = self.rounds.ledger.labelled()
        self.ranker.fit(archs, scores)
        children = self._children(archs, scores)
        order = np.argsort(-self.ranker.predict(children), kind="stable")
        queued = self.rounds.propose((children[i] for i in order), self.batch)
        return StepReport({"labels": len(archs), "children": len(children), "queued": queued})

    def _children(self, archs: Sequence[Arch], scores: Sequence[float]) -> list[Arch]:
        """Returns mutants of tournament winners (and a random architecture, so that there is always one)."""
        found = {sample(self.space, self.rng, self.constraint): None}
        tournaments = (self.rng.integers(len(archs), size=self.tournament).tolist() for _ in range(self.candidates))
        winners = (archs[max(rivals, key=scores.__getitem__)] for rivals in tournaments)
        return list(found | dict.fromkeys(mutants(self.space, winners, self.rng, self.constraint)))
