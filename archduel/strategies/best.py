"""Contenders, archduel's own search: ask the architectures that are expected to beat the best so far by most.

After every few labels the ranker is fitted again and judges every architecture that is left (in a space too large to list:
every one of a population bred for the same purpose). The next questions are those of largest expected improvement, whose
logarithm stays informative where hardly any is expected. A ranker that is sure and unsure in the right places does the rest.

Where evaluations can be had at a cheaper fidelity, more proposals get a first look there, and the best of them the usual one.

A ranker that expects something before any label names half of the first design; the other half stays random, to show whether it is right.

Architectures with one fingerprint compute the same: one of them is asked, and nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from archduel.core import (
    Arch,
    Believer,
    Constraint,
    Estimate,
    Query,
    Ranker,
    Space,
    State,
    StepReport,
    sample,
)
from archduel.errors import check_at_least
from archduel.strategies.candidates import Informed, beliefs, evolved, log_improvement, whole_space
from archduel.strategies.rounds import Guided, Ledger

__all__ = ["Contenders", "FirstLooks"]

# -- Cheap first looks: what evaluations at a low fidelity say about the one that counts --------------------------------


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


SHORTLIST = 500
"""Architectures, besides the batch itself, among which it is chosen."""


class Contenders(Guided):
    """Asks the architectures of largest expected improvement, a few at a time.

    Args:
        ranker: what is fitted; one that knows its uncertainty explores, another one is followed blindly.
        constraint: which architectures are allowed.
        initial: random architectures first; half of them the most promising ones, for a ranker that expects something before any label.
        batch: architectures a round.
        whole: spaces of at most this many encodings are judged whole, larger ones are bred from.
        bred: mutants a generation.
        generations: of mutants a round.
        stop: the search ends when nothing is expected to improve the ranker's scores by more than this; 0 = never.
        cheap: a fidelity that the estimator offers beside the usual one; empty = none. Proposals are then evaluated there
            first, and the best of them at the usual fidelity.
        looks: cheap evaluations for each usual one.
    """

    partners: ClassVar[Mapping[str, str | Mapping[str, Any]]] = {"ranker": {"name": "gp", "share": 0.5}}
    several: ClassVar[str] = "best_front"

    def __init__(
        self,
        space: Space,
        ranker: Ranker,
        *,
        rng: np.random.Generator,
        constraint: Constraint | None = None,
        initial: int = 6,
        batch: int = 2,
        whole: int = 50_000,
        bred: int = 500,
        generations: int = 4,
        stop: float = 0.0,
        cheap: str = "",
        looks: int = 3,
    ) -> None:
        check_at_least(1, batch=batch, bred=bred, generations=generations, looks=looks)
        check_at_least(0, whole=whole, stop=stop)
        super().__init__(space, ranker, rng, constraint, initial)
        self.batch, self.whole, self.bred, self.generations, self.stop = batch, whole, bred, generations, stop
        self.cheap, self.looks = str(cheap), looks  # a fidelity may be called 12
        self.first = FirstLooks()
        self.looking = False  # whether what is asked now is asked at the cheap fidelity
        self._listed: tuple[tuple[str, ...], tuple[Arch, ...]] | None = None  # the space, once it was needed

    def ask(self, n: int) -> list[Query]:
        """Returns at most ``n`` new architectures; empty while there is something to learn first."""
        if not self.rounds.drawn and isinstance(self.ranker, Informed):
            self._begin(self.ranker)
        queries = super().ask(n)
        return [Query(query.arch, self.cheap) for query in queries] if self.looking else queries

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers the scores."""
        if self.looking:
            self.first.record(queries, estimates)
            self.rounds.told += len(queries)
        else:
            super().tell(queries, estimates)

    def step(self) -> StepReport | None:
        """Fits the ranker and chooses the next batch; None while labels are missing and when finished."""
        if not self.rounds.ready():
            return None
        labels = self._learn()
        if self.looking:
            self.looking = False
            promoted = self.first.promoted(self.rounds.ledger, self.ranker, self.batch)
            if promoted:
                self.rounds.queue.extend(promoted)
                return StepReport({"labels": labels, "promoted": len(promoted)})
        goal = self._goal()
        candidates, new = self._candidates(goal)
        worth = np.where(new, self._worth(candidates, goal), -np.inf) if any(new) else np.empty(0)
        gain = float(np.exp(worth.max())) if len(worth) else 0.0
        if self.stop and gain < self.stop:
            self.rounds.finished = True
        else:
            size = self.batch * (self.looks if self.cheap else 1)
            order = np.argsort(-worth, kind="stable")[: min(np.count_nonzero(new), size + SHORTLIST)].tolist()
            self.rounds.propose(self._batch([candidates[i] for i in order], goal, size), size)
            self.looking = bool(self.cheap)
        return StepReport({"labels": labels, "candidates": int(np.count_nonzero(new)), "expected_gain": gain})

    def _begin(self, ranker: Informed) -> None:
        """Queues half of the first design: those of which ``ranker`` expects most, unless it expects the same of all."""
        archs: Sequence[Arch] = self._all()[1]
        if not archs:
            rng = deepcopy(self.rng)  # where nothing is expected the search is that without a prior, to the last draw
            drawn = [sample(self.space, rng, self.constraint)]
            archs = evolved(self.space, drawn, ranker.prior, rng, self.constraint, size=self.bred, rounds=self.generations)
        expected = ranker.prior(archs)
        if np.ptp(expected) > 0:
            ahead = np.argsort(-expected, kind="stable")[:SHORTLIST].tolist()
            self.rounds.drawn += self.rounds.propose([archs[i] for i in ahead], self.rounds.initial // 2)

    def _learn(self) -> int:
        """Fits the ranker and returns to how many labels."""
        archs, scores = self.first.labelled(self.rounds.ledger)
        self.ranker.fit(archs, scores)
        return len(archs)

    def _goal(self) -> Any:
        """Returns what candidates are to improve on: the score of the best one, as the ranker sees it."""
        return float(self.ranker.predict(self.rounds.ledger.labelled()[0]).max())

    def _parents(self) -> list[Arch]:
        """Returns what candidates are bred from in a space too large to list."""
        return self.rounds.ledger.ranked()[:20]

    def _worth(self, archs: Sequence[Arch], goal: Any, assumed: Sequence[Arch] = ()) -> NDArray[np.float64]:
        """Returns (N,) logarithms of the expected improvement, as if ``assumed`` had been evaluated with the expected results."""
        return log_improvement(*beliefs(self.ranker, archs, assumed), goal)

    def _batch(self, archs: list[Arch], goal: Any, size: int) -> list[Arch]:
        """Returns ``archs``, best first, with ``size`` in front that do not ask the same question.

        Each one is chosen as if those before it had been evaluated with the expected result.
        Source: Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize optimization", 2010.
        """
        if not isinstance(self.ranker, Believer):
            return archs
        chosen, rest = archs[:1], archs[1:]
        while rest and len(chosen) < size:
            chosen.append(rest.pop(int(np.argmax(self._worth(rest, goal, chosen)))))
        return chosen + rest

    def _all(self) -> tuple[tuple[str, ...], tuple[Arch, ...]]:
        """Returns each fingerprint and its first architecture, nothing for a space too large to list."""
        if self._listed is None:
            self._listed = whole_space(self.space, self.constraint, self.whole) if self.whole else ((), ())
        return self._listed

    def _candidates(self, goal: Any) -> tuple[Sequence[Arch], NDArray[np.bool_]]:
        """Returns N architectures (all there are, always the same tuple, or the outcome of breeding) and which are new (N,)."""
        seen = self.rounds.pool.seen
        fingerprints, archs = self._all()
        if archs:
            return archs, np.array([fingerprint not in seen for fingerprint in fingerprints])
        bred = evolved(
            self.space,
            self._parents(),
            lambda archs: self._worth(archs, goal),
            self.rng,
            self.constraint,
            size=self.bred,
            rounds=self.generations,
        )
        return bred, np.array([self.space.fingerprint(arch) not in seen for arch in bred], bool)

    def state_dict(self) -> State:
        """Returns all that changes."""
        return {**super().state_dict(), "looks": self.first.state_dict(), "looking": self.looking}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        super().load_state_dict(state)
        self.first.load_state_dict(state["looks"])
        self.looking = state["looking"]
