"""ReNAS: label a thousandth of the space, learn to rank, evaluate what ranks highest.

Xu, Wang, Han, Tang, Jui, Xu, Xu: "ReNAS: Relativistic Evaluation of Neural Architecture Search", CVPR 2021.

    paper                        here
    0.1 % of the search space    labels
    predictor                    ranker
    top-k                        top

Deviations from the paper and the released code:
1. A space that can be listed is ranked whole, as in the released code; a larger one is searched by evolution on the
   predictor's scores (paper: "any discrete search", an evolutionary algorithm in its experiments).
2. The labels are those the estimator gives, validation accuracies (released code: test accuracies).
3. The ``top`` architectures are evaluated truly and the best label of all wins, labelled ones included (released code: the best
   test accuracy among the top 10).
4. Architectures are distinct by fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from archduel.core import Allowance, Arch, Constraint, Prices, Ranker, Space, State, StepReport, parse
from archduel.errors import check_at_least
from archduel.strategies.candidates import evolved, whole_space
from archduel.strategies.rounds import LabelsFirst

__all__ = ["ReNAS"]


class ReNAS(LabelsFirst):
    """Learns once from random labels and evaluates the architectures that rank highest.

    Args:
        ranker: the predictor.
        constraint: which architectures are allowed.
        labels: random architectures that are labelled.
        top: architectures evaluated in the end; 0 = as many as the budget allows, best ranked first.
        whole: spaces of at most this many encodings are ranked whole.
        population: mutants a generation in larger spaces.
        generations: of that evolution.
    """

    partners: ClassVar[Mapping[str, str | Mapping[str, Any]]] = {"ranker": "renas"}

    def __init__(
        self,
        space: Space,
        ranker: Ranker,
        *,
        rng: np.random.Generator,
        constraint: Constraint | None = None,
        labels: int = 423,
        top: int = 10,
        whole: int = 50_000,
        population: int = 1_000,
        generations: int = 20,
    ) -> None:
        check_at_least(0, top=top, whole=whole)
        check_at_least(1, population=population, generations=generations)
        super().__init__(space, ranker, rng, constraint, labels)
        self.top, self.whole, self.population, self.generations = top, whole, population, generations
        self.ranking: list[Arch] = []

    @classmethod
    def spend(cls, allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
        """Returns settings: all labels but those of the proposals, of which there is then no number of its own."""
        settings = {"labels": allowance.evaluations - allowance.proposals}
        return {**settings, "top": 0} if allowance.proposals else settings

    def step(self) -> StepReport | None:
        """Fits the predictor, ranks, and queues the top; once."""
        if self.ranking or not self.rounds.ready():
            return None
        archs, scores = self.rounds.ledger.labelled()
        metrics = self.ranker.fit(archs, scores)
        listed = whole_space(self.space, self.constraint, self.whole)[1] if self.whole else ()
        candidates = listed or evolved(
            self.space,
            self.rounds.ledger.ranked()[:20],
            self.ranker.predict,
            self.rng,
            self.constraint,
            size=self.population,
            rounds=self.generations,
        )
        order = np.argsort(-self.ranker.predict(candidates), kind="stable")
        self.ranking = [candidates[i] for i in order[: max(1_000, self.top)]]
        self.rounds.propose(self.ranking, self.top or None)
        return StepReport({f"fit_{name}": float(value) for name, value in metrics.items()})

    def state_dict(self) -> State:
        """Returns all that changes."""
        return {**super().state_dict(), "ranking": [str(arch) for arch in self.ranking]}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        super().load_state_dict(state)
        self.ranking = [parse(text) for text in state["ranking"]]
