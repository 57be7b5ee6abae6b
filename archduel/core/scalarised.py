"""One number for several objectives: how any strategy that knows only scores searches for a front."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from archduel.core.arch import Arch
from archduel.core.fronts import front
from archduel.core.objectives import Objectives, Outcomes
from archduel.core.roles import Estimate, Query, State, StepReport, Strategy

__all__ = ["Scalarised"]


class Scalarised:
    """A strategy that is told how far each architecture lies beyond the front known before it.

    The score is min over members f of max over objectives m of (f_m - y_m) / range_m: above 0 where y extends the front, below 0 by what
    it lacks to be a member; 0 for the first. Ranges are those of all that was told so far. No weights have to be chosen, and a front that
    is not convex is found too. Because the front moves, an earlier score is not comparable to a later one to the last digit.

    Args:
        strategy: is asked for architectures.
        objectives: what is to be small.

    Source: the additive epsilon indicator, Zitzler et al., "Performance Assessment of Multiobjective Optimizers", IEEE Trans. Evol.
    Comp. 2003.
    """

    def __init__(self, strategy: Strategy, objectives: Objectives) -> None:
        self.strategy = strategy
        self.outcomes = Outcomes(objectives)

    def ask(self, n: int) -> list[Query]:
        """Returns what the strategy asks for."""
        return self.strategy.ask(n)

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Tells the strategy one number for each answer."""
        told = []
        for query, estimate in zip(queries, estimates, strict=True):
            score = self._score(query, estimate)
            told.append(Estimate(score, estimate.cost, estimate.values, estimate.reason if math.isfinite(score) else estimate.reason or "no loss"))
        self.strategy.tell(queries, told)

    def _score(self, query: Query, estimate: Estimate) -> float:
        """Returns how far an answer lies beyond the front, and takes it in; nan for one that failed."""
        archs, before = self.outcomes.labelled()
        others = before[[i for i, arch in enumerate(archs) if arch != query.arch]]
        ((_, losses),) = self.outcomes.record([query], [estimate])
        if not math.isfinite(losses[0]):
            return math.nan
        if not len(others):
            return 0.0
        span = np.ptp(np.concatenate([others, [losses]]), axis=0)
        return float(((others[front(others)] - losses) / np.where(span > 0, span, 1.0)).max(1).min())

    def step(self) -> StepReport | None:
        """Lets the strategy learn."""
        return self.strategy.step()

    def best(self) -> Arch:
        """Returns the knee of the front; raises StateError before any tell."""
        return self.outcomes.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns ``n`` members of the front, spread over it, its knee first; fewer if it has fewer."""
        return self.outcomes.members(n)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return {"strategy": self.strategy.state_dict(), "outcomes": self.outcomes.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        self.strategy.load_state_dict(state["strategy"])
        self.outcomes.load_state_dict(state["outcomes"])
